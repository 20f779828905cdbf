"""What differs between the ledger and the directories: one point of it, and how it is said to people."""

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
    """The ledger and the directories disagree. `kind`: moved (the file of `row` is at `place`), new (nobody knows the
    file at `place`), gone (there is no file for `row`)."""

    kind: str
    row: int | None
    uid: str | None
    place: str
    was: str
    moved_at: float
    owner: int = 0

    @property
    def is_removal(self) -> bool:
        """A job that had ended, and whose file is not there any more: somebody removed it, and its history stays."""
        return self.kind == "gone" and self.was.startswith(("completed/", "archive/"))

    def as_line(self) -> Line:
        """For people: this difference, and what several like it are."""
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
