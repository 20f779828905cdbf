"""The documents say what is: programs, settings, variables, links, and the commands of the tour."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import jobjar
from jobjar.attempts.attempt import OUTCOMES
from jobjar.attempts.on_end_variables import ALL, facts_of_job, facts_of_several
from jobjar.create import PROGRAMS
from jobjar.host import node_name
from jobjar.job_file.attributes import ATTRIBUTES
from jobjar.ledger.apply import KINDS
from jobjar.programs.jobjar import VERBS
from jobjar.settings.layers import read_config_file
from jobjar.settings.table import BY_NAME
from jobjar.version import VERSION
from tests.described_jobs import describe
from tests.rig import BIN, Rig

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "man"
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "DESIGN.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/guide.md",
        "docs/described-jobs.md",
        "docs/migration.md",
        "docs/python.md",
        "docs/security.md",
        "docs/faults.md",
        "docs/pilots.md",
        "docs/web.md",
        "docs/tutorial.md",
    )
]
VERBS_WITHOUT_PROGRAM = sorted(set(VERBS) - set(PROGRAMS))
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_VARIABLE = re.compile(r"\bJJ_[A-Z]+(?:_[A-Z]+)*")


def read_page(name: str) -> str:
    """A manual page as a reader sees its words: without troff's escapes."""
    text = (PAGES / name).read_text(encoding="utf-8")
    return re.sub(r"\\f[BIR]", "", text).replace("\\-", "-")


def fenced_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings get where it is shown."""
    headings = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for target in _LINK.findall(document.read_text(encoding="utf-8")):
            if "://" not in target:
                yield document, target


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_a_manual_page_and_help(program: str) -> None:
    page = read_page(f"{program}.1")
    assert f".TH {program.upper()} 1 " in page and f"\n{program} - " in page
    wanted = {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"}
    wanted.add("VERBS" if program == "jobjar" else "OPTIONS")
    assert wanted <= set(re.findall(r"(?m)^\.SH (.*)$", page))
    result = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.startswith("usage: ")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_in_the_page_of_jobjar_and_has_help(verb: str) -> None:
    page = read_page("jobjar.1")
    if verb in VERBS_WITHOUT_PROGRAM:
        assert f"\n.SS {verb}\n" in page
        assert f'\n.\\" begin options jobjar {verb}\n' in page
    else:
        assert re.search(rf"\b{verb}\b", page.partition(".SH VERBS")[0])
        assert (PAGES / f"{verb}.1").exists()
    result = subprocess.run([BIN / "jobjar", verb, "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and f"jobjar {verb}" in result.stdout


def test_no_manual_page_is_of_a_program_that_does_not_exist() -> None:
    assert {page.name for page in PAGES.iterdir()} == {f"{program}.1" for program in PROGRAMS} | {"jobjar-config.5"}


def test_the_manual_pages_are_what_their_generator_makes() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_manuals.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, f"run docs/make_manuals.py; not up to date: {result.stdout}{result.stderr}"


@pytest.mark.parametrize("page", sorted(PAGES.iterdir()), ids=lambda page: page.name)
def test_a_manual_page_is_good_troff(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf'\.TH [A-Z_-]+ [15] \d{{4}}-\d\d-\d\d "Job Jar {re.escape(VERSION)}" "Job Jar"', lines[0])
    assert lines[1] == ".SH NAME"
    assert lines.count(".nf") == lines.count(".fi") and lines.count(".RS") == lines.count(".RE")
    assert not [line for line in lines if not line.strip()]
    if shutil.which("groff"):
        result = subprocess.run(
            ["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True, timeout=60
        )
        assert result.stderr == ""


def test_every_setting_is_in_its_manual_page_and_in_the_guide() -> None:
    page = read_page("jobjar-config.5")
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name, setting in BY_NAME.items():
        assert f"\n{name} (" in page
        assert f"`{name}`" in guide
        if setting.default:
            assert f"\n{name} (default: {setting.default}; set in: " in page


def test_the_guide_s_variables_are_those_of_a_job_and_every_variable_in_a_document_exists(
    rig: Rig, tmp_path: Path
) -> None:
    entries = tmp_path / "entries"
    entries.write_text("one\n")
    array = rig.run("jobjar", "submit", "--each-line", str(entries), "env").stdout.strip()
    names = [rig.submit("env"), describe(rig, "described", run_command="env", seed=1), f"{array}[1]"]
    rig.run_until_idle()
    found: list[set[str]] = []
    for name in names:
        environment = {line.partition("=")[0] for line in rig.run("jobjar", "output", name).stdout.splitlines()}
        own = {variable for variable in environment if variable.startswith("JJ_")}
        found.append(own - (set(rig.environment) - {"JJ_HOME"}))
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    own_of = {"What a job finds": found[0], "What a described job finds too": found[1] - found[0]}
    for heading, variables in {**own_of, "Arrays": found[2] - found[0]}.items():
        table = guide.partition(f"### {heading}\n")[2].partition("### ")[0]
        assert set(_VARIABLE.findall(table)) == variables
    # What a storage package's command finds besides (tests/test_examples.py runs one).
    own = found[0] | found[1] | found[2] | {"JJ_STORAGE_CLASS", "JJ_OUTPUT_PATH"}
    own |= facts_of_job({"JJ_JOB": ""}, "").keys() | facts_of_several(ALL, "", 1, 0).keys()
    own |= {"JJ_RUN_TIME", "JJ_EXIT_STATUS", "JJ_SIGNAL"}
    for document in [*DOCUMENTS, *PAGES.iterdir()]:
        named = set(_VARIABLE.findall(document.read_text(encoding="utf-8")))
        assert named <= own | set(BY_NAME), document.name


@pytest.mark.parametrize(("document", "target"), [*links()], ids=lambda value: Path(value).name)
def test_a_link_in_a_document_leads_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = (document.parent / path).resolve() if path else document
    assert found.exists()
    assert not anchor or anchor in anchors(found)


def test_the_example_configurations_can_be_read(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    in_guide = re.findall(r"(?m)(?:^    [#\[J].*\n)+", guide.partition("## Configuration")[2])[0]
    in_page = read_page("jobjar-config.5").partition(".SH EXAMPLES\n.nf\n")[2].partition(".fi")[0]
    for text in (in_guide, in_page):
        file = tmp_path / "config.ini"
        file.write_text(text)
        assert "JJ_CATEGORIES" in read_config_file(str(file))


def test_the_guide_names_every_function_of_the_library() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name in jobjar.__all__:
        stem = re.sub(r"^(unpause_|pause_|get_)", "", name)
        known = (
            f"`{name}" in guide or f"`stop_{stem}(" in guide or f"`set_{stem}`" in guide or f"jobjar.{name}" in guide
        )
        assert known or name in ("Job", "__version__"), name


def test_the_guide_calls_the_library_s_functions_as_they_are() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    section = guide.partition("### From Python")[2].partition("### ")[0]
    calls = [call for call in re.findall(r"`([a-z_]+)\(([^`…]*)\)`", section) if call[0] in jobjar.__all__]
    assert len(calls) > 10
    for name, words in calls:
        parameters = inspect.signature(getattr(jobjar, name)).parameters
        for word in words.split(", ") if words else ():
            assert word.strip("*").partition("=")[0] in parameters, (name, word)


def test_the_guide_names_every_attribute_and_outcome() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name in ATTRIBUTES:
        assert f"| `{name}` | `--{name.replace('_', '-')} " in guide
    for outcome in OUTCOMES:
        assert f"\n| {outcome} |" in guide


def test_the_design_names_every_entry_table_and_view() -> None:
    design = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    entries = re.findall(r"(?m)^\| (`.*?`(?:, `.*?`)*) \|", design.partition("### Entries")[2].partition("### ")[0])
    assert set(re.findall(r"`(\w+)`", " ".join(entries))) == set(KINDS)
    schema = "\n".join(file.read_text() for file in sorted((ROOT / "schema").iterdir()))
    for name in re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", schema):
        assert f"`{name}`" in design


def test_the_changelog_s_newest_release_is_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$", changelog)[0] == VERSION


def test_a_jar_has_the_documents(rig: Rig) -> None:
    copied = {str(path.relative_to(rig.home / "documents")) for path in (rig.home / "documents").rglob("*")}
    assert copied == {
        *(path.name for path in (ROOT / "docs").iterdir() if path.suffix != ".py" and path.name != "__pycache__"),
        *(f"man/{page.name}" for page in PAGES.iterdir()),
    }


def without_particulars(text: str) -> str:
    """What a program printed, without what differs from one run to the next: names, ids, nodes, process ids."""
    text = re.sub(r"\d{8}T\d{6}Z-\S+", "NAME", text)
    text = re.sub(r"(?m)^(id +)\w{12}$", r"\1ID", text)
    text = re.sub(r"(?m)^\w{12} (\(\w+\) has waited for) [^:]+:", r"ID \1 TIME:", text)
    return re.sub(rf"\b(rain|{re.escape(node_name())})(\.\d+)?\b", "WORKER", text)


def test_the_first_session_of_the_readme_prints_what_it_shows(tmp_path: Path) -> None:
    shown = fenced_blocks((ROOT / "README.md").read_text(encoding="utf-8"), "console")[0].replace(
        "/tmp/jar", f"{tmp_path}/jar"
    )
    commands = [line[2:] for line in shown.splitlines() if line.startswith("$ ")]
    assert len(commands) == 6
    rig = Rig(tmp_path / "jar", make=False)
    environment = {name: value for name, value in rig.environment.items() if name != "JJ_HOME"}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    script = "".join(f"echo '$ {number}'; {command}\n" for number, command in enumerate(commands))
    try:
        result = subprocess.run(
            ["/bin/sh"],
            input=script,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
        )
    finally:
        rig.end_everything()
    wanted = [line if not line.startswith("$ ") else f"$ {commands.index(line[2:])}" for line in shown.splitlines()]
    assert without_particulars(result.stdout).splitlines() == without_particulars("\n".join(wanted)).splitlines()


def test_the_picture_of_a_jar_is_drawn_for_light_and_dark() -> None:
    file = ROOT / "docs" / "jar.svg"
    top = ElementTree.parse(file).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert top.tag == f"{space}svg" and top.findtext(f"{space}title") and top.findtext(f"{space}desc")
    light, _, dark = (top.findtext(f"{space}style") or "").partition("@media (prefers-color-scheme: dark)")
    colours = {name for name, rule in re.findall(r"([\w.-]+)(?:, [\w.-]+)* \{(.*?)\}", light) if "#" in rule}
    assert colours and all(f" {name} {{" in dark for name in colours)
    used = {f".{name}" for part in top.iter() for name in part.get("class", "").split()}
    assert all(f" {name} {{" in light or f" {name}," in light for name in used)


def test_the_readme_has_the_sum_of_the_table_of_faults() -> None:
    rows = re.findall(
        r"(?m)^\| \*\*.*?\*\* \| \*\*([\d,]+)\*\* \| 0 \| 0 \| 0 \|$", (ROOT / "docs/faults.md").read_text("utf-8")
    )
    total = sum(int(row.replace(",", "")) for row in rows)
    assert rows and f" {total:,} in all, cost no job" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_test_that_the_page_on_security_names_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    assert text.count("`tests/") == len(named)
    for path, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"
    promises = [line for line in text.splitlines() if line.startswith("| ") and "promised | shown by" not in line]
    assert all("::test_" in line for line in promises), promises
