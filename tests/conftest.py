"""Fixtures of all tests: a jar in a temporary directory, the real programs, and no process left behind."""

from __future__ import annotations

import compileall
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import jobjar
from jobjar import library
from jobjar.shared_disk import umask
from tests.quick import refuse_programs, starts_program, watch_programs
from tests.rig import ABOUT_MEANS, Rig

# Pytest rewrites each module of tests, which takes as long as the quick tests, and keeps the result where it may. What a test
# starts still heeds PYTHONDONTWRITEBYTECODE.
sys.dont_write_bytecode = False

# For a test that is part of `make faults`; setup.cfg has the time-out of all others.
LONGEST_S = 3600


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: where Python may not keep what it compiled (PYTHONDONTWRITEBYTECODE), each of the thousands of
    programs that tests start would compile it again, which takes longer than what most of them do. Examples take as long as the
    machine has them take."""
    settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("tests")
    if not hasattr(config, "workerinput"):  # the one that starts the others
        compileall.compile_dir(Path(jobjar.__file__).parent, quiet=2)
    watch_programs()


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A new jar with the real programs; what it started is ended, and nothing may be left, when the test is over."""
    made = Rig(tmp_path / "jar")
    made.forks = request.path.stem not in ABOUT_MEANS
    yield made
    made.end_everything()


@pytest.fixture(autouse=True)
def new_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library as it is when it was just imported: what one test sets is not for the next."""
    monkeypatch.setattr(library, "_overrides", {})
    monkeypatch.setattr(library, "_jar", None)
    monkeypatch.setattr(library, "_jar_key", ())
    yield
    if library._jar is not None:
        library._jar.close()


@pytest.fixture
def own_library(rig: Rig) -> None:
    """The library in this process, on the rig's jar."""
    jobjar.set_home(str(rig.home))


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A quick test starts no program, and none of its fixtures does."""
    refuse_programs("" if item.get_closest_marker("slow") else item.nodeid)
    try:
        return (yield)
    finally:
        refuse_programs("")


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start a program are `slow`, unmarked (tests/quick.py). Tests marked `faults` may take longer; those marked
    `root` are skipped, with the reason, where namespaces and mounts are not allowed."""
    for item in items:
        if isinstance(item, pytest.Function) and starts_program(item):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("faults") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST_S))
    if os.geteuid() == 0 and os.uname().sysname == "Linux":
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root on Linux (namespaces, mounts)"))
