"""Arrays in a storm: what is submitted, what people do with it, and the verdict by journals and by a log of each index's runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar.arrays.definition import read_definition
from jobjar.arrays.indexes import range_in_name
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.shared_disk.contents import Unreadable
from tests.faults.steerer import call_verb

if TYPE_CHECKING:
    from tests.faults.storm import Storm
    from tests.faults.verdict import Dump

VERBS = ("hold", "release", "retry")
_CHUNK = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-z]{12}\+")
_TASKS = (60, 200)
# Of ten tasks one always fails, and one fails when it runs first; that one is tried again.
_FAILS, _FAILS_FIRST = 3, 7
_CANCELLED = OUTCOMES.index("cancelled")
# How often an array follows an earlier one that is large enough.
_FOLLOWS = 0.5


class End(NamedTuple):
    """A final end of a task, as a journal has it."""

    life: int
    ended_ms: int
    chunk: str
    attempt: int
    worker_uid: str
    outcome: int


class Arrays:
    """The arrays of a storm. `submitted` has those whose submission said their ids; any other that is there counts too."""

    def __init__(self, storm: Storm, seed: int) -> None:
        self.storm = storm
        self.random = random.Random(seed)
        self.log = storm.directory / "tasks"
        self.marks = storm.directory / "marks"
        self.submitted: list[str] = []
        # How many tasks each has; and which follows which.
        self.sizes: dict[str, int] = {}
        self.follows: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def prepare(self) -> None:
        self.log.touch()
        self.marks.mkdir()

    def submit(self, large: int = 0) -> None:
        """Submit an array on some node; it may be refused, or its node be down. One of `large` tasks has chunks of the usual
        size. Some follow an earlier one, task by task."""
        tasks, rng = large or self.random.randint(*_TASKS), self.random
        first = next((uid for uid, count in rng.sample([*self.sizes.items()], len(self.sizes)) if count >= tasks), None)
        at_once = rng.choice(("", "", "%2", "%5"))
        mark = f'"{self.marks}/$JJ_ARRAY_ID.$1"'
        script = (
            f'echo "$JJ_ARRAY_ID $1" >> "{self.log}"; {"" if large else f"sleep 0.0{rng.randint(1, 5)};"} '
            f"case $1 in *{_FAILS}) exit 3;; *{_FAILS_FIRST}) test -e {mark} || {{ touch {mark}; exit 4; }};; esac"
        )
        words = ["--array", f"1-{tasks}{at_once if not large else ''}"]
        words += [] if large else ["--chunk", str(rng.choice((tasks, tasks // 4, 7)))]
        words += ["--after-each", first] if first is not None and (large or rng.random() < _FOLLOWS) else []
        words += ["--retries", "1", "--retry-delay", rng.choice(("0", "0.3"))]
        words += [*(["--category", rng.choice(("SLOW", "OTHER"))] if rng.random() < 0.4 else []), script]
        said = rng.choice(self.storm.nodes).run("jobjar", "submit", *words)
        if said is not None and said.status == 0:
            uid = said.output.strip()
            self.submitted.append(uid)
            self.sizes[uid] = tasks
            if "--after-each" in words:
                self.follows[uid] = str(first)
        elif said is not None:
            self.storm.note(f"submit --array: {said.errors.strip()}")

    def steer(self) -> None:
        """What people do with an array: hold, release, retry what failed. Some are killed at it."""
        if not self.submitted:
            return
        verb, array = self.random.choice(VERBS), self.random.choice(self.submitted)
        node = self.random.choice(self.storm.nodes)
        call_verb(self.storm, node, self.random, self.counts, [verb, array], " of an array")

    # When all is healed

    def known(self) -> list[str]:
        """All arrays that are there: each was submitted, whatever its submission said."""
        found = []
        for uid in sorted(os.listdir(self.storm.layout.batches)):
            with contextlib.suppress(Unreadable, OSError):
                found.append(read_definition(self.storm.layout, uid).uid)
        return found

    def let_go_on(self) -> bool:
        """Release what is held, run again what was cut short. Returns whether all tasks of all arrays have ended."""
        layout, node = self.storm.layout, self.storm.nodes[0]
        held = [name for name in os.listdir(layout.limbo) if _CHUNK.match(name) and range_in_name(name) is not None]
        if held:
            said = node.run("jobjar", "list", "--chunks", "--state", "dependent", "--limit", "0", "--format", "json")
            waiting = {job["name"] for job in json.loads(said.output)["jobs"]} if said is not None else set(held)
            node.run("jobjar", "release", *[name for name in held if name not in waiting])
        if held or self._are_chunks_left():
            return False
        ends = read_ends(self.storm)
        cut_short = [uid for uid in self.known() if set(ends[uid]) != set(read_definition(layout, uid).indexes)]
        for uid in cut_short:
            said = node.run("jobjar", "retry", uid)
            if said is not None and said.status:
                self.storm.note(f"retry of an array: {said.errors.strip()}")
        return not cut_short

    def _are_chunks_left(self) -> bool:
        from jobjar.shared_disk.listing import list_jars

        layout = self.storm.layout
        if any(os.path.isdir(f"{layout.workers}/{worker}/sharing") for worker in os.listdir(layout.workers)):
            return True
        return any(_CHUNK.match(os.path.basename(place)) for place in list_jars(layout, False))


def read_ends(storm: Storm) -> dict[str, dict[int, list[End]]]:
    """The final ends of all tasks, by array and index, from all journals."""
    from jobjar.ledger.fold import journal_paths
    from tests.faults.verdict import entries_of

    found: dict[str, dict[int, list[End]]] = defaultdict(lambda: defaultdict(list))
    for path in journal_paths(storm.layout):
        for entry in entries_of(path):
            if entry["entry"] != "tasks":
                continue
            for row in entry["ended"]:
                outcome, is_retried = [*row[8:10], *(None, None)][:2]
                if not is_retried:
                    outcome = int(row[1] != 0) if outcome is None else outcome
                    about = (entry["job"], entry["attempt"], entry["worker_uid"])
                    end = End(entry.get("life", 0), entry["at_ms"] + row[2], *about, outcome)
                    found[entry["array"]][row[0]].append(end)
    return found


def judge_arrays(storm: Storm, ledger: Dump) -> tuple[dict[str, Any], list[str]]:
    """The counts of a storm's arrays, and what is wrong with them: tasks that have no end, or another than the first final one of
    their last life; that did not run as often as they ended; that succeeded and must not, or the reverse."""
    arrays = storm.arrays
    runs = Counter(tuple(line.split()) for line in arrays.log.read_text(encoding="utf-8").splitlines())
    ends = read_ends(storm)
    stands = {(row[0], row[1]): row for row in ledger["task"]}
    uids = arrays.known()
    lost, undone, wrong, unrun = [], [], [], []
    tasks = 0
    for uid in uids:
        for index in read_definition(storm.layout, uid).indexes:
            tasks += 1
            task, row, journaled = f"{uid}[{index}]", stands.get((uid, index)), ends[uid][index]
            if row is None or not journaled:
                lost.append(task)
                continue
            last = max(end.life for end in journaled)
            first = min(end[1:] for end in journaled if end.life == last)
            if (row[2], row[5]) != (last, first[0]):
                undone.append(f"{task}: {row[2:6]} in the ledger, {last}, {first} in the journals")
            if runs[(uid, str(index))] < len({end for end in journaled if end.outcome != _CANCELLED}):
                unrun.append(task)
            partner = ends[arrays.follows[uid]][index] if uid in arrays.follows else []
            if row[3] == _CANCELLED and all(end.outcome == 0 for end in partner):
                wrong.append(f"{task}: cancelled, though its partner did not fail")
            if (row[3] == 0) == (index % 10 == _FAILS) and row[3] in (0, 1) and index % 10 != _FAILS_FIRST:
                wrong.append(f"{task}: outcome {row[3]}")
    lost += [uid for uid in arrays.submitted if uid not in uids]
    problems = [
        f"{len(found)} tasks {what}: {found[:5]}"
        for what, found in (
            ("lost", lost),
            ("whose end was undone", undone),
            ("ended more often than they ran", unrun),
            ("ended as they cannot", wrong),
        )
        if found
    ]
    counts = {
        "arrays": len(uids),
        "arrays_that_follow": len(arrays.follows),
        "tasks": tasks,
        "tasks_lost": len(lost),
        "tasks_ended_twice": len(undone) + len(unrun),
        "tasks_run_more_than_once": sum(count > 1 for count in runs.values()),
        "arrays_steered": dict(arrays.counts.most_common()),
    }
    return counts, problems
