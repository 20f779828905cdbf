"""The wheel, in an environment of its own: programs, manual pages, completions, systemd's units, and the README's tour."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.create import PROGRAMS
from jobjar.version import VERSION
from release.make_completions import make_completions
from tests.pages import ROOT
from tests.rig import Rig
from tests.test_documents import fenced_blocks, without_particulars

pytestmark = pytest.mark.slow
_WORKING_COPY = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the wheel of these sources. What it needs is taken from where the tests' own is: no network."""
    place = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT, place / "source", symlinks=True, ignore=_WORKING_COPY)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    wheels = str(place / "wheels")
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", wheels, place / "source"], check=True, timeout=120
    )
    shutil.rmtree(place / "source")
    prefix = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True, timeout=60)
    (wheel,) = (place / "wheels").iterdir()
    python = prefix / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", *offline, "--no-compile", wheel], check=True, timeout=120)
    libraries = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (libraries / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield prefix


def test_the_tour_of_the_readme_runs_with_the_wheel(tmp_path: Path, prefix: Path) -> None:
    tour = (ROOT / "README.md").read_text(encoding="utf-8").partition("## A five-minute tour")[2].partition("\n## ")[0]
    script = "set -e\n" + "\n".join(fenced_blocks(tour, "sh"))
    rig = Rig(tmp_path / "jar", make=False)
    environment = {name: value for name, value in rig.environment.items() if name != "JJ_HOME"}
    environment["PATH"] = f"{prefix}/bin:{environment['PATH']}"
    try:
        result = subprocess.run(
            ["/bin/sh"],
            input=script,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert [line for line in result.stderr.splitlines() if not line.startswith("jobjar wait: ")] == []
        printed = without_particulars(result.stdout.replace(str(tmp_path), "/tmp/tour")).splitlines()
        for line in without_particulars("\n".join(fenced_blocks(tour, "text"))).splitlines():
            # The worker may be killed before its job has a process.
            if not line.startswith("…") and "orphaned session" not in line:
                assert line in printed
        where = subprocess.run(
            [prefix / "bin" / "python", "-c", "import jobjar; print(jobjar.__file__)"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert where.stdout.startswith(f"{prefix}/")
    finally:
        rig.end_everything()


def test_shells_and_man_find_what_was_installed(tmp_path: Path, prefix: Path) -> None:
    share = prefix / "share"
    for program in PROGRAMS:
        assert os.access(prefix / "bin" / program, os.X_OK)
        assert (share / "man" / "man1" / f"{program}.1").is_file()
        assert (share / "bash-completion" / "completions" / program).is_file()
        assert (share / "fish" / "vendor_completions.d" / f"{program}.fish").is_file()
    environment = {**os.environ, "PATH": f"{prefix}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment.pop("JJ_HOME", None)
    if shutil.which("man"):
        found = subprocess.run(
            ["man", "-M", share / "man", "-w", "submit_job", "jobjar-config"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert found.stdout.split() == [f"{share}/man/man1/submit_job.1", f"{share}/man/man5/jobjar-config.5"]
    # As bash-completion does: the file is read, and then the function asked that it named.
    bash = f"""
        . {share}/bash-completion/completions/submit_job
        complete -p submit_job
        COMP_LINE='jobjar hist' COMP_POINT=11 COMP_WORDS=(jobjar hist) COMP_CWORD=1
        _python_argcomplete jobjar; echo "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", bash], env=environment, capture_output=True, text=True, timeout=60)
    assert "_python_argcomplete submit_job" in result.stdout and "history" in result.stdout, result
    if shutil.which("zsh"):
        zsh = f"fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; compinit -D -u; print $_comps[submit_job]"
        result = subprocess.run(["zsh", "-fc", zsh], env=environment, capture_output=True, text=True, timeout=60)
        assert result.stdout.strip() == "_jobjar", result
    if shutil.which("fish"):
        fish = f"source {share}/fish/vendor_completions.d/jobjar.fish; complete -C 'jobjar hist'"
        result = subprocess.run(["fish", "-c", fish], env=environment, capture_output=True, text=True, timeout=60)
        assert result.stdout.startswith("history"), result


def test_the_files_for_the_shells_are_what_their_maker_writes(tmp_path: Path) -> None:
    make_completions(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = ROOT / "completions"
    assert {path.relative_to(kept): path.read_text() for path in kept.rglob("*") if path.is_file()} == made


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["jar", 'a jar 100% "odd"'])
def test_systemd_accepts_the_units_of_a_jar(tmp_path: Path, name: str) -> None:
    rig = Rig(tmp_path / name)
    units = sorted(path for path in (rig.home / "crontabs").iterdir() if path.suffix in (".service", ".timer"))
    assert len(units) == 4
    result = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *units],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        result.returncode,
        [line for line in result.stderr.splitlines() if str(rig.home) in line or "jobjar" in line],
    ) == (0, []), result


def test_init_says_that_the_programs_of_a_jar_were_of_another_version(tmp_path: Path, prefix: Path) -> None:
    rig = Rig(tmp_path / "jar")
    assert rig.run("jobjar", "init", str(rig.home)).stderr == ""
    (version,) = prefix.glob("lib/*/site-packages/jobjar/version.py")
    text = version.read_text()
    version.write_text(text.replace(VERSION, "0.0.9"))
    try:
        older = subprocess.run(
            [prefix / "bin" / "jobjar", "init", rig.home],
            env=rig.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert f"were made by Job Jar {VERSION}; they are of 0.0.9 now" in older.stderr
        newer = rig.run("jobjar", "init", str(rig.home)).stderr
        assert f"were made by Job Jar 0.0.9; they are of {VERSION} now" in newer
    finally:
        version.write_text(text)
