"""The examples of described jobs (examples/jug), with real workers; their page is docs/described-jobs.md."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.rig import Result, Rig, wait_until

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parent.parent / "examples" / "jug"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc)")


def pack(name: str, directory: Path) -> Path:
    archive = directory / f"{name}.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted((EXAMPLES / name).iterdir()):
            tar.add(path, path.name)
    return archive


def outputs_of(rig: Rig, batch: str) -> dict[str, str]:
    """The text of each stored file of a batch, by its name, as get_output gives it."""
    listed = json.loads(rig.run("list_outputs", batch, "--format", "json").stdout)["outputs"]
    names = [file["source_name"] for file in listed]
    return {name: rig.run("get_output", "--batch", batch, name, "-").stdout for name in names}


@needs_compiler
def test_a_package_with_a_library_finds_it_by_its_setup(rig: Rig, tmp_path: Path) -> None:
    rig.run("submit_batch", str(EXAMPLES / "library" / "library.jug"), f"package={pack('library', tmp_path)}")
    said = rig.run_until_idle()
    assert outputs_of(rig, "library") == {"greeting.txt": "greetings from the library\n"}, said
    rig.assert_clean()


def test_a_job_in_another_queue_is_polled_across_the_death_of_its_worker_and_submitted_once(
    rig: Rig, tmp_path: Path
) -> None:
    queue = tmp_path / "queue"
    queue.mkdir()
    words = [f"package={pack('polling', tmp_path)}", f"queue={queue}"]
    rig.run("submit_batch", str(EXAMPLES / "polling" / "polling.jug"), *words)
    worker = rig.start_worker(JJ_RUN_SLOTS="3")
    submissions = queue / "submissions"
    wait_until(lambda: submissions.exists() and len(submissions.read_text().splitlines()) == 3, "three submissions")
    wait_until(lambda: rig.run("batch_status", "polling").stdout.count("poll"), "a polled job")
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    rig.run("recover_jobs")
    other = rig.start_worker(JJ_RUN_SLOTS="3")
    (queue / "go").touch()
    wait_until(lambda: len(rig.names("completed")) == 3, "three completed jobs")
    said = rig.stop_worker(other)
    assert sorted(submissions.read_text().splitlines()) == [f"job {seed} submitted" for seed in (1, 2, 3)], said
    assert outputs_of(rig, "polling") == {f"result-{seed}.txt": f"worked for seed {seed}\n" for seed in (1, 2, 3)}
    rig.assert_clean()


def test_an_own_storage_package_stores_what_jobs_publish(rig: Rig, tmp_path: Path) -> None:
    rig.run("submit_batch", str(EXAMPLES / "storage" / "storage.jug"), "class=DISK")
    worker = rig.start_worker()
    stored = rig.home / "unclaimed" / "STORAGE-DISK"
    wait_until(lambda: stored.exists() and len(list(stored.iterdir())) == 3, "three jobs that wait for storage")
    rig.stop_worker(worker)
    assert rig.names("completed") == []
    storage = rig.start_worker("--storage", "DISK", JJ_STORAGE_SOFTWARE=str(pack("storage", tmp_path)))
    wait_until(lambda: len(rig.names("completed")) == 3, "three completed jobs")
    said = rig.stop_worker(storage)
    for seed in (1, 2, 3):
        digest = hashlib.md5(f"result {seed}\n".encode()).hexdigest()
        stored = rig.home / "storage" / "by-md5" / digest[:2] / digest
        assert stored.read_text() == f"result {seed}\n", said
    assert outputs_of(rig, "stored") == {f"result-{seed}.txt": f"result {seed}\n" for seed in (1, 2, 3)}
    rig.assert_clean()


# make demo-jug


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the demo works, with a space in its name; what a failed test leaves there is ended."""
    made = tmp_path / "the demo"
    yield made
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("JJ_HOME") == str(made / "jar"):
                process.kill()


def run_demo(directory: Path, *options: str) -> Result:
    command = [sys.executable, str(EXAMPLES / "demo.py"), *options, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)


def test_the_demo_of_described_jobs_counts_what_one_process_counts(directory: Path, tmp_path: Path) -> None:
    texts = tmp_path / "the texts"
    texts.mkdir()
    for number in range(12):
        (texts / f"it's {number}.txt").write_text("a word\nor\ftwo\n" * number + "and an end\n")
    (texts / "packed.gz").write_bytes(b"\x1f\x8b\0\0")
    result = run_demo(directory, "--source", str(texts), "--jobs", "5")
    assert result.returncode == 0, result.stdout + result.stderr
    words = sum(4 * number + 3 for number in range(12))
    assert f"{words} words, as a direct count says; 5 outputs stored" in result.stdout
    stored = sorted(path.name for path in (directory / "jar" / "storage" / "counts").iterdir())
    assert stored == [f"counts-{number:02}.txt" for number in range(5)]
    assert len([path for path in (directory / "jar" / "software").iterdir() if path.is_dir()]) == 1


def test_a_demo_whose_job_fails_says_why_and_leaves_nothing_running(directory: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text("one two\n")
    broken = tmp_path / "examples"
    shutil.copytree(EXAMPLES.parent, broken)
    (broken / "jug" / "wordcount" / "bin" / "count_share").write_text("#!/bin/sh\necho no words today\nexit 3\n")
    # A described job is run again three times, the last time after more than a minute: here it is not.
    script = broken / "jug" / "demo.py"
    script.write_text(script.read_text().replace('batch {",\n', 'batch {",\n        "  retries = 0",\n'))
    command = [sys.executable, str(script), "--source", str(texts), "--jobs", "1", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 1, result.stdout
    assert "no words today" in result.stderr and "bin/jobjar show" in result.stderr
    assert "Traceback" not in result.stderr
