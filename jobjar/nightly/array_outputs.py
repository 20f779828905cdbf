"""What the tasks of an array wrote lies in the directories of several workers, and is deleted in one night.

The directory of a worker stays while an array is young of which it holds output: a chunk of that is open, or another worker that
holds output of it is not old enough. What such a directory holds of arrays that are not young goes by itself. Nothing of this is
journaled: after a kill the next night does the rest.
"""

from __future__ import annotations

from collections.abc import Collection

from jobjar.jar import Jar
from jobjar.ledger.ask_nightly import outputs_of_arrays


class ArrayOutputs:
    """The outputs of arrays that the directories of workers hold which are old enough to be deleted (`old`, by their ids), or
    are not (`young`)."""

    def __init__(self, jar: Jar, old: Collection[str], young: Collection[str]) -> None:
        """Raises LedgerError."""
        with jar.ledger.errors_named():
            jar.ledger.ensure_open()
            found = list(outputs_of_arrays(jar.ledger.connection, old)) if old else []
        are_young = {one.array for one in found if one.is_open or one.worker_id in young}
        # The workers whose directories stay.
        self.kept = {one.worker_id for one in found if one.array in are_young} & set(old)
        self._due = [one for one in found if one.array not in are_young and one.worker_id in self.kept]

    def due(self, worker_id: str) -> list[str]:
        """The names of output files of arrays that are not young, in the directory of a worker that stays."""
        return [one.output_file for one in self._due if one.worker_id == worker_id and "/" not in one.output_file]
