"""One nursery for all crash tests of a test process, and a jar to copy for each case."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.nursery import Nursery

pytest.register_assert_rewrite("tests.crash.case")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="session")
def template(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new jar in which nothing has happened yet."""
    home = tmp_path_factory.mktemp("template") / "jar"
    nursery.do(home, "make_jar")
    shutil.rmtree(home / "documents")  # nobody reads them, and each case copies them
    return home
