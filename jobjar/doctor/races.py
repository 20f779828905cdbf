"""Races between two nodes: if both rename, make a directory, or create a file at the same moment, one must win.

Both take part in every round. Before each round they wait for each other by listing a directory without sleeping, so they start
about one disk operation apart. Writes under the meeting's directory, which is removed afterwards.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator

from jobjar.doctor.findings import DANGER, FINE, NOTE, Finding
from jobjar.doctor.meeting import FIRST, Meeting, PeerFailed
from jobjar.shared_disk.moves import move

ROUNDS = 50
# A slow disk gets fewer rounds.
MOST_TIME_S = 10.0
_SPIN_S = 0.02


def run_races(meeting: Meeting, group: str) -> Iterator[Finding]:
    """Race in each of the three ways to take something."""
    yield judge_race(group, "rename races", *_race(meeting, "rename", _take_by_rename))
    yield judge_race(group, "mkdir races", *_race(meeting, "mkdir", _take_by_mkdir))
    yield judge_race(group, "O_EXCL races", *_race(meeting, "exclusive", _take_by_creating))


def _take_by_rename(directory: str, side: str, number: int) -> None:
    move(f"{directory}/source.{number}", f"{directory}/{side}/{number}")


def _take_by_mkdir(directory: str, side: str, number: int) -> None:
    os.mkdir(f"{directory}/taken.{number}")


def _take_by_creating(directory: str, side: str, number: int) -> None:
    os.close(os.open(f"{directory}/taken.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o660))


def _race(
    meeting: Meeting, word: str, take: Callable[[str, str, int], None]
) -> tuple[int, list[int], list[int], list[str]]:
    """The rounds, the rounds that this side won, those that the other won, and errors other than losing."""
    directory = f"{meeting.path}/{word}"
    if meeting.side == FIRST:
        for path in (directory, f"{directory}/marks", f"{directory}/{meeting.side}", f"{directory}/{meeting.other}"):
            os.mkdir(path)
        if word == "rename":
            for number in range(ROUNDS):
                with open(f"{directory}/source.{number}", "xb"):
                    pass
    meeting.swap(f"{word}-ready")
    won, errors, rounds = [], set(), 0
    start = time.monotonic()
    mark = ""
    for number in range(ROUNDS):
        is_last = number == ROUNDS - 1 or time.monotonic() - start > MOST_TIME_S
        mark, others_mark = _line_up(meeting, f"{directory}/marks", mark, number, is_last)
        rounds = number + 1
        try:
            take(directory, meeting.side, number)
            won.append(number)
        except (FileNotFoundError, FileExistsError):
            pass
        except OSError as error:
            errors.add(os.strerror(error.errno or 0))
        # The first side decides which round is the last. Its mark may be that of the next round already.
        if (mark if meeting.side == FIRST else others_mark) == f"{FIRST}.{number}.last":
            break
    if word == "rename":
        # A rename that reported failure may still have happened, so count the files that are there.
        won = sorted(int(name) for name in os.listdir(f"{directory}/{meeting.side}"))
    theirs = meeting.swap(f"{word}-done", won=won, errors=sorted(errors))
    return rounds, won, theirs["won"], sorted(errors | set(theirs["errors"]))


def _line_up(meeting: Meeting, marks: str, before: str, number: int, is_last: bool) -> tuple[str, str]:
    """Mark that this side has reached a round, and wait for the other; returns both marks."""
    mark = f"{meeting.side}.{number}" + (".last" if is_last else "")
    if before:
        os.rename(f"{marks}/{before}", f"{marks}/{mark}")
    else:
        with open(f"{marks}/{mark}", "xb"):
            pass
    start = time.monotonic()
    while True:
        looked_at = time.monotonic()
        for name in os.listdir(marks):
            words = name.split(".")
            # The other may already be one round further.
            if words[0] == meeting.other and int(words[1]) >= number:
                _hesitate(time.monotonic() - looked_at)
                return mark, name
        waited_s = time.monotonic() - start
        if waited_s > meeting.timeout_s:
            raise PeerFailed(reason=f"the peer did not come to round {number} of a race within {meeting.timeout_s:g} s")
        if waited_s < _SPIN_S:
            os.sched_yield()
        else:
            time.sleep(0.001)


def _hesitate(listing_s: float) -> None:
    """Delay by up to three listings. Otherwise the same side would be first in each round, and nothing would be tested."""
    go_at = time.monotonic() + random.uniform(0, 3 * min(listing_s, _SPIN_S))
    while time.monotonic() < go_at:
        pass


def judge_race(
    group: str, check: str, rounds: int, won_here: list[int], won_there: list[int], errors: list[str]
) -> Finding:
    """The verdict on a race: each round needs exactly one winner."""
    twice = sorted(set(won_here) & set(won_there))
    never = sorted(set(range(rounds)) - set(won_here) - set(won_there))
    if twice or never:
        measured = f"{len(twice)} of {rounds} won by both nodes, {len(never)} by none"
        meaning = "a job could be claimed by two workers, or by none: this disk cannot hold a jar"
        return Finding(group, check, DANGER, measured, meaning, "use another disk or other mount options")
    measured = f"{rounds} rounds, one winner in each ({len(won_here)} here, {len(won_there)} there)"
    if errors:
        meaning = f"losers also saw: {', '.join(errors)}"
        return Finding(group, check, NOTE, measured, meaning, "nothing: workers try again")
    return Finding(group, check, FINE, measured)
