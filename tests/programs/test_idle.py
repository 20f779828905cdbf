"""What workers with nothing to do cost a network disk: counted in system calls on its files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.rig import BIN, Rig, heed_signals, wait_until

# What reaches the server; to close a file, or to ask for the status of an open one, does not.
CALLS = (
    "trace=open,openat,stat,lstat,newfstatat,statx,access,faccessat2,utimensat,getdents64,pread64,rename,unlink,symlink"
)
ENOUGH = 12


class Traced:
    """A worker on its own, and what it asks of the jar's disk, in order: (call, path in the jar)."""

    def __init__(self, rig: Rig, path: Path) -> None:
        self._home, self._path = str(rig.home), path
        command = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-e", CALLS, "-o", str(path)]
        self.process = subprocess.Popen(
            [*command, str(BIN / "start_worker"), "--foreground"],
            env=rig.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=heed_signals,
        )
        assert self.process.stdout is not None
        self.name = self.process.stdout.readline().strip()

    def asked(self) -> list[tuple[str, str]]:
        found = []
        for line in self._path.read_text().splitlines():
            match = re.search(rf"(\w+)\(.*?{re.escape(self._home)}/?([^\">,]*)", line)
            if match and not re.search(r"\((\d+)<[^>]*>, \"\"", line):
                found.append((match.group(1), match.group(2)))
        return found

    def asked_last(self) -> list[tuple[str, str]]:
        """What was asked since the worker did more than to look at directories and to beat."""
        asked = self.asked()
        last = max(
            (number for number, (call, _) in enumerate(asked) if call not in ("openat", "utimensat")), default=-1
        )
        return asked[last + 1 :]

    def kill(self) -> None:
        for pid in (int(self.name.rpartition(".")[2]), self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_idle_workers_look_at_the_directories_of_all_once_a_node_and_at_nothing_else(rig: Rig, tmp_path: Path) -> None:
    rig.environment |= {
        "JJ_LEDGER_HOME": str(tmp_path / "home"),
        "JJ_POLL_TIME": "0.05",
        "JJ_PAUSE_TIME": "0.4",
        "JJ_HEARTBEAT_TIME": "1",
    }
    for number in range(20):
        (rig.home / f"ledger/journals/node{number}.aaaaaaaa.jsonl").write_text("")
    rig.submit("true")
    workers = [Traced(rig, tmp_path / f"trace{number}") for number in range(2)]
    try:
        own = {worker.name: f"workers/{worker.name}" for worker in workers}

        def looks() -> list[Counter[tuple[str, str]]]:
            return [Counter(worker.asked_last()) for worker in workers]

        # For long enough each does nothing else: full looks are 30 pauses apart then.
        counted = wait_until(
            lambda: (
                (seen := looks())
                and all(s["openat", own[w.name]] >= ENOUGH for s, w in zip(seen, workers, strict=True))
                and seen
            ),
            "workers that hardly look",
        )
        everything: Counter[tuple[str, str]] = sum(counted, Counter())
        paths = {path for _, path in everything}
        beats = {f"{path}/heartbeat" for path in own.values()}
        category = f"unclaimed/{workers[0].name.rpartition('.')[0]}"  # which is missing
        assert paths <= {"unclaimed", category, "workers", *own.values(), *beats}, everything
        assert {call for call, path in everything if path in beats} <= {"utimensat"}, everything
        # Their own directories each of them looks at, those of all only one of the two.
        own_looks = sum(everything["openat", path] for path in own.values())
        assert everything["openat", category] < 0.3 * own_looks, everything
        assert everything["openat", "unclaimed"] + everything["openat", "workers"] < 0.9 * 2 * own_looks, everything
        # And nothing of that keeps a worker from what comes.
        rig.drop("by_hand", "#!/bin/sh\n")
        wait_until(lambda: len(rig.names("completed")) == 2, "the job's end")
        (rig.home / "workers/STOP_ALL").touch()
        for worker in workers:
            assert worker.process.wait(timeout=30) == 0
    finally:
        for worker in workers:
            worker.kill()
