"""What packages tell a shell: setup.sh sourced with the location, commands with `$1`, whatever the location's name."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobjar.errors import CannotInstall
from jobjar.packages.package import Package, find_command, parse_commands, put_location, read_package, shell_prefix

ODD_NAMES = [
    "plain",
    "two words",
    "quote'd",
    'dou"ble',
    "dol$1lar$HOME",
    "back\\slash",
    "`touch x`;&|<>*?#~",
    "-n",
    "é\nline",
]


def make_package(directory: Path, setup: str | None = None, commands: str | None = None) -> Package:
    (directory / "package").mkdir(parents=True, exist_ok=True)
    if setup is not None:
        (directory / "package/setup.sh").write_text(setup)
    if commands is not None:
        (directory / "package/commands").write_text(commands)
    return read_package(str(directory))


def run(text: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", text],
        cwd=directory,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", ODD_NAMES)
def test_setup_is_sourced_with_the_location_in_the_directory_of_the_job(tmp_path: Path, name: str) -> None:
    """The document's example: PATH and LD_LIBRARY_PATH."""
    setup = (
        "PATH=$1/bin:$PATH\nexport PATH\nLD_LIBRARY_PATH=$1/lib:$LD_LIBRARY_PATH\nexport LD_LIBRARY_PATH\n"
        'pwd > from_setup\necho "$#" >> from_setup\n'
    )
    package = make_package(tmp_path / name, setup)
    (tmp_path / name / "bin").mkdir()
    (tmp_path / name / "bin/my_program").write_text('#!/bin/sh\nprintf %s "$LD_LIBRARY_PATH"\n')
    (tmp_path / name / "bin/my_program").chmod(0o755)
    (tmp_path / "job").mkdir()
    ran = run(shell_prefix([package]) + "my_program", tmp_path / "job", LD_LIBRARY_PATH="/before")
    assert (ran.stdout, ran.stderr, ran.returncode) == (f"{tmp_path}/{name}/lib:/before", "", 0)
    assert (tmp_path / "job/from_setup").read_text() == f"{tmp_path}/job\n1\n"
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["from_setup"]


def test_several_packages_are_set_up_in_order_each_with_its_own_location(tmp_path: Path) -> None:
    packages = [make_package(tmp_path / name, 'SEEN="$SEEN $1"\n') for name in ("a", "b", "c")]
    packages.insert(1, make_package(tmp_path / "none"))
    ran = run(shell_prefix(packages) + 'echo "$SEEN $#"', tmp_path)
    assert ran.stdout == f" {tmp_path}/a {tmp_path}/b {tmp_path}/c 0\n"
    assert shell_prefix([]) == ""


def test_a_setup_that_changes_directory_leaves_that_of_the_job_alone(tmp_path: Path) -> None:
    package = make_package(tmp_path / "p", "cd /\nFOUND=yes\n")
    assert run(shell_prefix([package]) + 'pwd; echo "$FOUND"', tmp_path).stdout == f"{tmp_path}\nyes\n"


def test_the_status_of_the_last_line_of_a_setup_counts_for_nothing(tmp_path: Path) -> None:
    package = make_package(tmp_path / "p", '[ -n "$NOT_SET" ] && echo set\n')
    assert run(shell_prefix([package]) + "echo ran", tmp_path).stdout == "ran\n"


@pytest.mark.parametrize(("setup", "status"), [("exit 0\n", 1), ("exit 7\n", 7), ("if\n", 2), (". ./missing\n", 2)])
def test_a_setup_that_ends_the_shell_is_a_failure_and_never_a_success(tmp_path: Path, setup: str, status: int) -> None:
    package = make_package(tmp_path / "it's", setup)
    ran = run(shell_prefix([package]) + "echo ran", tmp_path)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert f"{tmp_path}/it's/package/setup.sh ended the shell" in ran.stderr


def test_a_command_that_exits_0_after_a_setup_is_a_success(tmp_path: Path) -> None:
    package = make_package(tmp_path / "p", "FOUND=yes\n")
    ran = run(shell_prefix([package]) + "exit 0", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_commands_are_keys_and_values_with_comments(tmp_path: Path) -> None:
    text = (
        "# what is run\nrun_command = my_run_command --level=3 # no comment here\n\n"
        "  stage_out_command=my_stage_out_command\nmy_own_command = x\n"
    )
    assert make_package(tmp_path, None, text).commands == {
        "run_command": "my_run_command --level=3 # no comment here",
        "stage_out_command": "my_stage_out_command",
        "my_own_command": "x",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("run_command", "not of the form"),
        ("= x", "not of the form"),
        ("run command = x", "not of the form"),
        ("run_command =", "no value"),
        ("a = again", "said already"),
        ("a\0b = x", "not of the form"),
        ("b = x\0y", "NUL"),
    ],
)
def test_a_malformed_line_is_an_error_with_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(CannotInstall, match=reason) as caught:
        make_package(tmp_path, None, f"# first\na = b\n{line}\n")
    assert f"{tmp_path}/package/commands, line 3" in str(caught.value)


def test_a_commands_file_that_is_no_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/commands").write_bytes(b"a = \xff\n")
    with pytest.raises(CannotInstall, match="utf-8"):
        read_package(str(tmp_path))


def test_a_package_without_a_package_directory_has_neither_setup_nor_commands(tmp_path: Path) -> None:
    assert read_package(str(tmp_path)) == Package(str(tmp_path), None, {})


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("printf '%s|' $1/bin a", "{}/bin|a|"),
        ("printf '%s|' \"$1/bin x\" b", "{}/bin x|b|"),
        ("printf '%s|' '$1/bin x' c", "{}/bin x|c|"),
        ("printf '%s|' ${1}x", "{}x|"),
        ("printf '%s|' \\$1 \"\\$1\"", "$1|$1|"),
        ("printf '%s|' \"a'$1\"'b\"$1'", "a'{}b\"{}|"),
    ],
)
def test_the_location_stands_for_dollar_1_as_one_word_in_whatever_quotes(
    tmp_path: Path, name: str, command: str, wanted: str
) -> None:
    location = f"/software/{name}"
    assert run(put_location(command, location), tmp_path).stdout == wanted.replace("{}", location)
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_that_of_the_description_then_of_the_first_package_that_has_one(tmp_path: Path) -> None:
    first = Package("/a", None, {"stage_in_command": "$1/in"})
    second = Package(
        "/b", None, {"stage_in_command": "$1/other", "run_command": "$1/run", "polling_command": "$1/poll"}
    )
    assert find_command("run_command", "mine $1", [first, second]) == "mine $1"
    assert find_command("stage_in_command", None, [first, second]) == "/a/in"
    assert find_command("run_command", None, [first, second]) == "/b/run"
    assert find_command("polling_command", None, [first, second]) == "/b/poll"
    assert find_command("polling_command", None, [first]) == ""
    assert find_command("storage_command", None, []) == ""


@pytest.mark.parametrize(
    ("kind", "environment", "setup", "wanted"),
    [
        ("run_command", {}, "", (127, "")),
        ("run_command", {"JUG_RUN": "echo 'two  words' && echo more"}, "", (0, "two  words\nmore\n")),
        ("run_command", {"JUG_RUN": "echo worker"}, 'JUG_RUN="echo $1"', (0, "LOCATION\n")),
        ("run_command", {"JUG_RUN": "echo worker"}, 'JUG_RUN="$JUG_RUN $1"', (0, "worker LOCATION\n")),
        ("run_command", {}, 'JUG_RUN="echo $JUG_RUN"', (0, "jug_run\n")),
        ("run_command", {"JUG_RUN": ""}, 'JUG_RUN="echo $JUG_RUN"', (0, "jug_run\n")),
        ("run_command", {}, "JUG_RUN=$(sh -c 'echo echo $JUG_RUN')", (0, "jug_run\n")),
        ("run_command", {}, "JUG_RUN=", (127, "")),
        ("stage_in_command", {}, 'set -u; JUG_STAGE_IN="echo in $JUG_STAGE_IN."; set +u', (0, "in .\n")),
        ("stage_out_command", {"JUG_STAGE_OUT": "out"}, 'JUG_STAGE_OUT="echo $JUG_STAGE_OUT"', (0, "out\n")),
        ("stage_in_command", {}, "", (0, "")),
        ("stage_in_command", {}, "JUG_STAGE_IN='echo in; exit 3'", (3, "in\n")),
        ("stage_out_command", {"JUG_STAGE_OUT": "echo out"}, "", (0, "out\n")),
        ("stage_out_command", {"JUG_STAGE_IN": "echo in"}, "", (0, "")),
    ],
)
def test_otherwise_the_environment_has_the_command_as_it_is_after_setup(
    tmp_path: Path, kind: str, environment: Mapping[str, str], setup: str, wanted: tuple[int, str]
) -> None:
    package = make_package(tmp_path / "p", setup)
    ran = run(shell_prefix([package]) + find_command(kind, None, [package]), tmp_path, **environment)
    assert (ran.returncode, ran.stdout) == (wanted[0], wanted[1].replace("LOCATION", package.location))


def test_jug_run_is_what_is_run_where_nothing_else_is_said(tmp_path: Path) -> None:
    package = make_package(tmp_path / "p", "PATH=$1/bin:$PATH\n")
    (tmp_path / "p/bin").mkdir()
    (tmp_path / "p/bin/jug_run").write_text("#!/bin/sh\necho jug_run ran\n")
    (tmp_path / "p/bin/jug_run").chmod(0o755)
    assert (
        run(shell_prefix([package]) + find_command("run_command", None, [package]), tmp_path).stdout == "jug_run ran\n"
    )


def test_parse_commands_names_its_file() -> None:
    with pytest.raises(ValueError, match="/x/commands, line 1"):
        parse_commands("nothing", "/x/commands")
