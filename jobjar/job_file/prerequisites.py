"""What a job is to wait for: `after`, `after_any`, `after_failed`; the tasks of an array: `after_each`. Reads and writes nothing.

A person gives words: jobs as any verb takes them, and batches. Journals have what they meant when the job was submitted: for each
kind a list of objects with one field, `{"job": ID}`, `{"batch": NAME}`, or `{"tasks": "ARRAY[FIRST-LAST]"}`. A chunk of an array
has them in the `#JJ` lines of its file, for all chunks wait: as words that mean the same anywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# How a prerequisite has to end: with success, in any way, without success; each task by itself.
AFTER, AFTER_ANY, AFTER_FAILED, AFTER_EACH = "after", "after_any", "after_failed", "after_each"
KINDS = (AFTER, AFTER_ANY, AFTER_FAILED, AFTER_EACH)
JOB, BATCH, TASKS = "job", "batch", "tasks"
# `batch:NAME` is a batch, where a job has that name too.
BATCH_MARK = f"{BATCH}:"
# How the `held_reason` of a job in limbo begins that waits for prerequisites.
DEPENDENT_ON = "dependent on "
# More prerequisites of one job make its entry too long. The thousand chunks of an array have the same ones.
MOST, MOST_OF_ARRAY = 10_000, 100
_TASKS = re.compile(r"([0-9a-z]{1,40})\[([0-9]{1,16})-([0-9]{1,16})\]")


# What words meant, as journals have it.
LookedUp = dict[str, dict[str, str]]
Meant = Mapping[str, Sequence[Mapping[str, str]]]


class Prerequisite(NamedTuple):
    """`what` says of what `target` is the name: a job (its id), a batch, or a range of an array's tasks."""

    kind: str
    what: str
    target: str

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return f"batch {self.target}" if self.what == BATCH else self.target


def name_range(array: str, first: int, last: int) -> str:
    """The name of a range of an array's tasks, as a prerequisite has it."""
    return f"{array}[{first}-{last}]"


def parse_range(target: str) -> tuple[str, int, int] | None:
    """The array, and the first and the last index, of a range of tasks; None if it is none."""
    found = _TASKS.fullmatch(target)
    return None if found is None else (found.group(1), int(found.group(2)), int(found.group(3)))


def array_of_target(what: str, target: str) -> tuple[str, str]:
    """What a prerequisite waits for as a whole: of tasks the batch that their array is."""
    return (BATCH, target.partition("[")[0]) if what == TASKS else (what, target)


def is_dependent(held_reason: str | None) -> bool:
    """Whether a job in limbo waits for prerequisites, by the reason for which it is there."""
    return (held_reason or "").startswith(DEPENDENT_ON)


def explain_dependent(prerequisites: list[Prerequisite]) -> str:
    """The `held_reason` of a job that waits for these."""
    more = f" and {len(prerequisites) - 1:,} more" if len(prerequisites) > 1 else ""
    return f"{DEPENDENT_ON}{prerequisites[0].title}{more}"


def prerequisites_in(given: Mapping[str, Any]) -> list[Prerequisite]:
    """The prerequisites in what a job was given. Raises ValueError if anything else stands there."""
    return list(_read(given))


def _read(given: Mapping[str, Any]) -> Iterator[Prerequisite]:
    for kind in KINDS:
        found = given.get(kind, ())
        if not isinstance(found, (list, tuple)) or len(found) > MOST:
            raise ValueError(f"{kind} cannot be that")
        for one in found:
            if not isinstance(one, Mapping) or len(one) != 1:
                raise ValueError(f"{kind} cannot be that")
            ((what, target),) = one.items()
            if not isinstance(target, str) or not 0 < len(target) < 256:
                raise ValueError(f"{kind} cannot be that")
            yield Prerequisite(kind, what, target)


def has_words(given: Mapping[str, Any]) -> bool:
    """Whether what a job was given has prerequisites that nobody has looked up yet."""
    return any(kind in given and not are_prerequisites(given[kind]) for kind in KINDS)


def take_words(given: dict[str, Any]) -> dict[str, Any]:
    """Take the prerequisites out of what a job was given, and return them."""
    return {kind: given.pop(kind) for kind in KINDS if kind in given}


def are_prerequisites(value: Any) -> bool:
    """Whether this is a list of prerequisites as journals have it."""
    try:
        return bool(prerequisites_in({AFTER: value}))
    except ValueError:
        return False


def lines_of_chunk(meant: Meant, part: tuple[int, int]) -> str:
    """The `#JJ` lines of a chunk that waits for these prerequisites: with the tasks `part` for those of its array's partners."""
    lines = []
    for kind in KINDS:
        words = [_as_word(*pair, part) for one in meant.get(kind, ()) for pair in one.items()]
        lines += [f"#JJ {kind} = {shlex.join(words)}\n"] if words else []
    return "".join(lines)


def _as_word(what: str, target: str, part: tuple[int, int]) -> str:
    return name_range(target, *part) if what == TASKS else f"{BATCH_MARK}{target}" if what == BATCH else target


def meant_by_chunk(words: Mapping[str, Iterable[str]]) -> dict[str, list[dict[str, str]]]:
    """What the words in the `#JJ` lines of a chunk mean (`lines_of_chunk`)."""
    return {kind: [_mean(kind, word) for word in said] for kind, said in words.items()}


def _mean(kind: str, word: str) -> dict[str, str]:
    if kind == AFTER_EACH:
        return {TASKS: word}
    return {BATCH: word.removeprefix(BATCH_MARK)} if word.startswith(BATCH_MARK) else {JOB: word}
