"""What the storm submits, and how: all kinds of jobs, by all ways into a jar, whatever is broken at the time.

A job counts as submitted when its submission said its name, or when its file was moved into the unclaimed jar by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from jobjar.job_file.names import id_in_name
from tests.rig import BIN

if TYPE_CHECKING:
    from tests.faults.storm import Storm

KINDS = ("after", "after_any", "after_failed")
CATEGORIES = ("", "", "", "SLOW", "OTHER")
# Submits what its first word says, as JSON, and prints the names of those that are in the jar.
_SUBMIT_JOBS = """
import json, sys
import jobjar
try:
    names = jobjar.submit_jobs(json.loads(sys.argv[1]))
except jobjar.JarError as error:
    names = error.fields.get("submitted", [])
    print(error, file=sys.stderr)
print("\\n".join(names))
"""

_SUBMIT_ONE_BY_ONE = """
import json, sys
import jobjar
try:
    for _ in range(3):
        print(jobjar.submit_job(**json.loads(sys.argv[1])), flush=True)
except jobjar.JarError as error:
    print(error, file=sys.stderr)
"""

# After so many jobs without a dependent among them, some are submitted.
_FIRST = 40


class Submitter:
    """Submits jobs in a thread of its own, as many as `wanted` says at the time."""

    def __init__(self, storm: Storm, seed: int) -> None:
        self.storm = storm
        self.random = random.Random(seed)
        self.submitted: dict[str, str] = {}  # name: the outcome that it has to have; "" for any
        self.held: list[str] = []
        # What dependents wait for, by name: the ids of jobs, by how these have to end.
        self.prerequisites: dict[str, dict[str, list[str]]] = {}
        self.failed = 0
        self.wanted = 0
        self.is_over = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._submit_on, name="submitter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_s: float) -> bool:
        """Wait until everything is submitted; returns whether it is."""
        self.is_over = True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _submit_on(self) -> None:
        while True:
            if len(self.submitted) < self.wanted:
                try:
                    self._submit_some()
                except OSError:
                    self.failed += 1  # by hand, into a jar that is full or read-only
                    time.sleep(0.05)
                except Exception as error:
                    self.storm.complain(f"the submitter: {error!r}")
            elif self.is_over:
                return
            else:
                time.sleep(0.02)

    def _submit_some(self) -> None:
        left = self.wanted - len(self.submitted)
        way = self.random.choice(("program", "library", "library", "library", "by hand", "dependents"))
        if len(self.submitted) > _FIRST and not self.prerequisites:
            way = "dependents"  # in a short storm chance alone may choose none
        if way == "program":
            self._submit_by_program()
        elif way == "library":
            self._submit_by_library([self.make_job() for _ in range(min(left, self.random.randint(4, 40)))])
        elif way == "dependents":
            self._submit_by_library([self._make_dependent() for _ in range(min(left, self.random.randint(1, 8)))])
        else:
            for _ in range(min(left, self.random.randint(1, 6))):
                self._drop()

    def make_job(self) -> tuple[dict[str, Any], str]:
        """A job as keyword arguments of submit_job, and the outcome that it has to have."""
        job: dict[str, Any] = {"priority": self.random.choice((0, 0, 0, 5, -3, 12))}
        category = self.random.choice((*CATEGORIES, self.random.choice(self.storm.node_names)))
        if category:
            job["category"] = category
        # Those that write into the jar may fail there, and succeed or fail ("") as they should.
        say = f'echo "$JJ_JOB_ID $JJ_ATTEMPT $JJ_WORKER_ID $JJ_JOB" >> {self.storm.log}'
        kind = self.random.choices(
            ("quick", "sleeps", "long", "fails", "retried", "children", "writes"), (40, 35, 2, 5, 4, 5, 9)
        )[0]
        if kind == "quick":
            return {**job, "command": say}, "succeeded"
        if kind == "sleeps":
            return {**job, "command": f"{say}; sleep 0.{self.random.randint(1, 40):02}"}, "succeeded"
        if kind == "long":
            return {**job, "command": f"{say}; sleep {self.random.randint(2, 5)}"}, "succeeded"
        if kind == "fails":
            return {**job, "command": f"{say}; exit 3"}, "failed"
        if kind == "retried":
            return {**job, "command": f"{say}; exit 4", "retries": 2, "retry_delay": 0.3}, "failed"
        if kind == "children":
            return {**job, "command": f"{say}; sleep 300 & sleep 300 & echo two"}, ""
        return {**job, "command": f"{say}; echo output; echo more > file; mkdir directory"}, ""

    def _submit_by_program(self) -> None:
        job, outcome = self.make_job()
        words = ["--priority", str(job["priority"])]
        if "category" in job:
            words += ["--category", job["category"]]
        for name in ("retries", "retry_delay"):
            if name in job:
                words += ["--" + name.replace("_", "-"), str(job[name])]
        said = self.random.choice(self.storm.nodes).run("submit_job", *words, job["command"])
        if said is None:
            time.sleep(0.05)
        elif said.status == 0:
            self.submitted[said.output.strip()] = outcome
        else:
            self.failed += 1
            self.storm.note(f"submit_job: {said.errors.strip()}")

    def _make_dependent(self) -> tuple[dict[str, Any], str]:
        """A job that waits for some that were submitted lately, dependents among them."""
        job, outcome = self.make_job()
        ids = [uid for name in list(self.submitted)[-60:] if (uid := id_in_name(name)) is not None]
        for kind in self.random.sample(KINDS, self.random.randint(1, 2)):
            if ids:
                job[kind] = self.random.sample(ids, min(len(ids), self.random.randint(1, 3)))
        return job, outcome

    def _submit_by_library(self, jobs: list[tuple[dict[str, Any], str]]) -> None:
        count = len(jobs)
        node = self.random.choice(self.storm.nodes)
        said = node.run("python", "-c", _SUBMIT_JOBS, json.dumps([job for job, _ in jobs]))
        if said is None:
            time.sleep(0.05)
            return
        names = said.output.split()
        for name, (job, _) in zip(names, jobs, strict=False):
            if kinds := {kind: job[kind] for kind in KINDS if kind in job}:
                self.prerequisites[name] = kinds
        self.submitted.update(zip(names, (outcome for _, outcome in jobs), strict=False))
        if len(names) < count:
            self.failed += count - len(names)
            self.storm.note(f"submit_jobs, {len(names)} of {count}: {said.errors.strip()}")

    def _drop(self) -> None:
        """A submission by hand: a file written in limbo and moved to unclaimed."""
        job, outcome = self.make_job()
        self._dropped += 1
        header = "".join(f"#JJ {name} = {job[name]}\n" for name in ("retries", "retry_delay") if name in job)
        is_odd = self.random.random() < 0.03
        if is_odd:
            header = "#JJ no_such_attribute = 1\n"
        name = f"by-hand-{self._dropped}.{job['priority']}"
        home = self.storm.layout.home
        path = f"{home}/limbo/{name}"
        directory = self.storm.layout.category_directory(job.get("category", ""))
        os.makedirs(directory, exist_ok=True)
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\n{header}{job['command']}\n")
            os.chmod(path, 0o755)
            os.rename(path, f"{directory}/{name}")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        if is_odd:
            self.held.append(name)
        else:
            self.submitted[name] = outcome

    def submit_and_kill(self, rng: random.Random) -> bool:
        """A submission that is killed at a random moment; what it printed until then counts."""
        job, outcome = self.make_job()

        node = rng.choice(self.storm.nodes)
        program = node.start(str(BIN / "python"), "-c", _SUBMIT_ONE_BY_ONE, json.dumps(job))
        if program is None:
            return False
        time.sleep(rng.uniform(0.05, 0.6))
        node.kill_programs_of(program)
        said = node.finish(program, "a submission to be killed")
        # A name that was cut off in the pipe was not said.
        for name in said.output.splitlines(keepends=True):
            if name.endswith("\n"):
                self.submitted[name.strip()] = outcome
        return True
