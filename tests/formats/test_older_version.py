"""The released version 0.1.0 on a node with its own ledger home meets an array: it holds the chunks, and runs none of them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until

ROOT = Path(__file__).parent.parent.parent
# The commit of the tree that made jar-0.1.0.tar.gz.
RELEASED = "ee5a8b1"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the release, from the history of this one."""
    directory = tmp_path_factory.mktemp("released")
    archive = directory / "tree.tar"
    made = subprocess.run(["git", "archive", "-o", str(archive), RELEASED], cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"the history of the release is not here: {made.stderr.strip()}")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory


@pytest.fixture
def older(rig: Rig, released: Path, tmp_path: Path) -> Iterator[Rig]:
    """The same jar, on a node whose Job Jar is the released one."""
    made = Rig(rig.home, make=False)
    made.forks = False
    made.environment |= {"PYTHONPATH": str(released), "JJ_LEDGER_HOME": str(tmp_path / "older"), "JJ_NODE": "older"}
    made.before = [sys.executable, "-P"]
    yield made
    made.end_everything()


def test_the_released_version_holds_chunks_in_limbo_and_loses_none(rig: Rig, older: Rig, tmp_path: Path) -> None:
    task = f"echo $1 >> {tmp_path}/ran; until test -e {tmp_path}/go; do sleep 0.05; done"
    array = rig.run("jobjar", "submit", "--array", "1-6", "--chunk", "2", task).stdout.strip()
    plain = rig.submit(f"echo plain >> {tmp_path}/ran")
    # A worker of this version has run a part of one of the chunks, and has given back the rest.
    claimed = rig.start_worker(JJ_POLL_TIME="0.1")
    wait_until(lambda: (tmp_path / "ran").exists(), "the first task")
    rig.run("stop_worker", "all")
    (tmp_path / "go").touch()
    claimed.communicate(timeout=60)
    assert rig.show(array)["succeeded"] == 1
    worker = older.start_worker()
    wait_until(lambda: rig.names("completed") == [plain] and not rig.names("unclaimed"), "the older worker")
    assert older.stop_worker(worker) is not None
    assert (tmp_path / "ran").read_text() == "1\nplain\n"
    chunks = rig.names("limbo")
    assert len(chunks) == 3
    for name in chunks:
        [said] = rig.explain(name)
        assert "there is no attribute 'array'" in said["causes"][0]["why"]
    rig.run("jobjar", "release", *chunks)
    rig.run_until_idle()
    assert sorted((tmp_path / "ran").read_text().split()) == [*"123456", "plain"]
    shown = rig.show(array)
    assert (shown["succeeded"], shown["failed"], shown["not_run"]) == (6, 0, 0)
    rig.assert_clean()
