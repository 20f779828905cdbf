"""One turn of a queue of pilots: look what became of those that are out, and submit what the waiting work needs.

The directory `turn/` decides which process takes the turn (a soft lock). The directory of a pilot, made by one rename under the
next number, decides which of two processes submits it, should both believe that they have the lock. It is there before the
batch system is asked, with the name by which the pilot is known. So a submission of which nobody saw the answer is looked up,
and not made again. DESIGN.md ("Pilots") has the write order, and what a kill at each step leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.layout import PilotPaths, PilotQueuePaths
from jobjar.pilots.all_systems import SYSTEMS
from jobjar.pilots.judge import (
    REFUSED,
    UNFIT,
    end_pilot,
    explain_pilot_end,
    is_failure,
    judge_pilot,
    was_of_use,
)
from jobjar.pilots.need import Need, find_need
from jobjar.pilots.pilot import (
    ENDED,
    INTENDED,
    RUNNING,
    WAITING,
    Pilot,
    numbers_in,
    open_pilots,
    read_pilot,
    write_pilot,
)
from jobjar.pilots.queue import CANCEL_ALL, QueueState, list_queues, note_failures, pause_queue, read_queue
from jobjar.pilots.script import make_request, make_script
from jobjar.pilots.systems import Known, NoAnswer, NotSubmitted, Seen, System
from jobjar.pilots.told import heal, tell_pilots, tell_queue
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.standing import Look
from jobjar.shared_disk.creating import temporary_of_nodes, temporary_path_of_node
from jobjar.shared_disk.files import list_if_there, look, make_directory, rename, replace_file
from jobjar.shared_disk.leftovers import find_leftovers
from jobjar.shared_disk.moves import rename_directory
from jobjar.shared_disk.soft_lock import release_soft_lock, renew_soft_lock, take_soft_lock
from jobjar.shared_disk.trees import remove_tree

# No call of a batch system takes half as long (systems.LONGEST_CALL_S), and the lock is renewed before each.
_ABANDONED_AFTER_S = 120.0
# A refusal comes at once. What takes longer may have been a time-out, after which the system may still take the pilot.
_AT_ONCE_S = 5.0
_BY_TURN = "check_pilots"
_DAY_S = 86_400.0
Say = Callable[[str], None]
Answer = TypeVar("Answer")


def take_turns(jar: Jar, say: Say, warn: Say, names: Sequence[str] | None = None) -> None:
    """Take a turn of each queue of pilots, or of those of these names. `say` takes what was done, `warn` what is wrong. Raises
    LedgerError, CannotUseJar, OSError."""
    queues = [queue for queue in list_queues(jar.layout) if names is None or queue.name in names]
    if not queues:
        return
    refresh_ledger(jar)
    for queue in queues:
        if not take_soft_lock(queue.paths.turn, jar.disk_now, _ABANDONED_AFTER_S):
            continue  # another process takes this turn
        try:
            now = read_queue(jar.layout, queue.name)
            if now is not None:
                _Turn(jar, now, say, warn).take()
        finally:
            release_soft_lock(queue.paths.turn)
    jar.mirror()


class _LostTurn(Exception):
    """Another process has taken this turn over."""


class _Turn:
    def __init__(self, jar: Jar, queue: QueueState, say: Say, warn: Say) -> None:
        self.jar, self.queue = jar, queue
        self.paths: PilotQueuePaths = queue.paths
        self.system: System | None = SYSTEMS.get(queue.plan.system)
        self.look_at = Look(jar)
        self._lock = os.stat(self.paths.turn).st_ino
        self._say, self._warn = say, warn

    def take(self) -> None:
        pilots = open_pilots(self.paths)
        tell_queue(self.jar, self.queue)
        heal(self.jar, pilots)
        self._discard_old()
        try:
            pilots = self._look(pilots)
            pilots = self._cancel_needless(pilots)
            if self.queue.removed is None and self.queue.paused is None:
                self._submit_needed(pilots)
        except NoAnswer as error:
            self._warn(f"{self.queue.name}: {self.queue.plan.system} cannot be asked now: {error}")
        except _LostTurn:
            self._warn(f"{self.queue.name}: another process has gone on with this turn")
            return
        tell_queue(self.jar, self.queue)
        if self.queue.removed is not None and not numbers_in(self.paths.open):
            self._remove()

    def _discard_old(self) -> None:
        """Remove what a killed turn of this node left half-made, and ended pilots as old as the workers that are not kept."""
        for name in find_leftovers(list_if_there(self.paths.open), rf"\.[0-9]+{temporary_of_nodes()}"):
            remove_tree(f"{self.paths.open}/{name}")
        kept_s = self.jar.settings.keep_workers_days * _DAY_S
        # The highest number stays: the next pilot has the next.
        for number in numbers_in(self.paths.ended)[:-1] if kept_s else ():
            path = f"{self.paths.ended}/{number}"
            status = look(path)
            if status is not None and status.st_mtime > self.look_at.now - kept_s:
                break
            remove_tree(path)

    # Looking

    def _look(self, pilots: Sequence[Pilot]) -> list[Pilot]:
        """Note what became of pilots; return those that are still out. Raises NoAnswer."""
        if not pilots:
            return []
        seen = self._poll(pilots)
        workers = {worker.pilot: worker for worker in self.look_at.workers if worker.pilot}
        now = self.jar.disk_now()
        judged = []
        for pilot in pilots:
            worker = workers.get(pilot.key)
            output = PilotPaths(f"{self.paths.open}/{pilot.number}").output
            new = pilot
            if pilot.state != ENDED:
                new = judge_pilot(pilot, seen.get(pilot.name), worker, self.look_at.hearing, now, output)
            one = seen.get(pilot.name)
            if one is not None and one.never and new.state == WAITING:
                self._cancel(one.id, is_running=False)
                new = end_pilot(new, UNFIT, now, f"{one.word} {one.reason}")
            judged.append((pilot, new))
        return self._note(judged)

    def _note(self, judged: Sequence[tuple[Pilot, Pilot]]) -> list[Pilot]:
        """Write and journal what is new of pilots, and put those away that have ended. Returns the others."""
        new = [after for before, after in judged if after is not before]
        for pilot in new:
            write_pilot(self.paths, pilot)
        ended = [after for _, after in judged if after.state == ENDED]
        # Those that had ended before were perhaps not journaled.
        tell_pilots(self.jar, {pilot.name: pilot for pilot in (*new, *ended)}.values())
        failures, said = self.queue.failures, self.queue.said
        for before, after in judged:
            if after.state == ENDED and is_failure(after):
                failures, said = failures + 1, explain_pilot_end(after)
            elif was_of_use(after) and (before.worker is None or after.state == ENDED):
                failures, said = 0, ""
        self._count_failures(failures, said)
        for pilot in ended:
            # COMMIT: from here the pilot is put away
            rename(f"{self.paths.open}/{pilot.number}", f"{self.paths.ended}/{pilot.number}")
            self._say(f"{self.queue.name}: pilot {pilot.number} {explain_pilot_end(pilot)}")
        return [after for _, after in judged if after.state != ENDED]

    def _count_failures(self, failures: int, said: str) -> None:
        self.queue = note_failures(self.queue, failures, said)
        if failures >= self.queue.plan.failures and self.queue.paused is None and self.queue.removed is None:
            times = "a pilot" if failures == 1 else f"{failures} pilots in a row"
            self.queue = pause_queue(self.jar, self.queue, _BY_TURN, f"{times} failed; the last {said}")
            self._warn(f"{self.queue.name} is paused: {times} failed; the last {said}")

    # Cancelling

    def _cancel_needless(self, pilots: Sequence[Pilot]) -> list[Pilot]:
        """Cancel pilots that wait, or run, although nobody wants them any more. Raises NoAnswer."""
        removed = self.queue.removed
        if removed is not None:
            all_of_them = removed.why == CANCEL_ALL
            needless = [pilot for pilot in pilots if pilot.state == WAITING or (all_of_them and pilot.state == RUNNING)]
            why = f"removed by {removed.by}"
        elif any(pilot.state == WAITING for pilot in pilots) and self._need(pilots).is_idle:
            needless = [pilot for pilot in pilots if pilot.state == WAITING]
            why = "nothing waits for it any more"
        else:
            return list(pilots)
        judged = []
        for pilot in needless:
            if pilot.system_id is not None and pilot.message is None:
                self._cancel(pilot.system_id, pilot.state == RUNNING)
                # It stays open until the system says that it has ended.
                judged.append((pilot, pilot.changed(message=why)))
        self._note(judged)
        now = {after.name: after for _, after in judged}
        return [now.get(pilot.name, pilot) for pilot in pilots]

    def _cancel(self, system_id: str, is_running: bool) -> None:
        self._ask(lambda system: system.cancel(system_id, is_running))

    # Submitting

    def _need(self, pilots: Sequence[Pilot]) -> Need:
        return find_need(self.jar, self.queue.plan, pilots, self.look_at.heard, self.look_at.now)

    def _submit_needed(self, pilots: Sequence[Pilot]) -> None:
        needed = self._need(pilots).pilots
        # After a failure one is tried, and the others wait for it.
        tries = min(needed, 1 - len(pilots)) if self.queue.failures else needed
        for _ in range(tries):
            if not self._submit():
                return

    def _submit(self) -> bool:
        """Submit a pilot; returns whether another may be submitted in this turn. Raises NoAnswer."""
        if self.system is None or shutil.which(self.system.submits_with) is None:
            raise NoAnswer(
                f"there is no program {getattr(self.system, 'submits_with', self.queue.plan.system)} on this node"
            )
        pilot = self._intend()
        if pilot is None:
            return False  # another process has just done so
        paths = PilotPaths(f"{self.paths.open}/{pilot.number}")
        began = time.monotonic()
        request = make_request(self.queue.plan, pilot, paths)
        try:
            system_id = self._ask(lambda system: system.submit(request))
        except (NotSubmitted, NoAnswer) as error:
            return self._note_unsubmitted(pilot, str(error), time.monotonic() - began)
        now = self.jar.disk_now()
        self._note([(pilot, pilot.changed(state=WAITING, since=now, submitted_at=now, system_id=system_id))])
        self._say(f"{self.queue.name}: pilot {pilot.number} submitted, {self.queue.plan.system} calls it {system_id}")
        return True

    def _intend(self) -> Pilot | None:
        """Make the directory of the next pilot; None if another process has made one of its number meanwhile."""
        number = max([0, *numbers_in(self.paths.open), *numbers_in(self.paths.ended)]) + 1
        now = self.jar.disk_now()
        pilot = Pilot(self.queue.name, number, f"jj{new_id()}", 1, INTENDED, now, now)
        final = PilotPaths(f"{self.paths.open}/{number}")
        prepared = PilotPaths(temporary_path_of_node(f"{self.paths.open}/.{number}"))
        make_directory(prepared.path)
        replace_file(prepared.file, pilot.text())
        script = make_script(self.jar, self.queue.plan, pilot, final)
        replace_file(prepared.script, script.encode(errors="surrogateescape"), 0o755)

        def is_own() -> bool:
            there = read_pilot(final.path)
            return there is not None and there.name == pilot.name

        # COMMIT: from here the pilot may be in the batch system, under its name
        if not rename_directory(prepared.path, final.path, is_own):
            with contextlib.suppress(OSError):
                remove_tree(prepared.path)
            return None
        tell_pilots(self.jar, [pilot])
        return pilot

    def _note_unsubmitted(self, pilot: Pilot, words: str, took_s: float) -> bool:
        """Decide what a submission without an answer was: refused, made all the same, or not known yet. Raises NoAnswer."""
        said = f"{self.system.submits_with}: {words}" if self.system is not None else words
        now = self.jar.disk_now()
        told = pilot.changed(message=said)
        self._note([(pilot, told)])
        found = self._poll([told]).get(told.name)
        if found is not None:
            known = told.changed(state=WAITING, since=now, submitted_at=now, system_id=found.id, message=None)
            self._note([(told, known)])
            return False
        if took_s < _AT_ONCE_S:
            self._note([(told, end_pilot(told, REFUSED, now, said))])
        else:
            self._warn(f"{self.queue.name}: it is not known yet whether pilot {pilot.number} was submitted; {said}")
        return False

    # The batch system

    def _poll(self, pilots: Sequence[Pilot]) -> Mapping[str, Seen]:
        known = [Known(pilot.name, pilot.system_id or "") for pilot in pilots]
        found: Mapping[str, Seen] = self._ask(lambda system: system.poll(known))
        return found

    def _ask(self, call: Callable[[System], Answer]) -> Answer:
        """Call the batch system, while this turn is still this process's. Raises NoAnswer, NotSubmitted."""
        if self.system is None:
            raise NoAnswer("this version does not know it")
        renew_soft_lock(self.paths.turn)
        try:
            is_own = os.stat(self.paths.turn).st_ino == self._lock
        except FileNotFoundError:
            is_own = False
        if not is_own:
            raise _LostTurn
        return call(self.system)

    # Removing

    def _remove(self) -> None:
        tell_queue(self.jar, self.queue, is_gone=True)
        aside = temporary_path_of_node(f"{self.jar.layout.pilots}/.{self.queue.name}")
        # COMMIT: from here the queue is removed
        os.rename(self.paths.path, aside)
        remove_tree(aside)
        self._say(f"{self.queue.name}: removed")
