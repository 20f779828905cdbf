"""Two doctors meet through the jar's disk and pass messages: files that are renamed into place and found by listing.

The first doctor makes `$JJ_HOME/doctor/pair`, the second makes `pair/second`, both by mkdir. The last one to leave removes it.
A message is `pair/messages/<from>.<number>.<word>`, a JSON object. It is found by listdir, never by its name. If one doctor is
killed midway, the other times out and removes everything; if both are killed, the next doctor does.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from jobjar.doctor.probe import remove_all, remove_if_empty
from jobjar.errors import JarError
from jobjar.job_file.names import new_id
from jobjar.layout import Layout
from jobjar.shared_disk.contents import MESSAGE, read_document
from jobjar.shared_disk.creating import create_file
from jobjar.shared_disk.files import write_all

FIRST, SECOND = "first", "second"
POLL_S = 0.005
# The second doctor takes the first for dead after so long without a sign.
FIRST_IS_ALIVE_WITHIN_S = 10.0
# No measurement is silent for so long.
SILENT_S = 45.0
_GOODBYE_S = 5.0

Message = dict[str, Any]


class PeerFailed(JarError):
    """The pair could not be measured; `reason` says why and what to do."""


class Meeting:
    """One doctor's view of the meeting: its side, and the directory that both use."""

    def __init__(self, path: str, side: str, timeout_s: float) -> None:
        self.path = path
        self.side = side
        self.other = SECOND if side == FIRST else FIRST
        self.timeout_s = timeout_s
        self.messages = f"{path}/messages"
        self._sent = 0
        self._received = 0

    def send(self, word: str, **content: Any) -> None:
        """Send a message. Raises PeerFailed if the other has ended the meeting."""
        self._sent += 1
        name = f"{self.side}.{self._sent}.{word}"
        temporary = f"{self.messages}/.{name}"
        try:
            write_file(temporary, json.dumps(content).encode(), durable=False)
            os.rename(temporary, f"{self.messages}/{name}")
        except FileNotFoundError:
            raise self._ended() from None

    def receive(self, word: str, timeout_s: float | None = None) -> Message:
        """Wait for the other's next message, which must be `word`. Raises PeerFailed if it does not come in time."""
        expected = f"{self.other}.{self._received + 1}.{word}"
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if expected in os.listdir(self.messages):
                    content: Message = read_document(f"{self.messages}/{expected}", MESSAGE)
                    self._received += 1
                    return content
            except FileNotFoundError:
                raise self._ended() from None
            except (ValueError, OSError):
                pass  # the listing shows it, but this node cannot read it yet
            if time.monotonic() > deadline:
                raise PeerFailed(
                    reason=f"the peer was there, and did not answer within {timeout_s:g} s: it was ended, or the disk shows its "
                    "files later than that. Run it again on both nodes, with a longer --timeout"
                )
            time.sleep(POLL_S)

    def swap(self, word: str, **content: Any) -> Message:
        """Send a message and wait for the other's message of the same word; then both have arrived here."""
        self.send(word, **content)
        return self.receive(word)

    def _ended(self) -> PeerFailed:
        return PeerFailed(reason="the peer ended the meeting. Run `jobjar doctor --peer` again on both nodes")

    def end(self) -> None:
        """Say goodbye. A doctor that has heard the other's goodbye, or has waited in vain, removes everything. Raises nothing."""
        with contextlib.suppress(JarError, OSError):
            self.send("goodbye")
            if self.side == FIRST:
                self.receive("goodbye", _GOODBYE_S)
            else:
                wait_for(lambda: not _lists(os.path.dirname(self.path), os.path.basename(self.path)), _GOODBYE_S)
        take_away(self.path)


def meet(layout: Layout, timeout_s: float, log: Callable[[str], None]) -> Meeting:
    """Wait for a peer. Raises PeerFailed if none comes in time, OSError if the jar cannot be written to."""
    path = f"{layout.doctor}/pair"
    deadline = time.monotonic() + timeout_s
    said = False
    while True:
        for directory in (layout.doctor, path):
            made = _make(directory)
        if made:
            return _wait_for_second(path, deadline, timeout_s, log)
        if _make(f"{path}/{SECOND}"):
            meeting = Meeting(path, SECOND, timeout_s)
            try:
                wait_for(lambda: _lists(path, "messages"), FIRST_IS_ALIVE_WITHIN_S)
                meeting.send("hello")
                meeting.receive("hello", FIRST_IS_ALIVE_WITHIN_S)
                return meeting
            except (PeerFailed, OSError):
                take_away(path)  # a killed doctor left it
        elif not said and _lists(layout.doctor, "pair"):
            said = True
            log("another pair is being measured; waiting for its end")
            _take_away_if_silent(path, deadline)
        if time.monotonic() > deadline:
            raise _nobody(timeout_s)
        time.sleep(POLL_S)


def _wait_for_second(path: str, deadline: float, timeout_s: float, log: Callable[[str], None]) -> Meeting:
    meeting = Meeting(path, FIRST, timeout_s)
    log(f"waiting for a peer: run `jobjar doctor --peer` on another node within {timeout_s:g} s")
    try:
        os.mkdir(meeting.messages)
        meeting.receive("hello", max(0.0, deadline - time.monotonic()))
        meeting.send("hello")
    except PeerFailed:
        take_away(path)
        raise _nobody(timeout_s) from None
    except BaseException:
        take_away(path)
        raise
    return meeting


def _nobody(timeout_s: float) -> PeerFailed:
    return PeerFailed(
        reason=f"no peer came within {timeout_s:g} s. Run `jobjar doctor --peer` on another node at about the same time; where "
        "it says the same, the two do not see one directory: compare JJ_HOME and the mounts"
    )


def _take_away_if_silent(path: str, deadline: float) -> None:
    """Remove a meeting whose messages no longer change: both doctors were killed."""

    def listing() -> list[str]:
        with contextlib.suppress(OSError):
            return sorted(os.listdir(f"{path}/messages"))
        return []

    before, since = listing(), time.monotonic()
    while _lists(os.path.dirname(path), "pair") and time.monotonic() < deadline:
        now = listing()
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > SILENT_S:
            take_away(path)
            return
        time.sleep(0.1)


def take_away(path: str) -> None:
    """Remove a meeting. It is renamed first, so only one of two doctors removes it, and nobody meets in the rest of it."""
    aside = f"{os.path.dirname(path)}/ended.{new_id()}"
    with contextlib.suppress(OSError):
        os.rename(path, aside)
        remove_all(aside)
    remove_if_empty(os.path.dirname(path))


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until `condition()` is true; returns whether it became true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def write_file(path: str, data: bytes, durable: bool = True) -> None:
    descriptor = create_file(path, 0o660)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(path: str) -> bool:
    """Whether this process made the directory; False if its parent is gone."""
    try:
        os.mkdir(path)
        return True
    except (FileExistsError, FileNotFoundError):
        return False


def _lists(directory: str, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return name in os.listdir(directory)
    return False
