"""What a worker has, what jobs ask for, and which of them it claims (attempts/capacity.py, fitting.py, waiting.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import jobjar
from jobjar.attempts import capacity
from jobjar.attempts.capacity import Offer, Room, find_capacity
from jobjar.batches.plan import plan_jobs
from jobjar.batches.submit_file import parse_submit_file
from jobjar.job_file.attributes import read_header
from jobjar.job_file.request import Request, class_of, request_of_class
from tests.arrays.test_run_chunk import submit
from tests.rig import Rig, wait_until
from tests.worker.test_slots import QUICK, running, stay

GIB = 1 << 30


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "CUDA_", "ROCR_")) or name == "NCPUS"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(capacity, "usable_cores", lambda: 16)
    monkeypatch.setattr(capacity, "usable_memory", lambda: 64 * GIB)
    monkeypatch.setattr(capacity, "found_gpus", lambda: ("0", "1", "2"))


def test_a_request_is_the_same_after_it_was_a_class() -> None:
    fields = {"cores": 4, "memory_bytes": GIB, "gpus": 1, "resources": {"b": 2, "a": 1, "c": 0}}
    request = request_of_class(class_of(fields))
    assert request == Request(4, GIB, 1, (("a", 1), ("b", 2)))
    assert str(request) == "4 cores, 1 GiB memory, 1 GPU, 1 a, 2 b"
    assert class_of({"name": "x"}) == class_of({"cores": 1}) == class_of({"cores": -1}) == class_of({"gpus": "1"}) == ""
    assert request_of_class("") == Request()


def test_a_worker_has_no_more_than_it_may_use(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_capacity(Offer())[:4] == (1, 16, 64 * GIB, ())
    assert find_capacity(Offer(cores="all"))[:2] == (16, 16)
    assert find_capacity(Offer(cores=99, memory=GIB, gpus="all"))[:4] == (16, 16, GIB, ("0", "1", "2"))
    assert find_capacity(Offer(slots=30))[:2] == (30, 30)
    assert find_capacity(Offer(slots=2, cores=8))[:2] == (2, 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-7")
    assert find_capacity(Offer()).gpus == find_capacity(Offer(gpus="all")).gpus == ("1", "GPU-7")
    assert find_capacity(Offer(gpus="0,1")).gpus == ("1",)
    assert find_capacity(Offer(gpus="none")).gpus == ()


def test_control_groups_and_allocations_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/self/cgroup": "4:cpu,cpuacct:/job\n5:memory:/job\n0::/user/job",
        "/sys/fs/cgroup/user/cpu.max": "max 100000",
        "/sys/fs/cgroup/user/job/cpu.max": "150000 100000",
        "/sys/fs/cgroup/user/job/memory.max": "max",
        "/sys/fs/cgroup/user/memory.max": str(3 * GIB),
        "/sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(2 * GIB),
    }

    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(capacity, "_read", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "NCPUS"):
        monkeypatch.delenv(name, raising=False)
    assert capacity.usable_cores() == 2
    assert capacity.usable_memory() <= 2 * GIB
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    assert (capacity.usable_cores(), capacity.usable_memory()) == (1, 100 << 20)


def test_room_is_given_and_taken_back(large: None) -> None:
    room = Room(Offer(cores=4, memory=8 * GIB, gpus="0,1", resources=(("licence", 1),)))
    wide, gpu, licence = (class_of(one) for one in ({"cores": 3}, {"gpus": 1}, {"resources": {"licence": 1}}))
    first = room.take("a", gpu)
    second = room.take("b", gpu)
    assert first is not None and second is not None and (first.gpus, second.gpus) == (("0",), ("1",))
    assert room.fits("") and room.fits(licence) and not room.fits(gpu) and not room.fits(wide)
    assert room.may_ever_fit(gpu) and not room.may_ever_fit(class_of({"cores": 5}))
    assert room.keep({"b"}) and not room.keep({"b"})
    assert room.fits(gpu) and room.fits(wide)
    third = room.take("c", "")
    assert third is not None and third.gpus == ()
    alone = Room(Offer())
    assert alone.take("a", "") is None and alone.fits("")


def test_jobs_run_side_by_side_as_far_as_they_fit(rig: Rig, tmp_path: Path) -> None:
    """Jobs of all kinds that ask for a licence, of which there is one, and for memory; others pass by."""
    one = "--resource=licence"
    names = [submit(rig, one, "--memory", "10M", stay(tmp_path, f"held{number}")) for number in range(2)]
    array = submit(rig, one, "--array", "1-2", "--chunk", "1", stay(tmp_path, "task$1"))
    dropped = rig.drop("dropped", f"#!/bin/sh\n#JJ resource = licence=1\n{stay(tmp_path, 'dropped')}\n")
    free = [rig.submit(stay(tmp_path, f"free{number}")) for number in range(2)]
    too_large = submit(rig, "--cores", "999", "true")
    worker = rig.start_worker("--slots", "9", "--resource", "licence=1", **QUICK)
    wait_until(lambda: len(list(tmp_path.glob("began *"))) == 3, "what fits")
    assert len(running(rig)) == 3 and all(name in running(rig) for name in free)
    [explained] = rig.explain(too_large)
    assert [one["cause"] for one in explained["causes"]] == ["too_large"], explained
    assert "it asks for 999 cores, and no running worker" in rig.run_forked("system_status").stdout
    assert rig.show(too_large)["cores"] == 999
    (tmp_path / "go").touch()
    rig.run_forked("jobjar", "wait", "--timeout", "60s", *names, array, "dropped", *free)
    rig.stop_worker(worker)
    assert [name for name in rig.names("unclaimed") if too_large in name]
    assert not dropped.exists()
    rig.assert_clean()


def test_a_job_that_waits_for_long_gets_what_becomes_free(rig: Rig, tmp_path: Path) -> None:
    """Small jobs keep coming; each lets the next one go on. The large one needs both licences."""
    small = [submit(rig, "--resource=licence", stay(tmp_path, "first"))]
    worker = rig.start_worker("--slots", "2", "--resource", "licence=2", JJ_PASS_OVER="0.5", **QUICK)
    wait_until(lambda: (tmp_path / "began first").exists(), "the first")
    large = submit(rig, "--resource=licence=2", "echo large")
    for number in range(40):
        small.append(submit(rig, "--resource=licence", f"sleep 0.1; echo {number}"))
    (tmp_path / "go").touch()
    rig.run_forked("jobjar", "wait", "--timeout", "60s", large, *small)
    rig.stop_worker(worker)
    began = {name: rig.show(name)["attempts"][0]["started_at"] for name in (large, *small)}
    assert sum(began[name] > began[large] for name in small) > 0


def test_a_job_finds_its_share(rig: Rig, own_library: None) -> None:
    variables = "$JJ_CORES $JJ_MEMORY $JJ_GPUS $OMP_NUM_THREADS $CUDA_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES"
    said = f'echo "{variables}"'
    uid = jobjar.submit(said, cores=1, memory="10M", gpus=1, resource={"licence": 1})
    array = jobjar.submit_array(said, indexes="1-1", gpus=2, scratch=True)
    plain = submit(rig, f'echo "{variables}"')
    own = submit(rig, "--cores", "1", "--gpus", "1", "--env", "OMP_NUM_THREADS=7", said)
    rig.run_until_idle("--gpus", "4,5", "--resource", "licence=1", **QUICK)
    assert output(rig, uid) == f"1 {10 << 20} 4 1 4 4"
    assert output(rig, f"{array}[1]") == "1  4,5 1 4,5 4,5"
    assert output(rig, own) == "1  4 7 4 4"
    assert output(rig, plain).split() == ["1", "1"]
    assert rig.show(uid)["cores"] == 1


def output(rig: Rig, job: str) -> str:
    return rig.run_forked("jobjar", "output", job).stdout.strip("\n")


def test_a_batch_says_what_its_jobs_ask_for() -> None:
    text = 'batch {\n name = wc\n cores = 2\n memory = 8G\n job {\n  run_command = "true"\n  resource = "licence=2"\n }\n}\n'
    [batch] = parse_submit_file(text, "file", {})
    [job] = plan_jobs(batch)
    assert class_of(read_header(job.script, "")["given"]) == f"2 {8 * GIB} 0 licence=2"
