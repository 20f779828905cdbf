"""One difference between the ledger and the directories, and its words for people."""

from __future__ import annotations

from typing import NamedTuple

from jobjar.grouped import Line

_KINDS = {
    "moved": "jobs are not where the ledger has them",
    "new": "jobs are not known to the ledger",
    "gone": "jobs of the ledger have no file",
}
_REMOVALS = "jobs that had ended have no file any more: somebody removed these, and their history stays"


class Difference(NamedTuple):
    """The ledger and the directories disagree. `kind`: moved (the file of `row` is at `place`), new (the file at
    `place` is not known), gone (`row` has no file)."""

    kind: str
    row: int | None
    uid: str | None
    place: str
    was: str
    moved_at: float
    owner: int = 0

    @property
    def is_removal(self) -> bool:
        """Whether a job had ended and its file is gone: somebody removed that, and the job's history stays."""
        return self.kind == "gone" and self.was.startswith(("completed/", "archive/"))

    def as_line(self) -> Line:
        """This difference as a line for people, with the words for several like it."""
        if self.is_removal:
            return Line(
                f"{self.place}: the file of this job ({self.uid or 'no id'}), which had ended, was removed", _REMOVALS
            )
        return Line(str(self), _KINDS[self.kind])

    def __str__(self) -> str:
        if self.kind == "moved":
            return f"{self.place}: the ledger has this job ({self.uid or 'no id'}) at {self.was}"
        if self.kind == "new":
            return f"{self.place}: the ledger does not know this job"
        return f"{self.place}: the ledger has a job ({self.uid or 'no id'}) here, but there is no file"
