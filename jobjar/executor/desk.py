"""The client's side of an executor: one thread that sends groups of calls as jobs, and brings back their results.

At most four groups a worker are sent; what waits behind them is cancelled at once. The thread sleeps until a call comes, or a
file of results grows (inotify), and looks by itself after longer and longer pauses, up to a second: events of other nodes do not
come.
A group's job whose results fail to come is looked up in the ledger. Whatever happens, each call gets a result or an exception.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from jobjar.errors import JarError
from jobjar.executor import frames
from jobjar.executor.calls import Call, Group, Sizes
from jobjar.executor.errors import CallLost, ExecutorBroken
from jobjar.executor.jobs import End, Jobs, find_ends, has_ended
from jobjar.executor.place import Place
from jobjar.executor.results import resolve, resolve_initializer
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.ledger.fold import OUTCOME_COMES_WITHIN_S
from jobjar.processes.wake import DirectoryWatch, wait_readable
from jobjar.shared_disk.files import is_gone, look_afresh

_GROUPS_PER_WORKER = 4
# Who cancels a call that is just being sent waits so long at most.
_SENDING_TAKES_S = 5.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
# A group without news for so long: is its job in completed?
_LOOK_FOR_END_AFTER_S = 0.3
# The ledger is asked about such jobs after so long, then after pauses that double, up to the longest.
_ASK_LEDGER_AFTER_S, _ASK_LEDGER_AT_LEAST_EVERY_S = 2.0, 60.0
# The client shows so often that it lives (nightly/executors.py).
_BEAT_EVERY_S = 600.0


class Desk:
    """`workers` is how many are expected to share the calls. `initialize`: a function and its arguments as bytes, or None."""

    def __init__(self, jar: Jar, jobs: Jobs, workers: int, initialize: tuple[bytes, bytes] | None) -> None:
        self._jar, self._jobs, self._workers = jar, jobs, workers
        self._initialize = initialize
        self._sizes = Sizes(jobs.has_time_limit)
        self._lock = threading.Condition(threading.Lock())  # notified when groups were sent
        self._waiting: deque[Call] = deque()
        self._groups: dict[str, Group] = {}
        self._withdrawn_jobs: list[str] = []
        self._place: Place | None = None
        self._thread: threading.Thread | None = None
        self.is_shut = self._cancels = False
        self.broken: Exception | None = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._watch: DirectoryWatch | None = None
        self._ask_at, self._ask_pause_s, self._trouble_at = 0.0, _ASK_LEDGER_AFTER_S, 0.0
        self._beat_at = 0.0

    def __del__(self) -> None:
        # Not before: who still has the executor may write to the pipe, and its number may be another file's by then.
        for descriptor in (self._reader, self._writer):
            os.close(descriptor)

    # What threads of the user call

    def submit(self, calls: Iterable[Call]) -> None:
        """Add calls to those that wait. Raises RuntimeError after the end, ExecutorBroken."""
        with self._lock:
            if self.broken is not None:
                raise self.broken
            if self.is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                self._start()
            for call in calls:
                call.future.withdraw = lambda call=call: self._withdraw(call)
                self._waiting.append(call)
        self._wake()

    def shut(self, cancels: bool = False) -> None:
        """Take no more calls. With `cancels`, cancel those that have not begun."""
        with self._lock:
            self.is_shut = True
            self._cancels = self._cancels or cancels
        self._cancel_all()
        self._wake()

    def _cancel_all(self) -> None:
        """Cancel what has not begun, if that is wanted. Groups that are just being sent are cancelled when they are."""
        cancelled: list[Call] = []
        with self._lock:
            if self._cancels:
                cancelled = [*self._waiting]
                self._waiting.clear()
                for group in list(self._groups.values()):
                    cancelled += self._take_back(group)
        for call in cancelled:
            call.future.cancel_withdrawn()

    def join(self) -> None:
        """Wait until all calls have ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _start(self) -> None:
        try:
            self._place = Place(self._jar)
        except OSError as error:
            raise ExecutorBroken(reason=f"cannot make {self._jar.layout.executors}: {error.strerror}") from error
        self._beat_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="jobjar.Executor", daemon=True)
        self._thread.start()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway; closed: it has ended
            os.write(self._writer, b".")

    def _withdraw(self, call: Call) -> bool:
        with self._lock:
            group = call.group
            if group is None:
                with contextlib.suppress(ValueError):  # it was just resolved
                    self._waiting.remove(call)
                    return True
                return call.future.done()
            if threading.current_thread() is not self._thread:
                self._lock.wait_for(lambda: group.job or group.id not in self._groups, _SENDING_TAKES_S)
            others = self._take_back(group)
            if call not in others:
                return False
            others.remove(call)
            self._waiting.extendleft(reversed(others))
        self._wake()
        return True

    def _take_back(self, group: Group) -> list[Call]:
        """Withdraw a group that waits in the jar; returns its calls, [] if it does not wait there. The caller has the lock."""
        if not group.job or group.is_taken or self._place is None or not self._place.withdraw(group.id):
            return []
        del self._groups[group.id]
        self._withdrawn_jobs.append(group.job)
        return self._release(group, group.left)

    def _release(self, group: Group, numbers: Iterable[int]) -> list[Call]:
        calls = [group.left.pop(number) for number in sorted(numbers)]
        for call in calls:
            call.group = None
        return calls

    # What its own thread does

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # nothing may leave calls without an end
            self._break(ExecutorBroken(reason=f"the executor failed: {error!r}"), error)
        finally:
            if self._watch is not None:
                self._watch.close()
            if self._place is not None:
                self._place.remove()
            with contextlib.suppress(JarError, OSError):
                self._jar.close()

    def _work(self) -> None:
        assert self._place is not None
        self._watch = DirectoryWatch(changes=True)
        self._watch.watch([self._place.paths.results])
        pause_s = _SHORTEST_PAUSE_S
        while True:
            self._send()
            self._cancel_all()
            has_news = False
            if self._groups:
                has_news = self._look_patiently()
            self._cancel_withdrawn()
            with self._lock:
                if not self._waiting and not self._groups and self.is_shut:
                    return
                is_idle = not self._groups
                can_send = bool(self._waiting) and len(self._groups) < self._room
            self._beat()
            if has_news or can_send:
                pause_s = _SHORTEST_PAUSE_S
                if can_send:
                    continue
            wait_readable([self._reader, *self._watch.descriptors()], _BEAT_EVERY_S if is_idle else pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            self._watch.drain()
            with contextlib.suppress(BlockingIOError):
                while os.read(self._reader, 4096):
                    pass

    @property
    def _room(self) -> int:
        return _GROUPS_PER_WORKER * self._workers

    def _send(self) -> None:
        """Make groups of what waits, as many as there is room for, and submit their jobs."""
        groups = []
        with self._lock:
            while len(self._groups) < self._room:
                calls = self._sizes.take(self._waiting, self._workers)
                if not calls:
                    break
                group = Group(new_id(), calls, time.monotonic())
                self._groups[group.id] = group
                groups.append(group)
        if not groups:
            return
        assert self._place is not None
        try:
            shared = {"path": [os.path.abspath(path) for path in sys.path]}
            shared["initializer"], shared["initargs"] = self._initialize or (None, None)  # type: ignore[assignment]
            for group in groups:
                self._place.write_calls(group.id, group.encode(pickle.dumps({**shared, "calls": len(group.left)})))
            submissions = [self._jobs.describe(self._place.paths.path, group.id, group.name) for group in groups]
            names = self._jobs.submit(self._jar, submissions)
        except (JarError, OSError) as error:
            submitted = error.fields.get("submitted", []) if isinstance(error, JarError) else []
            for group in groups[len(submitted) :]:  # type: ignore[arg-type]
                self._fail(group, lambda call, error=error: _lost(call, f"it was not submitted: {error}"))
            names = submitted  # type: ignore[assignment]
        with self._lock:
            for group, name in zip(groups, names, strict=False):
                group.job = name
            self._lock.notify_all()

    def _look_patiently(self) -> bool:
        """`_look`. A disk that is away for longer than JJ_DISK_PATIENCE ends all calls."""
        try:
            has_news = self._look()
        except (JarError, OSError) as error:
            assert self._place is not None
            now = time.monotonic()
            self._trouble_at = self._trouble_at or now
            is_away = now - self._trouble_at > self._jar.settings.disk_patience_s
            if is_away or self._is_removed():
                why = str(error) if is_away else f"somebody removed its directory {self._place.paths.path}"
                self._break(ExecutorBroken(reason=f"the executor has lost its calls: {why}"), error)
            return False
        self._trouble_at = 0.0
        return has_news

    def _is_removed(self) -> bool:
        """Whether the executor's directory is gone, and the jar is not."""
        assert self._place is not None
        with contextlib.suppress(JarError, OSError):
            self._jar.check_is_there()
            return is_gone(self._place.paths.results)
        return False

    def _look(self) -> bool:
        """Take the results that have come; returns whether there were any. Raises JarError, OSError."""
        assert self._place is not None
        has_news = False
        now = time.monotonic()
        results = self._place.list_results()
        for id, names in results.items():
            group = self._groups.get(id)
            if group is None:
                self._place.discard(id, names)  # a late attempt
            elif self._read(group, names):
                has_news = True
                group.news_at, group.ended_at = now, None
                self._ask_at, self._ask_pause_s = now + _ASK_LEDGER_AFTER_S, _ASK_LEDGER_AFTER_S
                if not group.left:
                    self._place.discard(id, names)
        self._look_for_ends(now)
        return has_news

    def _read(self, group: Group, names: Iterable[str]) -> bool:
        """Take what has come of a group."""
        assert self._place is not None
        has_news = not group.is_taken
        group.is_taken = True
        for name in names:
            for record, offset in self._place.read_results(name, group.offsets.get(name, 0)):
                group.offsets[name] = offset
                has_news = True
                if record.kind == frames.NOT_INITIALIZED:
                    self._break(*resolve_initializer(record))
                    return True
                with self._lock:
                    if record.kind == frames.GIVEN_BACK:
                        back = self._release(group, [number for number in group.left if number >= record.number])
                        self._waiting.extendleft(reversed(back))
                        continue
                    call = group.left.pop(record.number, None)
                if call is not None:
                    took_s = resolve(call.future, record)
                    self._sizes.note(call.name, took_s)
                del call, record
        with self._lock:
            if group.left:
                first = group.left[min(group.left)].future
                if not first.running():
                    first.set_running_or_notify_cancel()
            else:
                self._groups.pop(group.id, None)
        return has_news

    def _look_for_ends(self, now: float) -> None:
        """Look for groups whose jobs are over, without a result of each call. Raises JarError, OSError."""
        late = [group for group in self._groups.values() if group.job and now - group.news_at > _LOOK_FOR_END_AFTER_S]
        if late:
            look_afresh(self._jar.layout.completed)  # so that a network disk shows new names there
        ended = [group for group in late if group.ended_at is not None or has_ended(self._jar, group.job)]
        # The results are read once more after the end was seen.
        judged = [group for group in ended if group.ended_at is not None]
        for group in ended:
            group.ended_at = group.ended_at or now
        if late and now > self._ask_at:
            judged = late
            self._ask_at = now + self._ask_pause_s
            self._ask_pause_s = min(2 * self._ask_pause_s, _ASK_LEDGER_AT_LEAST_EVERY_S)
        if not judged:
            return
        for job, end in find_ends(self._jar, [group.job for group in judged]).items():
            group = next(group for group in judged if group.job == job)
            if group.ended_at is None and end.outcome != "removed":
                group.ended_at = now
            elif end.is_for_all or now - (group.ended_at or now) > self._grace_s(end):
                self._end(group, end)

    def _grace_s(self, end: End) -> float:
        """How long after its job's end a group's results may still come. What its runner said, it said before it failed; results
        and entries of other nodes may take their time."""
        return OUTCOME_COMES_WITHIN_S if end.outcome in (None, "succeeded") else 0.0

    def _end(self, group: Group, end: End) -> None:
        """End a group whose job is over. The call that ran is lost. Those behind it are sent again, unless somebody wanted the
        job gone, or it could not even begin."""
        if end.is_for_all or not group.is_taken:
            self._fail(group, lambda call: _lost(call, end.reason))
            return
        with self._lock:
            number = min(group.left)
            lost = group.left.pop(number)
            self._waiting.extendleft(reversed(self._release(group, list(group.left))))
            self._groups.pop(group.id, None)
        _raise_in(lost, _lost(lost, end.reason))

    def _fail(self, group: Group, make: Any) -> None:
        with self._lock:
            self._groups.pop(group.id, None)
            calls = self._release(group, list(group.left))
        for call in calls:
            _raise_in(call, make(call))

    def _break(self, broken: ExecutorBroken, why: BaseException) -> None:
        """End all calls, and take no more."""
        broken.__cause__ = why
        with self._lock:
            self.broken = broken
            self.is_shut = True
            calls = [*self._waiting]
            self._waiting.clear()
            for group in self._groups.values():
                if self._place is not None and group.job and not group.is_taken and self._place.withdraw(group.id):
                    self._withdrawn_jobs.append(group.job)
                calls += self._release(group, list(group.left))
            self._groups.clear()
        for call in calls:
            _raise_in(call, broken)

    def _cancel_withdrawn(self) -> None:
        with self._lock:
            names, self._withdrawn_jobs = self._withdrawn_jobs, []
        if names:
            self._jobs.cancel(self._jar, names)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beat_at >= _BEAT_EVERY_S and self._place is not None:
            self._beat_at = now
            with contextlib.suppress(OSError):  # the next one will do
                self._place.beat()


def _lost(call: Call, reason: str) -> CallLost:
    return CallLost(call=call.name, reason=reason)


def _raise_in(call: Call, error: Exception) -> None:
    if not call.future.done():
        call.future.set_exception(error)
