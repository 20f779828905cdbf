"""A worker whose software is moved away while it runs goes on with what it has, or gives back what it cannot do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobjar
from tests.described_jobs import describe, make_package, pack, phases
from tests.rig import PATIENCE_S, Rig, wait_until
from tests.serving import http_server

START = """
import sys
sys.path.insert(0, {software!r})
from jobjar.programs.start_worker import main
sys.exit(main(["--foreground"]))
"""


class MovableWorker:
    """A worker of a copy of the software, which can be taken away under it."""

    def __init__(self, rig: Rig, directory: Path, **changes: str) -> None:
        self.software = directory / "software"
        shutil.copytree(sysconfig.get_path("purelib"), self.software, symlinks=False, ignore=_but_dependencies)
        package = Path(jobjar.__file__).parent
        shutil.copytree(package, self.software / "jobjar", ignore=shutil.ignore_patterns("__pycache__"))
        # -S: the software of the tests is not to be found behind it.
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", START.format(software=str(self.software))],
            env={**rig.environment, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def move_software(self) -> None:
        self.software.rename(self.software.with_name("moved"))


def _but_dependencies(directory: str, names: list[str]) -> list[str]:
    """What a copy needs none of: tools of the tests, which are large."""
    tools = (
        "pytest",
        "_pytest",
        "mypy",
        "mypyc",
        "ruff",
        "hypothesis",
        "pip",
        "setuptools",
        "xdist",
        "pygments",
        "jobjar",
    )
    return [name for name in names if name in (*tools, "__pycache__") or name.startswith("__editable__")]


@pytest.fixture
def movable(rig: Rig, tmp_path: Path) -> Iterator[MovableWorker]:
    worker = MovableWorker(rig, tmp_path)
    yield worker
    worker.process.kill()
    worker.process.communicate()


def test_it_goes_on_with_every_kind_of_job(rig: Rig, tmp_path: Path, movable: MovableWorker) -> None:
    movable.move_software()
    (tmp_path / "in").write_text("in\n")
    (tmp_path / "poll.sh").write_text("echo finished = 1 >jug_polling.vars\n")
    package = pack(make_package(tmp_path / "tool", package__install="#!/bin/sh\ntrue\n"))
    zipped = tmp_path / "zipped.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("zipped", "1")
    packed = []
    for kind in ("xz", "bz2"):
        packed.append(tmp_path / f"packed.tar.{kind}")
        with tarfile.open(packed[-1], f"w:{kind}") as file:  # type: ignore[call-overload]
            file.add(tmp_path / "in", kind)
    plain = rig.submit("sleep 0.1; exit 0")
    again = rig.submit("--retries", "1", 'rm -- "$0"; exit 3')
    limited = rig.submit("--time-limit", "0.2", "sleep 600 & sleep 600")
    described = describe(
        rig,
        "described",
        software=[package, zipped],
        workware=packed,
        input_files=tmp_path / "in",
        run_command="mkdir output; echo 1 >output/file; echo a = 1 >jug_monitor.vars",
        polling_command=f"sh {tmp_path}/poll.sh",
        stage_out_command="true",
        batch="moved",
    )
    ledger = rig.home / "ledger" / "ledger.db"
    rig.run("jobjar", "wait", "--timeout", "60s", plain, again, limited, described, check=False)
    assert [rig.show(name)["outcome"] for name in (plain, again, limited, described)] == [
        "succeeded",
        "failed",
        "timed_out",
        "succeeded",
    ]
    assert len(phases(rig, described)) == 4 + 1
    # A ledger that has to be made anew takes the files of the schema.
    ledger.write_bytes(b"noise" * 4096)
    last = rig.submit("true")
    wait_until(lambda: last in rig.names("completed"), "a job's end on a new ledger")
    said = rig.stop_worker(movable.process)
    assert "Traceback" not in said and "ended: stopped" in said


def test_what_it_cannot_fetch_any_more_goes_back_for_another_and_it_leaves(
    rig: Rig, tmp_path: Path, movable: MovableWorker
) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "in").write_text("in\n")
    movable.move_software()
    with http_server(tmp_path / "served") as server:
        name = describe(rig, "fetches", retries="0", input_files=f"{server.address}/in", run_command="cat in")
        said = movable.process.communicate(timeout=PATIENCE_S)[1]
        assert movable.process.returncode == 0
        assert "software was moved or changed while it ran" in said and "start another one" in said
        assert "Traceback" not in said and "ended: leaving" in said
        assert rig.names("unclaimed") == [name]
        [attempt] = rig.show(name)["attempts"]
        assert (attempt["outcome"] == "interrupted" and "fsspec" in attempt["message"]) or "aiohttp" in attempt[
            "message"
        ]
        rig.assert_clean()
        rig.run_until_idle()
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["interrupted", "succeeded"]
