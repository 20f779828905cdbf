"""The scenario of two hosts on a network disk, for whatever the disk is: jobs from both, the server away, a host killed whole.

What a job did it writes into a log on the same disk, outside the jar: one file a worker, closed after each line, so that a
line that was written has reached the server when its host dies.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.hosts.rigs.space import Running
from tests.rig import BIN, wait_until

PATIENCE_S = 600.0
# So much of what a failed program wrote is shown.
_SHOWN = 10_000
_DUMP = """
import json
from jobjar.jar import open_jar
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.rebuild import dump_ledger
jar = open_jar()
with jar.ledger.writing() as connection:
    fold_journals(connection, jar.layout)
    print(json.dumps(dump_ledger(connection)))
"""
# All processes of this jar but the shell itself.
_KILL_ALL = """
for p in /proc/[0-9]*; do
  test $p = /proc/$$ || ! tr '\\0' '\\n' <$p/environ | grep -qx "JJ_HOME=$JJ_HOME" || kill -9 ${p#/proc/}
done 2>/dev/null
"""
# The first attempt of every tenth job fails, and is retried.
_SUBMIT = """
import json, sys
import jobjar
count, log = int(sys.argv[1]), sys.argv[2]
line = f"echo $JJ_JOB $JJ_ATTEMPT >> {log}/$JJ_WORKER"
some = [{"command": line, "priority": number % 3} for number in range(count)]
for job in some[::10]:
    job["command"] += "; test $JJ_ATTEMPT -gt 1"
    job["retries"] = 3
print(json.dumps(jobjar.submit_jobs(some)))
"""


class Machine(Protocol):
    """A computer of a rig."""

    name: str

    def start(self, *words: str, environment: Mapping[str, str] | None = None) -> Running: ...

    def kill(self) -> None: ...


class ProgramFailed(AssertionError):
    """A program of a host ended as it should not have: which, how, and what it said, the end of that in the first line."""

    def __init__(self, host: str, words: Sequence[str], status: int | None, output: str, errors: str) -> None:
        last = (errors or output).strip().rpartition("\n")[2]
        super().__init__(
            f"{words[0]} on {host} exited with {status}: {last[-200:]}\n{shlex.join(words)}\n"
            f"standard output:\n{output[-_SHOWN:]}\nstandard error:\n{errors[-_SHOWN:]}"
        )


class Host:
    """A host that uses the jar: a machine, and the settings of its programs. Its ledger home is on its own disk."""

    def __init__(self, machine: Machine, jar: Path, ledger_home: str, **changes: str) -> None:
        self.machine = machine
        self.name = machine.name
        self.environment = {
            "PATH": f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(Path(ledger_home).parent),
            "JJ_HOME": str(jar),
            "JJ_LEDGER_HOME": ledger_home,
            "JJ_PAUSE_TIME": "2",
            "JJ_GRACE_TIME": "1",
            "JJ_EXIT_ON_FAILURE": "no",
            **changes,
        }
        self._said_by_workers = f"{ledger_home}.workers.err"
        self._workers: list[Running] = []

    def start(self, *words: str) -> Running:
        return self.machine.start(*words, environment=self.environment)

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program to its end; returns what it wrote to standard output."""
        process = self.start(*words)
        output, errors = process.communicate(timeout=PATIENCE_S)
        if (check and process.returncode != 0) or "Traceback" in output + errors:
            raise ProgramFailed(self.name, words, process.returncode, output, errors)
        return output

    def start_workers(self, count: int) -> None:
        # Into a file of the host's own disk: nobody reads from a pipe while the storm goes on.
        words = ["sh", "-c", 'exec "$@" 2>>"$0"', self._said_by_workers, "start_worker", "--foreground"]
        started = [self.start(*words) for _ in range(count)]
        for process in started:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith(f"{self.name}."):
                raise self._worker_failed(process, line)
        self._workers += started

    def stop_workers(self) -> None:
        self.run("stop_worker", self.name, check=False)
        for process in self._workers:
            output, _ = process.communicate(timeout=PATIENCE_S)
            if process.returncode != 0:
                raise self._worker_failed(process, output)
        self._workers.clear()

    def _worker_failed(self, process: Running, output: str) -> ProgramFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            output += process.communicate(timeout=20)[0]
        errors, _ = self.start("cat", self._said_by_workers).communicate(timeout=60)
        return ProgramFailed(self.name, ("start_worker",), process.returncode, output, errors)

    def kill(self) -> None:
        """The power fails."""
        self.machine.kill()
        for process in self._workers:
            process.kill()
            process.communicate()
        self._workers.clear()

    def kill_workers(self) -> None:
        """End the workers that were started here, with their jobs."""
        if self._workers:
            self.start("sh", "-c", _KILL_ALL).communicate(timeout=60)
        for process in self._workers:
            process.kill()
            process.communicate()
        self._workers.clear()


class Storm:
    """Jobs of two hosts in one jar, and what became of them."""

    def __init__(self, first: Host, second: Host, log: Path) -> None:
        self.first, self.second = first, second
        self.jar = first.environment["JJ_HOME"]
        self.log = log
        self.names: list[str] = []
        first.run("mkdir", "-p", str(log))
        first.run("jobjar", "init", self.jar)

    def submit(self, host: Host, count: int) -> None:
        self.names += json.loads(host.run("python", "-c", _SUBMIT, str(count), str(self.log)))

    def completed(self) -> list[str]:
        return self.second.run("ls", f"{self.jar}/completed").split()

    def wait_for(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        wait_until(lambda: len(self.completed()) >= count, f"{count} completed jobs", timeout_s)

    def end_workers(self) -> None:
        """Have no worker stay behind when the test is over, however it ended."""
        for host in (self.first, self.second):
            host.kill_workers()

    def server_goes_away(self, stop: Callable[[], None], start: Callable[[], None]) -> None:
        """The server stops; when a host has seen that nothing answers any more, it starts again."""
        stop()
        try:
            probe = ["timeout", "-s", "KILL", "3", "touch", f"{self.log}/../probe"]
            process = self.second.start(*probe)
            assert process.wait(60) != 0, "the disk still answers"
        except subprocess.TimeoutExpired:
            pass  # not even a kill gets it out of its wait for the server
        finally:
            start()

    def assert_nothing_lost(self) -> None:
        """Each job completed exactly once and ran at least once, both homes agree and are what a rebuild makes."""
        assert sorted(self.completed()) == sorted(self.names)
        for host in (self.first, self.second):
            host.stop_workers()
            host.run("recover_jobs")
        ran = Counter(line.split()[0] for line in self.second.run("sh", "-c", f"cat {self.log}/*").splitlines())
        assert set(ran) == set(self.names)
        dumps = [json.loads(host.run("python", "-c", _DUMP)) for host in (self.first, self.second)]
        for table, rows in dumps[0].items():
            others = dumps[1][table]
            assert rows == others, (
                table,
                [row for row in rows if row not in others],
                [row for row in others if row not in rows],
            )
        for host in (self.first, self.second):
            host.run("jobjar", "check")
            host.run("jobjar", "rebuild")
            host.run("jobjar", "check")
        self._assert_history(dumps[0])

    def _assert_history(self, dump: dict[str, list[list[object]]]) -> None:
        """Each job has one attempt that completed it, and its claims and its end are in the history."""
        # Columns of `attempt`: job, number, worker, worker's id, started, pid, pid's start, ended, outcome, is final.
        final = Counter(str(row[0]) for row in dump["attempt"] if row[9] and row[8] == "succeeded")
        jobs = {str(row[0]) for row in dump["job"]}
        odd = {uid for uid in {*jobs, *final} if final[uid] != 1}
        assert not odd, [row for table in ("attempt", "move") for row in dump[table] if row[0] in odd]
        completions = Counter(str(row[0]) for row in dump["move"] if str(row[4]).startswith("completed/"))
        assert max(completions.values()) == 1
