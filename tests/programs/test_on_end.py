"""JJ_ON_END and `jobjar wait --notify`: a command that is told of ends, once each, and harms no job."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import jobjar
from tests.follower import PROMPT
from tests.rig import Rig, wait_until

_FACTS = (
    *("ENDED", "JOB_ID", "BATCH", "OUTCOME", "EXIT_STATUS", "SIGNAL", "ATTEMPT"),
    *("JOBS", "UNSUCCESSFUL", "NODE", "WORKER", "MESSAGE"),
)


class Told:
    """What a command was told, one line of its variables each time."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "told"
        values = ", ".join(f'\\"{name}\\": \\"$JJ_{name}\\"' for name in _FACTS)
        self.command = f'echo "{{{values}}}" >> {self.path}'

    def read(self, ended: str = "") -> list[dict[str, str]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [told for line in lines if (told := json.loads(line))["ENDED"].startswith(ended)]

    def wait_for(self, ended: str, count: int) -> list[dict[str, str]]:
        wait_until(lambda: len(self.read(ended)) >= count, f"{count} ends of {ended}")
        return self.read(ended)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def submit_batch(rig: Rig, name: str, command: str, seeds: str) -> None:
    path = rig.home.parent / f"{name}.jug"
    path.write_text(f'batch\nname = {name}\nretries = 0\nseeds = {seeds}\nrun_command = "{command}"\n')
    rig.run("submit_batch", str(path))


@pytest.mark.usefixtures("own_library")
def test_a_worker_tells_of_each_job_of_a_batch_and_of_all_and_a_command_that_fails_harms_nothing(
    rig: Rig, told: Told, tmp_path: Path
) -> None:
    waiting = rig.submit("-c", "NOBODY", "true")
    # It fails, writes, and leaves a process behind.
    worker = rig.start_worker(JJ_ON_END=f"{told.command}; echo to the log >&2; sleep 0.1 & exit 5")
    good = rig.submit("-i", "good", "true")
    bad = rig.submit("--retries", "1", "--retry-delay", "0", "exit 3")
    cut = rig.submit("kill -9 $$")
    assert jobjar.wait([good, bad, cut]) == {
        rig.show(good)["id"]: "succeeded",
        rig.show(bad)["id"]: "failed",
        rig.show(cut)["id"]: "failed",
    }
    first, second, third = told.wait_for("job", 3)
    assert (first["OUTCOME"], first["EXIT_STATUS"], first["ATTEMPT"], first["BATCH"]) == ("succeeded", "0", "1", "")
    assert first["JOB_ID"] == rig.show(good)["id"] and first["MESSAGE"].startswith(
        f"job {good}: succeeded, exit status 0"
    )
    assert (second["OUTCOME"], second["EXIT_STATUS"], second["ATTEMPT"]) == ("failed", "3", "2")
    assert (third["OUTCOME"], third["EXIT_STATUS"], third["SIGNAL"]) == ("failed", "", "9")
    assert first["WORKER"] == f"{first['NODE']}.{worker.pid}"
    assert told.read("all") == []  # a job waits
    rig.run("jobjar", "cancel", waiting)
    # Who cancelled it knows that. The worker that ended the job before tells of all.
    [everything] = told.wait_for("all", 1)
    assert (everything["JOBS"], everything["UNSUCCESSFUL"], everything["OUTCOME"]) == ("4", "3", "failed")
    submit_batch(rig, "b", "test $JJ_SEED != 2", "1-3")
    [batch] = told.wait_for("batch", 1)
    assert (batch["BATCH"], batch["JOBS"], batch["UNSUCCESSFUL"], batch["OUTCOME"]) == ("b", "3", "1", "failed")
    assert batch["MESSAGE"] == "batch b: 2 of 3 succeeded"
    told.wait_for("all", 2)
    said = rig.stop_worker(worker)
    times = len(told.read())
    assert said.count("to the log") == said.count("the command for ends failed with exit status 5") == times >= 9
    assert Counter(line["ENDED"] for line in told.read() if line["ENDED"] != "all") == {"job": 6, "batch": 1}
    rig.assert_clean()


def test_of_two_homes_one_worker_tells_of_a_batch_once(rig: Rig, told: Told, tmp_path: Path) -> None:
    homes = {node: str(tmp_path / f"home-{node}") for node in ("rain", "snow")}
    workers = [
        rig.start_worker(
            JJ_NODE=node, JJ_LEDGER_HOME=home, JJ_ON_END=told.command, JJ_PAUSE_TIME="1", JJ_POLL_TIME="0.2"
        )
        for node, home in homes.items()
    ]
    rig.environment["JJ_LEDGER_HOME"] = homes["rain"]
    for number in range(3):
        submit_batch(rig, f"b{number}", "sleep 0.05", "1-6")
        told.wait_for("batch", number + 1)
    told.wait_for("all", 1)
    for worker in workers:
        rig.stop_worker(worker)
    ended = told.read()
    assert Counter(line["BATCH"] for line in ended if line["ENDED"] == "batch") == {"b0": 1, "b1": 1, "b2": 1}
    assert max(Counter(line["JOB_ID"] for line in ended if line["ENDED"] == "job").values()) == 1
    assert sum(line["ENDED"] == "job" for line in ended) == 18


def test_who_completes_a_dead_worker_s_job_tells_of_it(rig: Rig, told: Told, tmp_path: Path) -> None:
    rig.environment |= {"JJ_CRASH_LIMIT": "1", "JJ_ON_END": told.command}
    worker = rig.start_worker()
    job = rig.submit(PROMPT.format(tmp_path, "never"))
    wait_until(lambda: rig.show(job)["attempts"], "its start")
    worker.kill()
    worker.wait()
    assert "0 jobs returned, 1 completed" in rig.run("recover_jobs").stdout
    [one] = told.read("job")
    assert (one["JOB_ID"], one["OUTCOME"], one["EXIT_STATUS"]) == (rig.show(job)["id"], "crashed", "")
    assert [line["ENDED"] for line in told.read()] == ["job", "all"]
    rig.run("recover_jobs")
    assert len(told.read()) == 2


@pytest.mark.usefixtures("own_library")
def test_a_wait_tells_what_it_waited_for_when_that_is_over(rig: Rig, told: Told) -> None:
    bad = jobjar.submit_job("exit 4")
    submit_batch(rig, "b", "true", "1-2")
    notify = ["--timeout", "60s", "--notify", told.command]
    assert (
        rig.run_forked("jobjar", "wait", bad, "--timeout", "0.1s", "--notify", told.command, check=False).returncode
        == 124
    )
    assert told.read() == []
    rig.run_until_idle()
    assert told.read() == []  # no setting: workers tell of nothing
    result = rig.run("jobjar", "wait", bad, *notify, check=False)
    assert result.returncode == 1
    [one] = told.read()
    assert (one["ENDED"], one["JOB_ID"], one["OUTCOME"], one["EXIT_STATUS"]) == (
        "job",
        rig.show(bad)["id"],
        "failed",
        "4",
    )
    rig.run_forked("jobjar", "wait", "--batch", "b", *notify)
    rig.run_forked("jobjar", "wait", "--all", *notify, check=False)
    rig.run_forked("jobjar", "wait", "b", bad, *notify, check=False)
    batch, everything, several = told.read()[1:]
    assert (batch["ENDED"], batch["BATCH"], batch["OUTCOME"], batch["JOBS"]) == ("batch", "b", "succeeded", "2")
    assert (everything["ENDED"], everything["JOBS"], everything["UNSUCCESSFUL"]) == ("all", "3", "1")
    assert (several["ENDED"], several["BATCH"], several["JOBS"]) == ("jobs", "", "3")
    assert several["MESSAGE"].startswith("jobs: 1 of 3 failed: ")
    failing = rig.run_forked("jobjar", "wait", "--batch", "b", "--notify", "exit 3")
    assert failing.stderr.endswith("--notify: the command for ends failed with exit status 3\n")
