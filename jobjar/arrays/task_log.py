"""Journal the ends of a chunk's tasks, many together: about once a second, or when there are many, and before anything waits.

What is not journaled when a worker is killed is run again; that is a second of work at most.
"""

from __future__ import annotations

import time
from typing import Any

from jobjar.attempts.attempt import FAILED, SUCCEEDED, ClaimedJob, Claimer, about_attempt
from jobjar.journal.entries import tasks_entry
from jobjar.ledger.apply_tasks import OUTCOMES
from jobjar.processes.children import Ended

_MOST, _EVERY_S = 256, 1.0
_NUMBER_OF = {outcome: number for number, outcome in enumerate(OUTCOMES)}


class TaskLog:
    """The ends of the tasks of one attempt of a chunk. `output` is the name of its output file, once it has one."""

    def __init__(self, claimer: Claimer, job: ClaimedJob, array: str) -> None:
        self._journal = claimer.jar.journal
        self._about = about_attempt(claimer, job)
        self._array, self._life = array, job.seed or 0
        self._is_durable = claimer.jar.ledger_home.has_other_homes
        self._rows: list[list[Any]] = []
        # When the tasks that are tried again ended last.
        self._ended_ms: dict[int, int] = {}
        self._at_ms = 0
        self._began = 0.0
        # Where the output of the tasks that are in `_rows` begins, and where it ends.
        self._offset = self.end_of_output = 0
        self.output: str | None = None
        # The size of the output file once a task has emptied it. Where the outputs of that task and of those before it are is
        # unknown then; the next ones follow from there.
        self.emptied_to: int | None = None

    def note(
        self,
        index: int,
        ended: Ended | None,
        wall_time_s: float,
        output_size: int,
        outcome: str,
        is_retried: bool,
        message: str | None,
    ) -> None:
        """Note the end of a task. `output_size` is the size of the output file now. `ended` is None if it was not started."""
        now_ms = time.time_ns() // 1_000_000
        if is_retried or index in self._ended_ms:
            # Two ends of one task have different times.
            now_ms = self._ended_ms[index] = max(now_ms, self._ended_ms.get(index, 0) + 1)
        if not self._rows:
            self._at_ms, self._offset, self._began = now_ms, self.end_of_output, time.monotonic()
        length = max(0, output_size - self.end_of_output)
        if output_size < self.end_of_output:
            self.emptied_to = output_size
        self.end_of_output += length
        status = None
        user = system = memory = 0
        if ended is not None:
            status = ended.exit_status if ended.exit_status is not None else -(ended.signal or 0)
            user, system, memory = int(ended.user_cpu_s * 1e6), int(ended.system_cpu_s * 1e6), ended.max_rss_kib
        row: list[Any] = [index, status, now_ms - self._at_ms, int(wall_time_s * 1e6), user, system, memory, length]
        usual = SUCCEEDED if status == 0 else FAILED
        if outcome != usual or is_retried or message is not None or status is None:
            row.append(_NUMBER_OF[outcome])
            if is_retried or message is not None:
                row += [int(is_retried), message]
        self._rows.append(row)

    def is_due(self) -> bool:
        return (
            len(self._rows) >= _MOST
            or self.emptied_to is not None
            or (bool(self._rows) and time.monotonic() - self._began >= _EVERY_S)
        )

    def flush(self) -> None:
        """Journal what was noted. Raises OSError; then nothing is lost of it."""
        if self._rows:
            entry = tasks_entry(
                self._about, self._array, self._at_ms, self._offset, self._rows, self.output, self._life
            )
            self._journal.append([entry], self._is_durable)
            self._rows = []
            if self.emptied_to is not None:
                self.end_of_output, self.emptied_to = self.emptied_to, None

    def drop(self) -> None:
        """Forget what was noted and not journaled: the chunk is another worker's."""
        self._rows = []
