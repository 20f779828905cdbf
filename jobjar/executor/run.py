"""Run a group of calls. programs/run_calls.py does that as the command of the group's job.

It takes the group by a rename from calls/ to taken/; a group that is in neither was withdrawn by its client. It runs the calls
one after the other, and appends what each returned or raised to a file of its own in results/. A kill loses the call that runs:
the next attempt of the job reads the results of those before it, and goes on after the last one. It exits with 0 also if calls
raise, since that is a result. Few imports: it starts for each group.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
from typing import Any

from jobjar.executor import frames

# Instead of an exit status: there was no group.
NOTHING = -1
# If a call takes longer, the calls behind it are given back, so that other workers can run them.
_GIVE_BACK_AFTER_S = 1.0
# Other nodes see what was written when it is synced. Calls that are quicker are synced together.
_SYNC_EVERY_S = 0.1


class Group:
    """The calls of a group, and the file of results of this attempt."""

    def __init__(self, directory: str, group: str) -> None:
        self._group, self._results = group, f"{directory}/results"
        self.shared: dict[str, Any] = {}
        self.functions: dict[int, bytes] = {}
        self.calls: dict[int, tuple[int, bytes]] = {}
        self._read(f"{directory}/taken/{group}")
        attempt = f"{group}.{os.environ.get('JJ_ATTEMPT', '1')}.{os.urandom(4).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._lock = threading.Lock()
        self._descriptor = os.open(f"{self._results}/{attempt}", flags, 0o660)
        self._synced_at = time.monotonic()
        self._begun: tuple[int, float] | None = None
        self._first_given_back = len(self.calls)
        self._is_done = threading.Event()

    def _read(self, path: str) -> None:
        with open(path, "rb") as file:
            for record, _ in frames.read_records(file, os.fstat(file.fileno()).st_size):
                if record.kind == frames.SHARED:
                    self.shared = pickle.loads(record.data)
                elif record.kind == frames.FUNCTION:
                    self.functions[record.number] = record.data
                elif record.kind == frames.CALL:
                    head = frames.FUNCTION_NUMBER.size
                    (function,) = frames.FUNCTION_NUMBER.unpack(record.data[:head])
                    self.calls[record.number] = function, record.data[head:]
        if len(self.calls) != self.shared.get("calls"):
            raise OSError(f"{path} is damaged: it has {len(self.calls)} of {self.shared.get('calls')} calls")

    def forget_results(self) -> None:
        """Leave out the calls that have results of earlier attempts, and those that these gave back."""
        for name in os.listdir(self._results):
            if name.startswith(f"{self._group}."):
                with open(f"{self._results}/{name}", "rb") as file:
                    for record, _ in frames.read_records(file, os.fstat(file.fileno()).st_size):
                        if record.kind == frames.GIVEN_BACK:
                            self._first_given_back = min(self._first_given_back, record.number)
                        else:
                            self.calls.pop(record.number, None)

    def begin(self, number: int) -> bool:
        """Note that a call begins now. Returns False if it was given back."""
        with self._lock:
            if number >= self._first_given_back:
                return False
            self._begun = number, time.monotonic()
            return True

    def give_back_in_time(self) -> None:
        """Wait until a call has taken too long, and give back those behind it; or until all are done. Runs in a thread."""
        while not self._is_done.wait(_GIVE_BACK_AFTER_S / 2):
            with self._lock:
                if self._begun is not None and time.monotonic() - self._begun[1] > _GIVE_BACK_AFTER_S:
                    if self._begun[0] + 1 < self._first_given_back:
                        self._first_given_back = self._begun[0] + 1
                        self._append(frames.encode(frames.GIVEN_BACK, self._first_given_back))
                        os.fsync(self._descriptor)
                    return

    def note(self, kind: bytes, number: int, data: bytes, took_s: float) -> None:
        """Append what a call returned or raised."""
        with self._lock:
            self._append(frames.encode(kind, number, frames.DURATION.pack(took_s), data))
            self._begun = None
            now = time.monotonic()
            if now - self._synced_at > _SYNC_EVERY_S:
                os.fsync(self._descriptor)
                self._synced_at = now

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        self._is_done.set()
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def take(directory: str, group: str) -> bool:
    """Take a group for this job. Returns False if its client withdrew it, or went away."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(f"{directory}/calls/{group}", f"{directory}/taken/{group}")
    # A rename that failed may have happened, or an earlier attempt has taken it.
    return os.path.exists(f"{directory}/taken/{group}")


def dump(value: Any) -> bytes:
    """The bytes of a value. What only a client knows, such as the classes of its script, goes by value. Raises what pickling
    raises."""
    with contextlib.suppress(Exception):  # cloudpickle can do more, and says better what it cannot
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data


def dump_raised(error: BaseException) -> bytes:
    """The bytes of an exception and its traceback. One that cannot be pickled, or not be made again, becomes a RuntimeError with
    its text."""
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        data = dump(error)
        pickle.loads(data)
    except Exception as why:
        said = RuntimeError(f"{type(error).__qualname__}: {error} (this exception could not be brought back: {why!r})")
        data = dump(said)
    return pickle.dumps((text, data))


def run_call(function: bytes, arguments: bytes) -> tuple[bytes, bytes, float]:
    """Run a call; returns the kind of its result, the result, and how long the function took."""
    took_s = 0.0
    try:
        called = pickle.loads(function)
        args, kwargs = pickle.loads(arguments)
        started = time.perf_counter()
        try:
            value = called(*args, **kwargs)
        finally:
            took_s = time.perf_counter() - started
        del args, kwargs
        try:
            return frames.RETURNED, dump(value), took_s
        except Exception as error:
            error.add_note("The call has returned, but what it returned could not be pickled.")
            raise
    except BaseException as error:  # also SystemExit is what a call raised, and the calls behind it have to run
        return frames.RAISED, dump_raised(error), took_s


def run_group(directory: str, group: str) -> int:
    """Run a group's calls; returns the exit status, or NOTHING."""
    if not take(directory, group):
        return NOTHING
    calls = Group(directory, group)
    sys.path[:] = [*calls.shared["path"], *(path for path in sys.path if path not in calls.shared["path"])]
    calls.forget_results()
    try:
        initialize: bytes | None = calls.shared["initializer"]
        if calls.calls and initialize is not None:
            kind, data, _ = run_call(initialize, calls.shared["initargs"])
            if kind == frames.RAISED:
                calls.note(frames.NOT_INITIALIZED, len(calls.calls), data, 0.0)
                return 1
        run_calls(calls)
    finally:
        calls.close()
    return 0


def run_calls(calls: Group) -> None:
    if len(calls.calls) > 1:
        threading.Thread(target=calls.give_back_in_time, daemon=True).start()
    for number, (function, arguments) in sorted(calls.calls.items()):
        if not calls.begin(number):
            return
        kind, data, took_s = run_call(calls.functions[function], arguments)
        calls.note(kind, number, data, took_s)
