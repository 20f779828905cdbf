"""Fixtures of all tests: a jar in a temporary directory, the real programs, and no process left behind."""

from __future__ import annotations

import compileall
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobjar
from jobjar import library
from jobjar.shared_disk import umask
from tests.rig import Rig

# For a test that is part of `make faults`; setup.cfg has the time-out of all others.
LONGEST_S = 3600


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: where Python may not keep what it compiled (PYTHONDONTWRITEBYTECODE), each of the thousands of
    programs that tests start would compile it again, which takes longer than what most of them do."""
    if not hasattr(config, "workerinput"):  # the one that starts the others
        compileall.compile_dir(Path(jobjar.__file__).parent, quiet=2)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A new jar with the real programs; what it started is ended, and nothing may be left, when the test is over."""
    made = Rig(tmp_path / "jar")
    yield made
    made.end_everything()


@pytest.fixture
def own_library(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library in this process, on the rig's jar; what it was before comes back."""
    monkeypatch.setattr(library, "_overrides", {})
    monkeypatch.setattr(library, "_jar", None)
    monkeypatch.setattr(library, "_jar_key", ())
    jobjar.set_home(str(rig.home))
    yield
    if library._jar is not None:
        library._jar.close()


@pytest.fixture(autouse=True)
def own_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program that a test calls within this process takes the jar's umask; the next test has its own again."""
    before = os.umask(0o022)
    os.umask(before)
    for name in ("_jars", "_users"):
        monkeypatch.setattr(umask, name, getattr(umask, name))
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and what a killed process leaves of its temporary files is
    not left to that person."""
    for name in [name for name in os.environ if name.startswith("JJ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    temporary = tmp_path.with_name(f"{tmp_path.name}-tmp")
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)  # looked for again


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `faults` may take longer; those marked `root` are skipped, with the reason, where namespaces and mounts are
    not allowed."""
    for item in items:
        if item.get_closest_marker("faults") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST_S))
    if os.geteuid() == 0 and os.uname().sysname == "Linux":
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root on Linux (namespaces, mounts)"))
