"""A jar of each release, as it was then, has to open, fold, check, show and go on for ever (make_jar.py makes them)."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.ledger.rebuild import dump_ledger, fill_ledger
from tests.rig import Rig

JARS = sorted(Path(__file__).parent.glob("jar-*.tar.gz"))


@pytest.fixture(params=JARS, ids=lambda path: path.name.removesuffix(".tar.gz"))
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A copy of a frozen jar, with this version's programs put into it as `jobjar init` does."""
    with tarfile.open(request.param) as tar:
        tar.extractall(tmp_path, filter="data")
    rig = Rig(tmp_path / "jar", make=False)
    rig.run("jobjar", "init", str(rig.home))
    yield rig
    rig.end_everything()


def test_there_is_a_frozen_jar_of_the_first_release() -> None:
    assert "jar-0.1.0.tar.gz" in [path.name for path in JARS]


def test_a_frozen_jar_opens_and_is_checked_clean(frozen: Rig) -> None:
    frozen.assert_clean()
    assert not [name for name in os.listdir(frozen.home / "ledger") if "corrupt" in name]


def test_a_frozen_jar_s_status_counts_what_is_in_it(frozen: Rig) -> None:
    status = frozen.status()
    assert status["source"] == "ledger"
    assert {name: status["jobs"][name] for name in ("limbo", "unclaimed", "claimed", "completed")} == {
        "limbo": 1,
        "unclaimed": 2,
        "claimed": 0,
        "completed": 7,
    }
    assert [(row["category"], row["priority"]) for row in status["categories"]] == [("", -2), ("LATER", 9)]
    (held,) = (job for job in status["jobs"]["held"] if job["held_reason"])
    assert held["name"] == "oddly"


@pytest.mark.parametrize(
    ("identifier", "outcome", "exit_status", "attempts"),
    [
        ("good", "succeeded", 0, ["succeeded"]),
        ("bad", "failed", 3, ["failed"]),
        ("again", "failed", 4, ["failed", "failed"]),
        ("limited", "timed_out", None, ["timed_out"]),
        ("stranded", "succeeded", 0, ["stranded", "succeeded"]),
    ],
)
def test_what_happened_to_the_jobs_of_a_frozen_jar_is_shown(
    frozen: Rig, identifier: str, outcome: str, exit_status: int | None, attempts: list[str]
) -> None:
    (name,) = (name for name in frozen.names("completed") if f"-{identifier}." in name)
    shown = frozen.show(name)
    assert (shown["state"], shown["outcome"], shown["exit_status"]) == ("completed", outcome, exit_status)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == attempts
    assert [move["reason"] for move in shown["moves"]][:2] == ["submitted", "claimed"]
    assert shown["moves"][-1]["reason"] == "completed"
    if identifier == "good":
        assert frozen.run("jobjar", "output", name).stdout == "hello\n"


def test_a_frozen_ledger_says_what_its_journals_and_directories_say(frozen: Rig) -> None:
    ledger = frozen.open().ledger
    fill_ledger(ledger)
    before = dump_ledger(ledger.connection)
    assert len(before["attempt"]) == 9
    frozen.run("jobjar", "rebuild")
    with ledger.writing() as connection:
        assert dump_ledger(connection) == before


def test_a_frozen_jar_without_its_ledger_says_the_same(frozen: Rig) -> None:
    ledger = frozen.open().ledger
    fill_ledger(ledger)
    before = dump_ledger(ledger.connection)
    ledger.close()
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(ledger.path + suffix)
    fill_ledger(ledger)
    assert dump_ledger(ledger.connection) == before


@pytest.mark.slow
def test_the_waiting_jobs_of_a_frozen_jar_are_run(frozen: Rig) -> None:
    worker = frozen.start_worker("LATER")
    frozen.run("jobjar", "wait", "--timeout", "60s", "*-waits.*")
    # One of its jobs was held, and others had failed since the oldest of those that wait was submitted.
    said = frozen.run("jobjar", "wait", "--all", "--timeout", "60s", check=False)
    assert said.returncode == 1 and "2 of 10 failed: " in said.stderr and "1 held: " in said.stderr
    frozen.stop_worker(worker)
    waited = [name for name in frozen.names("completed") if "-waits." in name]
    assert sorted(frozen.run("jobjar", "output", name).stdout for name in waited) == [
        "waited\n",
        "waited in a category\n",
    ]
    frozen.assert_clean()
