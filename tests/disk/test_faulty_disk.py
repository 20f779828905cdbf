"""Programs and workers on a disk that refuses calls at random, before or after it has done them (LD_PRELOAD)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jobjar.jobname import unnumbered_name
from tests.rig import Rig

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
        "FAULTY_LIES": "30",
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
    # A placeholder that had been made when its making failed stays: an empty file without the run bit, no job; the job
    # has the next name then.
    jobs = [name for name in rig.names("completed") if (rig.home / "completed" / name).stat().st_mode & 0o100]
    assert sorted(map(unnumbered_name, jobs)) == sorted(names), said
    assert rig.names("unclaimed") == []
    ran = Counter(runs.read_text().split())
    assert len(ran) == JOBS
    rig.run("recover_jobs")
    rig.assert_clean()
    ended = [rig.show(name)["outcome"] for name in names[:20]]
    assert ended == ["succeeded"] * 20
    kinds = Counter(counted.read_text())
    assert min(kinds[kind] for kind in "eln") > 0, kinds
    print(f"{sum(kinds.values())} faults: {dict(kinds)}; run more than once: {sum(n > 1 for n in ran.values())}")
