"""What a job is to wait for: `after`, `after_any`, `after_failed`. Reads and writes nothing.

A person gives words: jobs as any verb takes them, and batches. Journals have what they meant when the job was submitted: for each
kind a list of objects with one field, `{"job": ID}` or `{"batch": NAME}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# How a prerequisite has to end: with success, in any way, without success.
AFTER, AFTER_ANY, AFTER_FAILED = "after", "after_any", "after_failed"
KINDS = (AFTER, AFTER_ANY, AFTER_FAILED)
JOB, BATCH = "job", "batch"
# How the `held_reason` of a job in limbo begins that waits for prerequisites.
DEPENDENT_ON = "dependent on "
# More prerequisites of one job make its entry too long.
MOST = 10_000


# What words meant, as journals have it.
LookedUp = dict[str, dict[str, str]]


class Prerequisite(NamedTuple):
    """`what` says of what `target` is the name: a job (its id), or a batch."""

    kind: str
    what: str
    target: str

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return self.target if self.what == JOB else f"{self.what} {self.target}"


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
