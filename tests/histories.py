"""Entries that a few jobs leave in the journals of several ledger homes, for tests of folding."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from jobjar.journal.read import Entry
from jobjar.layout import held_place, unclaimed_place

ENDINGS = ("completed", "retried", "recovered", "recovered twice", "lease lost", "returned", "held", "still running")
PHASES = ("stage_in", "run", "poll", "stage_out", "store")
SAYINGS: tuple[dict[str, Any], ...] = (
    {},
    {"retries": 3},
    {"retries": 1, "retry_delay_s": 2.0, "time_limit_s": 9.0},
    {"kind": "described", "batch": "wc", "seed": 17, "retries": 3},
    {"given": {"dir": "/data", "tags": ["x"], "env": {"A": "1"}}},
)
WORKERS = {"rain.7": "wkr1", "rain.8": "wkr2", "sun.7": "wkr3"}


class History:
    """What happens to one job, in order. `clock` is the disk's; two moves may fall on the same tick."""

    def __init__(self, draw: Any, uid: str, clock: float) -> None:
        self.draw = draw
        self.uid = uid
        self.clock = clock
        self.name = f"20260102T030405Z-{uid}-rain-1-1-ann.{draw(st.integers(-2, 2))}"
        self.category = draw(st.sampled_from(["", "LINUX"]))
        self.place = f"limbo/{self.name}"
        self.number = 0
        self.entries: list[Entry] = []
        self.late: list[Entry] = []

    def add(self, kind: str, /, **fields: Any) -> None:
        self.entries.append({"entry": kind, "job": self.uid, **fields})

    def tick(self) -> float:
        self.clock += self.draw(st.sampled_from([0.0, 0.004, 1.5]))
        return round(self.clock, 6)

    def move(self, to: str, reason: str, by: str, **fields: Any) -> None:
        self.number += 1
        self.add(
            "moved",
            number=self.number,
            **{"from": self.place, "to": to},
            moved_at=self.tick(),
            reason=reason,
            by=by,
            **fields,
        )
        self.place = to

    def submit(self) -> None:
        """Either by submit_job, or by hand: then its first claim says what is known of it."""
        if self.draw(st.booleans()):
            fields = self.draw(st.sampled_from(SAYINGS))
            mark = self.draw(st.sampled_from([{}, {"file": f"7.20.1.{self.name}"}, {"file": "7.20.1.the same"}]))
            about = {"name": self.name, "category": self.category, "submitter": "ann", **mark, **fields}
            self.add("submitted", submitted_at=self.tick(), **about)
            self.move(unclaimed_place(self.category, self.name), "submitted", "ann")
        else:
            self.place = unclaimed_place(self.category, self.name)

    def run(self, attempt: int) -> str:
        """One claim and what came of it."""
        worker = self.draw(st.sampled_from(sorted(WORKERS)))
        who = {"attempt": attempt, "worker": worker, "worker_uid": WORKERS[worker]}
        name = self.place.rpartition("/")[2]
        said = self.draw(st.sampled_from(SAYINGS))
        found = {"found": {"submitter": "bob", "submitted_at": self.tick(), "category": self.category, **said}}
        # A node that saw the file before it read the journals says what it found, of a submitted job too.
        is_quick = self.number == 1 and self.draw(st.booleans())
        self.move(
            held_place(worker, self.category, name),
            "claimed",
            worker,
            worker_uid=WORKERS[worker],
            attempt=attempt,
            **(found if self.number == 0 or is_quick else {}),
        )
        self.add("started", **who, pid=100 + attempt, pid_started=7.0)
        self.go_through_phases(who)
        ending: str = self.draw(st.sampled_from(ENDINGS))
        back = unclaimed_place(self.category, name if self.draw(st.booleans()) else f"{name}~2")
        if ending == "completed":
            self.add("stored", **who, source_name="out.h5", storage_name="a.h5", storage_size=9)
            if self.draw(st.booleans()):  # told again by who went on with storing, who knows more, or less
                known = self.draw(
                    st.sampled_from([{}, {"storage_size": 9, "storage_md5": "0f", "storage_hfn": "sun:/b"}])
                )
                self.add("stored", **who, source_name="out.h5", **known)
            self.end(who, "succeeded", True, exit_status=0)
            self.move(f"completed/{name}", "completed", worker, category=self.category)
        elif ending == "retried":
            self.end(who, "failed", False, exit_status=3)
            self.move(back, "retried", worker, category=self.category, not_before=self.clock + 60)
        elif ending == "returned":
            self.end(who, "interrupted", False, signal=15)
            self.move(back, "returned", worker, category=self.category)
        elif ending.startswith("recovered"):
            self.end(who, "stranded", False, message="its worker died")
            if ending.endswith("twice"):
                self.clock -= self.draw(st.sampled_from([0, 0.001]))  # the disk gives both the same time now and then
                self.end(who, "stranded", False, message="its worker died, says another")
            self.move(back, "recovered", worker, category=self.category)
        elif ending == "lease lost":
            self.end(who, "stranded", False, message="its heartbeat stopped")
            self.move(back, "recovered", worker, category=self.category)
            # Its worker comes back much later and finds the file gone.
            before, self.entries = self.entries, []
            self.end(who, "succeeded", True, exit_status=0, pid=100 + attempt, pid_started=7.0)
            self.end(who, "lost", False, exit_status=0, message="another node took the job back meanwhile")
            self.late += self.entries
            self.entries = before
        elif ending == "held":
            self.move(
                f"limbo/{name}", "held", worker, worker_uid=WORKERS[worker], held_reason="bad", category=self.category
            )
        return ending

    def go_through_phases(self, who: dict[str, Any]) -> None:
        """Some of the phases of a described job's attempt, the last perhaps cut short; progress and warnings between them."""
        for phase in PHASES[: self.draw(st.integers(0, len(PHASES)))]:
            began_at = self.tick()
            if self.draw(st.booleans()):
                self.add("phase", **who, phase=phase, began_at=began_at)
            if phase == "run":
                for ordinal in range(1, self.draw(st.integers(0, 3)) + 1):
                    value = self.draw(st.sampled_from([9, "10", "0.5", "much"]))
                    variables = {"work_done": value, "stage": phase}
                    # A clock may be set back; and of before there is no ordinal.
                    ordinals = self.draw(st.sampled_from([{}, {"ordinals": {"work_done": ordinal}}]))
                    told_at = self.tick() - self.draw(st.sampled_from([0.0, 5.0]))
                    self.add("variables", **who, variables=variables, told_at=told_at, **ordinals)
            if phase == "stage_out" and self.draw(st.booleans()):
                self.add("variables", **who, variables={"loss": 0.25, "n": who["attempt"]})
            if self.draw(st.booleans()):
                how = self.draw(st.sampled_from([{}, {"exit_status": 0}, {"exit_status": 3, "message": "disk full"}]))
                self.add("phase", **who, phase=phase, began_at=began_at, ended_at=self.tick(), **how)
                if self.draw(st.booleans()):  # and found to have ended by another
                    self.add("phase", **who, phase=phase, began_at=began_at, ended_at=self.tick(), message="cut short")
        if self.draw(st.booleans()):
            self.add("files", **who, files={"output": "/data/out~2.txt", "error": "/data/err.txt"})
            self.add("warned", **who, warnings=["jug_monitor.vars, line 2: no =", "a link in output/"])
        if self.draw(st.booleans()):  # at its beginning
            self.add("warned", **who, first=-1000, warnings=["line 3 of its file: it does not count"])

    def end(self, who: dict[str, Any], outcome: str, final: bool, **fields: Any) -> None:
        self.clock += 0.001  # the end of an attempt is timed to the microsecond
        self.add("ended", **who, ended_at=round(self.clock, 6), final=final, outcome=outcome, wall_time_s=0.5, **fields)


@st.composite
def batch_entries(draw: Any) -> list[Entry]:
    """What is told of a batch: its submission, edits and abortion, perhaps on one tick of the clock, and its throttling."""
    entries: list[Entry] = []
    for name in draw(st.sets(st.sampled_from(["wc", "sr"]))):
        said = {
            "entry": "batch",
            "batch": name,
            "submitter": "ann",
            "submitted_at": 999.5,
            "description": "seeds = 1-9",
        }
        changes: list[dict[str, Any]] = [{"jobs": 9}, {"jobs": 20, "notes": "widened"}, {"is_aborted": True}]
        for change in draw(st.lists(st.sampled_from(changes), max_size=3)):
            entries.append({**said, "changed_at": draw(st.sampled_from([1000.0, 1000.004, 1001.5])), **change})
        for failures in draw(st.lists(st.integers(0, 12), max_size=3)):
            told_at = draw(st.sampled_from([1000.0, 1002.0]))
            until = told_at + 5.0 * failures if failures else 0.0
            entries.append(
                {"entry": "throttle", "batch": name, "told_at": told_at, "until": until, "failures": failures}
            )
    return entries


@st.composite
def histories(draw: Any) -> list[Entry]:
    """The entries of one to four jobs and of their workers, in an order in which they may have been written."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(1, 4))):
        history = History(draw, f"abcdefghjkm{number}", 1000.0)
        history.submit()
        for attempt in range(1, draw(st.integers(1, 5)) + 1):
            if history.run(attempt) in ("completed", "held", "still running"):
                break
        entries += history.entries + history.late
    entries += draw(batch_entries())
    for name, uid in WORKERS.items():
        node, _, pid = name.partition(".")
        who = {"entry": "worker", "worker": name, "worker_uid": uid, "node": node, "pid": int(pid)}
        about = {"boot_id": "b", "process_started": 5.0, "user": "ann", "version": "0.1.0", "started_at": 900.0}
        entries.insert(0, {**who, **about, "categories": ["LINUX"]})
        if draw(st.booleans()):
            entries.append({**who, "ended_at": 2000.0, "end_reason": "stopped"})
            if draw(st.booleans()):
                entries.append({**who, "ended_at": 2001.5, "end_reason": "died"})
    return entries
