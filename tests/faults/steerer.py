"""What people do with the jobs of a storm meanwhile: cancel, hold, release, retry, move, on any node; some are killed at that.

A priority is part of a name, and a removed file is gone; the verdict goes by names and files, so these two are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.faults.nodes import Node
from tests.rig import BIN

if TYPE_CHECKING:
    from tests.faults.storm import Storm

VERBS = ("cancel", "hold", "release", "retry", "move")
_PAUSE_S = 0.1
_KILLED = 0.25  # of the calls


class Steerer:
    """Does verbs to jobs that were submitted, in a thread of its own, and counts its calls by verb."""

    def __init__(self, storm: Storm, seed: int) -> None:
        self.storm = storm
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        # Jobs that may have run without their prerequisites.
        self.let_go: set[str] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._steer_on, name="steerer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """End, and let go on whatever is held now."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(120)

    def release_all(self, node: Node) -> None:
        """Release the jobs in limbo that were submitted, also those of which a killed hold has not said why; but not those that
        wait for others."""
        submitted = self.storm.submitter.submitted
        names = [name for name in os.listdir(self.storm.layout.limbo) if name in submitted]
        if any(name in self.storm.submitter.prerequisites for name in names):
            said = node.run("jobjar", "list", "--state", "dependent", "--limit", "0", "--format", "json")
            if said is None or said.status != 0:
                return
            waiting = {job["name"] for job in json.loads(said.output)["jobs"]}
            names = [name for name in names if name not in waiting]
        if names:
            self.let_go.update(names)
            node.run("jobjar", "release", *names)

    def _steer_on(self) -> None:
        while not self._is_over.wait(self.random.uniform(0, 2 * _PAUSE_S)):
            with contextlib.suppress(OSError):
                self._steer_some()

    def _find(self, verb: str) -> list[str]:
        """Jobs that the verb is for, by where they are now; the newest of those that have not ended."""
        layout = self.storm.layout
        submitted = list(self.storm.submitter.submitted)
        ended = set(os.listdir(layout.completed))
        if verb == "retry":
            return [name for name in submitted[-60:] if name in ended]
        if verb == "release":
            held = set(os.listdir(layout.limbo))
            return [name for name in submitted if name in held]
        return [name for name in submitted if name not in ended][-60:]

    def _steer_some(self) -> None:
        verb = self.random.choice(VERBS)
        names = self._find(verb)
        if not names:
            return
        words = [verb, *self.random.sample(names, min(len(names), self.random.randint(1, 8)))]
        words += [self.random.choice(("SLOW", "OTHER", ""))] if verb == "move" else []
        if verb in ("release", "retry"):
            self.let_go.update(words)
        node = self.random.choice(self.storm.nodes)
        call_verb(self.storm, node, self.random, self.counts, words)


def call_verb(
    storm: Storm, node: Node, rng: random.Random, counts: Counter[str], words: Sequence[str], what: str = ""
) -> None:
    """Do a verb to jobs or `what` on a node, if it is up; some calls are killed. Counts it."""
    program = node.start(str(BIN / "jobjar"), *words)
    if program is None:
        return
    verb = words[0]
    if rng.random() < _KILLED:
        verb = f"{verb}, killed"
        time.sleep(rng.uniform(0.05, 1.0))
        node.kill_programs_of(program)
    said = node.finish(program, " ".join(words)[:200])
    counts[verb] += 1
    if said.status not in (0, 1) and "killed" not in verb:
        storm.note(f"{verb}{what}: {said.errors.strip()}")
