"""Where a worker runs its jobs. Each job gets a fresh scratch directory, an output file and an environment.

Makes `scratch/<job>/` and `output/<job>.<attempt>.out` in the worker's directory. An empty directory and an empty output file
are kept for the next job, because making and removing them costs most on a disk (DESIGN.md, Budget). They are kept open, because
finding them again costs most over a network. The output file of a job that runs alone lies at `output/.next` at first. It gets
its name when the job has run for a moment, or has ended with output. After a kill recovery names the output file, and clears
`scratch/`. If a job left something mounted in its scratch directory, what cannot be removed stays, is logged, and is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Container

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.attempts.copied_output import CopiedOutput
from jobjar.attempts.environment import environment_of_attempt, environment_of_worker
from jobjar.attempts.scratch import OUTPUTS, Scratch, make_again
from jobjar.attempts.stays import Stays
from jobjar.layout import WorkerPaths
from jobjar.shared_disk.files import look, make_directory, remove_file, rename
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.trees import Kept

# A worker seldom needs more spare workplaces at once.
_MOST_SPARES = 4


EMPTIED = (
    "its output was emptied while it ran, and what was there before is lost: a program opened it anew, by `> /dev/stderr` "
    "perhaps. Use `>&2` or `>>` there, or have `# /dev/stderr` in the job's own text"
)


class Workplace:
    """The directory and the output file of one attempt at a time. If unused, they are kept for the next attempt."""

    def __init__(self, paths: WorkerPaths, stays: Stays) -> None:
        self._paths = paths
        self._job: ClaimedJob | None = None
        # The attempt's working directory: below scratch/, or one that outlives the attempt.
        self.directory = ""
        self._scratch = Scratch(paths.scratch, stays)
        # What could not be removed when the last attempt ended here.
        self.kept: list[Kept] = []
        # The size of the output file and the place of its descriptor when they were looked at; whether it was seen to shrink.
        self._seen: tuple[int, int] | None = None
        self._was_emptied = False
        # A descriptor of the output file of this attempt, or of the next one.
        self.output = -1
        self._fresh_output: tuple[int, ...] = ()
        self._copied: CopiedOutput | None = None
        # The path of the output file; and the path that the last one should have got, but the disk refused.
        self._output_path = paths.next_output
        self._overdue_name: str | None = None
        self._is_named_late = False

    @property
    def is_used(self) -> bool:
        """Whether an attempt is under way here."""
        return self._job is not None

    @property
    def job_output(self) -> int:
        """The descriptor that the attempt's processes write to: the output file's, or that of a pipe."""
        return self.output if self._copied is None else self._copied.descriptor

    @property
    def scratch(self) -> int:
        """A descriptor of the attempt's directory below scratch/."""
        return self._scratch.descriptor

    @property
    def scratch_path(self) -> str | None:
        """The attempt's directory below scratch/, or the one that is kept for the next attempt."""
        return self._scratch.path

    def set_up(
        self,
        job: ClaimedJob,
        directory: str | None,
        taken: Container[str | None],
        name_late: bool,
        with_outputs: bool = False,
    ) -> None:
        """Prepare it for an attempt, with a directory and an empty output file. The directory is a fresh one at a path that is
        not in `taken`, or `directory`, which is made if it is missing. A new directory is empty; `with_outputs` it has an
        empty `output/`. With `name_late` the output file has no name until `name_output`. Raises OSError."""
        if directory is None:
            self.directory = self._scratch.make(job, taken, with_outputs)
        else:
            if look(directory) is None:
                make_directory(directory)
                if with_outputs:
                    make_directory(f"{directory}/{OUTPUTS}")
            self.directory = directory
        self._job, self._is_named_late = job, name_late
        self._seen, self._was_emptied = None, False
        try:
            self._make_output(self._paths.next_output if name_late else self._find_output_name()[0])
        except OSError:
            self._job = None
            self._clear_directory(reusable=True)
            raise
        if job.pipes_output:
            with contextlib.suppress(OSError):  # without a pipe the job writes into the file, as any other
                self._copied = CopiedOutput(self.output)

    def clear(self, reusable: bool) -> str | None:
        """End the attempt: remove its directory, unless that outlives it, and keep its output. Returns the output file's name,
        or None if nothing was written. `reusable` says that no process of the attempt may still write."""
        if self._copied is not None:
            copied, self._copied = self._copied, None
            reusable = copied.finish() and reusable
        output_file = self._clear_output(reusable)
        self._clear_directory(reusable)
        self._job = None
        return output_file

    def _clear_directory(self, reusable: bool) -> None:
        self.kept = self._scratch.clear(reusable) if self.directory == self._scratch.path else []

    def is_touched(self) -> bool:
        """Whether the attempt's directory was touched, so that it is worth reading. Only the first call per attempt looks at
        the disk."""
        return self.directory != self._scratch.path or self._scratch.is_touched()

    def renew(self, reusable: bool) -> list[Kept]:
        """Give the next task of a chunk a fresh directory, if the last one touched this. `reusable` says that no process of it
        may still write. Returns what could not be removed: then the fresh one has another path. Raises OSError."""
        assert self._job is not None
        kept = self._scratch.renew(self._job, reusable)
        self.directory = self._scratch.path or self.directory
        return kept

    def inside(self) -> str:
        """A path that leads into the attempt's directory, whatever was mounted onto it."""
        path = f"/proc/self/fd/{self.scratch}"
        return path if self.directory == self.scratch_path and os.path.isdir(path) else self.directory

    def discard_spares(self) -> None:
        """Remove what was kept for a next attempt, which will not come."""
        self._scratch.discard()
        if self.output >= 0:
            self._close_output()
            with contextlib.suppress(OSError):
                os.unlink(self._output_path)
        with contextlib.suppress(OSError):
            self._name_overdue()

    # The output file

    def look_at_output(self) -> None:
        """Notice whether a process has emptied the output file since the last look (`> /dev/stderr` opens it anew). Short
        attempts are not looked at. What was written and lost between two looks may go unnoticed."""
        with contextlib.suppress(OSError):  # the disk is away
            size, place = os.fstat(self.output).st_size, os.lseek(self.output, 0, os.SEEK_CUR)
            last_size, first_place = self._seen or (size, place)
            self._was_emptied |= size < last_size or first_place != place > size
            self._seen = (size, first_place)

    def warnings(self) -> list[str]:
        """What the job of the last attempt here is to be warned of: what could not be removed, and that output was lost."""
        return [*map(str, self.kept), *([EMPTIED] if self._was_emptied else [])]

    def _make_output(self, path: str) -> None:
        """Put an empty output file at `path`: the one that was kept, or a new one."""
        self._name_overdue()
        if self.output >= 0 and not self._is_output_fresh():
            self._close_output()  # another node, or a new mount, made it stale
        if self.output < 0:
            try:
                self.output = patiently(lambda: _make_output(path), path)
            except FileNotFoundError:  # a job removed output/
                make_again(os.path.dirname(path))
                self.output = patiently(lambda: _make_output(path), path)
            except FileExistsError:  # a failed try made it after all, or it is the stale one
                remove_file(path)
                self.output = patiently(lambda: _make_output(path), path)
            self._fresh_output = self._output_state()
        elif self._output_path != path:
            try:
                rename(self._output_path, path)
            except FileNotFoundError:  # a job removed output/, or took the file away
                self._close_output()
                self._make_output(path)
        self._output_path = path

    def name_output(self) -> str:
        """Give the output file its proper name; returns the name. Raises FileNotFoundError if the file is gone, OSError."""
        if self._output_path == self._paths.next_output:
            path, is_there = self._find_output_name()
            if not is_there:  # else recovery took this worker for dead, and named it
                rename(self._output_path, path)
            self._output_path = path
        elif look(self._output_path) is None:
            raise FileNotFoundError(self._output_path)
        return os.path.basename(self._output_path)

    def _find_output_name(self) -> tuple[str, bool]:
        """A free path for the output file, or the path that it has already; and whether it has it."""
        number = 1
        path = self._output_file()
        while (there := look(path)) is not None and not self._is_output(there):
            number += 1
            path = self._output_file(number)
        return path, there is not None

    def _output_file(self, number: int = 1) -> str:
        assert self._job is not None
        return self._paths.output_file(self._job.name, self._job.attempt, number)

    def _clear_output(self, reusable: bool) -> str | None:
        if self._seen is not None:
            self.look_at_output()
        try:
            status = patiently(lambda: os.fstat(self.output), self._output_path, FLICKER_S)
            is_removed, is_empty = not status.st_nlink, not status.st_size
        except OSError:
            is_removed = is_empty = False  # the disk is away: the file may have content
        if is_empty and reusable and not is_removed:
            self._keep_output()
            return None
        try:
            return None if is_removed else self.name_output()
        except FileNotFoundError:
            return None  # the job removed it, or moved it away
        except OSError:
            if self._output_path == self._paths.next_output:
                self._overdue_name = self._output_file()
            return os.path.basename(self._overdue_name or self._output_path)
        finally:
            self._close_output()

    def _is_output(self, status: os.stat_result) -> bool:
        try:
            return self.output >= 0 and os.path.samestat(status, os.fstat(self.output))
        except OSError:
            return False

    def _name_overdue(self) -> None:
        if self._overdue_name is not None:
            with contextlib.suppress(FileNotFoundError):
                rename(self._paths.next_output, self._overdue_name)
            self._overdue_name = None

    def _keep_output(self) -> None:
        try:
            if self._is_named_late and self._output_path != self._paths.next_output:
                rename(self._output_path, self._paths.next_output)
                self._output_path = self._paths.next_output
            if self._is_output_fresh():
                return
        except OSError:
            pass  # it is made anew
        self._close_output()
        with contextlib.suppress(OSError):
            os.unlink(self._output_path)

    def _is_output_fresh(self) -> bool:
        try:
            return self._output_state() == self._fresh_output
        except OSError:
            return False

    def _output_state(self) -> tuple[int, ...]:
        """What a job may have changed about its output file, including the flags that it shares with the job's descriptor."""
        status = os.fstat(self.output)
        return (status.st_size, status.st_nlink, status.st_mode, fcntl.fcntl(self.output, fcntl.F_GETFL))

    def _close_output(self) -> None:
        if self.output >= 0:
            with contextlib.suppress(OSError):  # NFS reports here that it could not write some of the job's output
                os.close(self.output)
        self.output, self._fresh_output = -1, ()


class Workplaces:
    """A worker's workplaces: one for a job that runs alone, and one for each of several jobs that overlap."""

    def __init__(self, claimer: Claimer, slots: int = 1) -> None:
        self.claimer = claimer
        self._most_spares = max(_MOST_SPARES, slots)
        self._stays = Stays(claimer)
        self._alone = Workplace(claimer.paths, self._stays)
        self._overlapped: list[Workplace] = []
        # Encoded once for all jobs.
        self._environment = environment_of_worker(claimer)

    def make(self, job: ClaimedJob, directory: str | None = None, with_outputs: bool = False) -> Workplace:
        """A workplace for one of several jobs: in a fresh directory, or in `directory`, which is made if it is missing. A new
        directory is empty; `with_outputs` it has an empty `output/`. Raises OSError."""
        workplace = next((workplace for workplace in self._overlapped if not workplace.is_used), None)
        if workplace is None:
            workplace = Workplace(self.claimer.paths, self._stays)
            self._overlapped.append(workplace)
        workplace.set_up(job, directory, self._scratch_paths(workplace), False, with_outputs)
        return workplace

    def make_alone(self, job: ClaimedJob) -> Workplace:
        """The workplace for a job that runs alone. Its output file has no name yet. Raises OSError."""
        self._alone.set_up(job, None, self._scratch_paths(self._alone), name_late=True)
        return self._alone

    def _scratch_paths(self, but: Workplace | None) -> set[str | None]:
        return {workplace.scratch_path for workplace in (self._alone, *self._overlapped) if workplace is not but}

    def clear(self, workplace: Workplace, reusable: bool) -> str | None:
        """Clear an attempt's workplace. Returns its output file's name, or None if nothing was written. `reusable` says that no
        process of the attempt may still write."""
        output_file = workplace.clear(reusable)
        if sum(not other.is_used for other in self._overlapped) > self._most_spares:
            workplace.discard_spares()
            self._overlapped.remove(workplace)
        return output_file

    def discard_spares(self) -> None:
        """Remove what was kept for further jobs, which will not come, and what stayed of earlier ones."""
        for workplace in (self._alone, *self._overlapped):
            if not workplace.is_used:
                workplace.discard_spares()
        self._overlapped = [workplace for workplace in self._overlapped if workplace.is_used]
        self.remove_kept(at_once=True)

    def remove_kept(self, at_once: bool = False) -> None:
        """Try again to remove what stayed of earlier jobs: from time to time, or `at_once`."""
        if self._stays.paths:
            self._stays.try_again(self._scratch_paths(None), at_once)

    def environment(self, job: ClaimedJob, directory: str) -> dict[bytes, bytes]:
        """The environment of an attempt."""
        return environment_of_attempt(self._environment, job, directory)


def _make_output(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o664)
