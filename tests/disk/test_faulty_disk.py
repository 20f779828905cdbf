"""Programs and workers on a disk that refuses calls at random, before or after it has done them (LD_PRELOAD)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from jobjar.job_file.names import unnumbered_name
from tests.rig import BIN, PATIENCE_S, Rig, wait_until

SOURCE = Path(__file__).with_name("faulty_disk.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
SUBMIT = "import sys, jobjar\nprint(*jobjar.submit_jobs(line.rstrip() for line in sys.stdin), sep='\\n')"
JOBS = 200

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD of Linux"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler (cc or gcc)"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faulty") / "faulty_disk.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", str(path), str(SOURCE), "-ldl"], check=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["recover_jobs"], ["system_status"], ["jobjar", "show"], ["jobjar", "wait", "--all"]]
)
def test_a_program_does_its_work_on_a_disk_that_errs_at_random(
    rig: Rig, library: Path, tmp_path: Path, words: list[str]
) -> None:
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "ledger")
    names = [rig.submit("true") for _ in range(5)]
    rig.run_until_idle()
    job = names[:1] if words == ["jobjar", "show"] else []
    for seed in range(20):
        faulty = {"FAULTY_SEED": str(seed), "FAULTY_PER_MILLE": "60", "FAULTY_LATE": "40", "FAULTY_PLAIN": "1"}
        rig.run(*words, *job, check=True, LD_PRELOAD=str(library), FAULTY_PATH=str(rig.home), **faulty)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "seed"), [("renameat2", 1), ("placeholder", 2)])
def test_jobs_on_a_disk_that_errs_at_random_complete_once_each(
    rig: Rig, library: Path, tmp_path: Path, way: str, seed: int
) -> None:
    runs, counted = tmp_path / "runs", tmp_path / "counted"
    # The ledger's home is a disk of this node; the jar's is the one in trouble.
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "ledger")
    faulty = {
        "LD_PRELOAD": str(library),
        "FAULTY_PATH": str(rig.home),
        "FAULTY_SEED": str(seed),
        "FAULTY_PER_MILLE": "20",
        "FAULTY_LATE": "40",
        "FAULTY_LIES": "50",
        "FAULTY_COUNT": str(counted),
        **({"FAULTY_PLAIN": "1"} if way == "placeholder" else {}),
    }
    workers = [rig.start_worker(JJ_PAUSE_TIME="1", **faulty) for _ in range(2)]
    names = [rig.submit(f"echo $JJ_JOB >> '{runs}'", **faulty) for _ in range(10)]
    lines = "".join(f"echo $JJ_JOB >> '{runs}'\n" for _ in range(JOBS - len(names)))
    submitted = subprocess.run(
        [sys.executable, "-c", SUBMIT],
        input=lines,
        env={**rig.environment, **faulty},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert submitted.returncode == 0, submitted.stderr
    names += submitted.stdout.split()
    rig.run("recover_jobs", check=True, **faulty)
    rig.run("jobjar", "wait", "--all", "--timeout", "60s", check=True, **faulty)
    said = [rig.stop_worker(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert "Traceback" not in "".join(said)
    assert "could not be recorded" not in "".join(said)
    # A placeholder stays where a rename that failed to the end may still be done; the job has the next name then.
    completed, unclaimed = (
        [name for name in rig.names(jar) if not (rig.home / jar / name).is_symlink()]
        for jar in ("completed", "unclaimed")
    )
    assert sorted(map(unnumbered_name, completed)) == sorted(names), said
    assert unclaimed == []
    ran = Counter(runs.read_text().split())
    assert len(ran) == JOBS
    rig.run("recover_jobs")
    rig.assert_clean()
    ended = [rig.show(name)["outcome"] for name in names[:20]]
    assert ended == ["succeeded"] * 20
    kinds = Counter(counted.read_text())
    assert min(kinds[kind] for kind in "el") > 0, kinds
    print(f"{sum(kinds.values())} faults: {dict(kinds)}; run more than once: {sum(n > 1 for n in ran.values())}")


def go_away(rig: Rig, library: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that takes the disk's server away while it is there, and what programs need in their environment for that."""
    away = tmp_path / "away"
    rig.environment["JJ_LEDGER_HOME"] = str(tmp_path / "ledger")
    return away, {"LD_PRELOAD": str(library), "FAULTY_PATH": str(rig.home), "FAULTY_AWAY": str(away)}


def start_logged_worker(rig: Rig, log: Path, **changes: str) -> subprocess.Popen[str]:
    """A worker whose words go to a file outside of the jar."""
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [str(BIN / "start_worker"), "--foreground"],
            env={**rig.environment, "JJ_PAUSE_TIME": "1", **changes},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    rig._started.append(process)
    wait_until(lambda: ", version " in log.read_text(), "the start of a worker")
    return process


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0.0, pytest.param(120.0, marks=pytest.mark.faults)])
def test_a_worker_and_its_job_outlive_a_server_that_is_away(
    rig: Rig, library: Path, tmp_path: Path, away_s: float
) -> None:
    away, faulty = go_away(rig, library, tmp_path)
    gate, runs, log = tmp_path / "gate", tmp_path / "runs", tmp_path / "log"
    os.mkfifo(gate)
    started = tmp_path / "started"
    names = [rig.submit(f"touch '{started}'; read line < '{gate}'; echo $JJ_JOB >> '{runs}'")]
    names += [rig.submit(f"echo $JJ_JOB >> '{runs}'") for _ in range(3)]
    worker = start_logged_worker(rig, log, **faulty)
    wait_until(started.exists, "the start of the first job")
    away.touch()
    gate.write_text("on\n")
    # Who submits meanwhile waits too.
    submitting = subprocess.Popen(
        [str(BIN / "submit_job"), f"echo $JJ_JOB >> '{runs}'"],
        env={**rig.environment, **faulty},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: "waiting" in log.read_text(), "the worker's word on the disk")
    assert runs.read_text().split() == names[:1]
    back_at = time.monotonic() + away_s
    wait_until(lambda: time.monotonic() >= back_at, "the end of the outage", away_s + PATIENCE_S)
    assert worker.poll() is None and submitting.poll() is None
    away.unlink()
    output, errors = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, errors
    names.append(output.strip())
    wait_until(lambda: rig.names("completed") == sorted(names), "the jobs' end")
    worker.send_signal(signal.SIGUSR1)
    assert worker.wait(timeout=PATIENCE_S) == 0
    assert sorted(runs.read_text().split()) == sorted(names)
    assert "Traceback" not in log.read_text()
    rig.run("recover_jobs")
    rig.assert_clean()


@pytest.mark.slow
def test_a_worker_can_be_ended_while_the_server_is_away_and_its_job_is_recovered(
    rig: Rig, library: Path, tmp_path: Path
) -> None:
    away, faulty = go_away(rig, library, tmp_path)
    log = tmp_path / "log"
    name = rig.submit("sleep 1000")
    worker = start_logged_worker(rig, log, **faulty)
    wait_until(lambda: any((rig.home / "workers").glob("*/scratch/*")), "the start of the job")
    away.touch()
    worker.send_signal(signal.SIGTERM)
    worker.wait(timeout=PATIENCE_S)
    assert worker.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    away.unlink()
    rig.run("recover_jobs")
    assert rig.names("unclaimed") == [name]
    rig.assert_clean()


def test_a_program_gives_up_when_its_patience_is_over_and_says_so(rig: Rig, library: Path, tmp_path: Path) -> None:
    away, faulty = go_away(rig, library, tmp_path)
    away.touch()
    result = rig.run("submit_job", "true", check=False, JJ_DISK_PATIENCE="1", **faulty)
    assert result.returncode == 1
    assert "Input/output error" in result.stderr or "tale" in result.stderr or "timed out" in result.stderr
    away.unlink()
    assert rig.names("unclaimed") == rig.names("limbo") == []
