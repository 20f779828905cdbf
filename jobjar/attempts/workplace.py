"""Where a worker runs its jobs: for each a fresh scratch directory, an output file and an environment.

Makes `scratch/<job>/` and `output/<job>.<attempt>.out` in the worker's directory. An empty directory and an empty output
file are kept for the next job, because making and removing them is what costs most on a disk (DESIGN.md, Budget), and are
kept open, because finding them again is what costs most over a network. The output file of a job that runs alone lies at
`output/.next` until the job has run for a moment, or has ended and written something: only then it needs a name. Killed
before, recovery names it, and removes what is in `scratch/`. What cannot be removed of a scratch directory, because the job
left something mounted in it, stays, is told, and is tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Container

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.attempts.copied_output import CopiedOutput
from jobjar.attempts.scratch import OUTPUTS, Scratch, make_again
from jobjar.attempts.stays import Stays
from jobjar.host import node_name
from jobjar.layout import WorkerPaths
from jobjar.shared_disk.files import look, make_directory, remove_file, rename
from jobjar.shared_disk.patience import FLICKER_S, patiently
from jobjar.shared_disk.trees import Kept

# More would only be kept for jobs that do not come: a worker seldom has more of them at once.
_MOST_SPARES = 4


class Workplace:
    """The directory and the output file of one attempt at a time, and what of them is kept for the next."""

    def __init__(self, paths: WorkerPaths, stays: Stays) -> None:
        self._paths = paths
        self._job: ClaimedJob | None = None
        # Where the attempt works: below scratch/, or a directory that outlives it.
        self.directory = ""
        self._scratch = Scratch(paths.scratch, stays)
        # What could not be removed when the last attempt ended here.
        self.kept: list[Kept] = []
        # A descriptor of the output file, of this attempt or the next.
        self.output = -1
        self._fresh_output: tuple[int, ...] = ()
        self._copied: CopiedOutput | None = None
        # Where the output file lies; and the name that the last one should have got, which the disk refused.
        self._output_path = paths.next_output
        self._overdue_name: str | None = None
        self._is_named_late = False

    @property
    def is_used(self) -> bool:
        """Whether an attempt is made here."""
        return self._job is not None

    @property
    def job_output(self) -> int:
        """A descriptor of what the attempt's processes are to write to."""
        return self.output if self._copied is None else self._copied.descriptor

    @property
    def scratch(self) -> int:
        """A descriptor of the directory below scratch/ that is the attempt's."""
        return self._scratch.descriptor

    @property
    def scratch_path(self) -> str | None:
        """The directory below scratch/ that is the attempt's, or is kept for the next."""
        return self._scratch.path

    def set_up(
        self,
        job: ClaimedJob,
        directory: str | None,
        taken: Container[str | None],
        name_late: bool,
        with_outputs: bool = False,
    ) -> None:
        """Make it an attempt's: with a fresh directory, of another name than `taken`, or in `directory`, which is there or is
        made; with an empty output file, which with `name_late` has no name until `name_output`. What is made fresh is empty,
        but for an empty `output/` `with_outputs`. Raises OSError."""
        if directory is None:
            self.directory = self._scratch.make(job, taken, with_outputs)
        else:
            if look(directory) is None:
                make_directory(directory)
                if with_outputs:
                    make_directory(f"{directory}/{OUTPUTS}")
            self.directory = directory
        self._job, self._is_named_late = job, name_late
        try:
            self._make_output(self._paths.next_output if name_late else self._find_output_name()[0])
        except OSError:
            self._job = None
            self._clear_directory(reusable=True)
            raise
        if job.copies_output:
            with contextlib.suppress(OSError):  # without one it writes into the file, as any other
                self._copied = CopiedOutput(self.output)

    def clear(self, reusable: bool) -> str | None:
        """End the attempt: remove its directory, unless that outlives it, and keep its output; returns the output file's
        name, None where nothing was written. With `reusable` no process of it is left that might still write."""
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
        """Whether the attempt's directory is not as new any more, so that it is worth a look. Asked again it is not looked
        at again."""
        return self.directory != self._scratch.path or self._scratch.is_touched()

    def inside(self) -> str:
        """A path to look into the attempt's directory, whatever was mounted onto that."""
        path = f"/proc/self/fd/{self.scratch}"
        return path if self.directory == self.scratch_path and os.path.isdir(path) else self.directory

    def discard_spares(self) -> None:
        """Remove what was kept for a next attempt that will not come."""
        self._scratch.discard()
        if self.output >= 0:
            self._close_output()
            with contextlib.suppress(OSError):
                os.unlink(self._output_path)
        with contextlib.suppress(OSError):
            self._name_overdue()

    # The output file

    def _make_output(self, path: str) -> None:
        """Have a new empty output file at `path`."""
        self._name_overdue()
        if self.output >= 0 and not self._is_output_fresh():
            self._close_output()  # another node, or a new mount, made it stale
        if self.output < 0:
            try:
                self.output = patiently(lambda: _make_output(path), path)
            except FileNotFoundError:  # a job removed output/
                make_again(os.path.dirname(path))
                self.output = patiently(lambda: _make_output(path), path)
            except FileExistsError:  # by a try that failed; or it went stale
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
        """Give the output file the name that people look for; returns it. Raises FileNotFoundError where the file is gone,
        OSError."""
        if self._output_path == self._paths.next_output:
            path, is_there = self._find_output_name()
            if not is_there:  # else recovery has named it, taking this worker for dead
                rename(self._output_path, path)
            self._output_path = path
        elif look(self._output_path) is None:
            raise FileNotFoundError(self._output_path)
        return os.path.basename(self._output_path)

    def _find_output_name(self) -> tuple[str, bool]:
        """A path that is free, or is the output file's already; and whether it is that."""
        stem, number = self._output_stem(), 2
        path = f"{stem}.out"
        while (there := look(path)) is not None and not self._is_output(there):
            path = f"{stem}~{number}.out"
            number += 1
        return path, there is not None

    def _output_stem(self) -> str:
        assert self._job is not None
        return f"{self._paths.output}/{self._job.name}.{self._job.attempt}"

    def _clear_output(self, reusable: bool) -> str | None:
        try:
            status = patiently(lambda: os.fstat(self.output), self._output_path, FLICKER_S)
            is_removed, is_empty = not status.st_nlink, not status.st_size
        except OSError:
            is_removed = is_empty = False  # the disk is away: there may be something in it
        if is_empty and reusable and not is_removed:
            self._keep_output()
            return None
        try:
            return None if is_removed else self.name_output()
        except FileNotFoundError:
            return None  # the job removed it, or took it away
        except OSError:
            if self._output_path == self._paths.next_output:
                self._overdue_name = f"{self._output_stem()}.out"
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
        """What a job may have changed of its output file: also what is shared with a descriptor that was passed on."""
        status = os.fstat(self.output)
        return (status.st_size, status.st_nlink, status.st_mode, fcntl.fcntl(self.output, fcntl.F_GETFL))

    def _close_output(self) -> None:
        if self.output >= 0:
            with contextlib.suppress(OSError):  # NFS tells here of what it could not write for the job
                os.close(self.output)
        self.output, self._fresh_output = -1, ()


class Workplaces:
    """A worker's workplaces: one for the job that runs alone, and one for each of those that are juggled."""

    def __init__(self, claimer: Claimer) -> None:
        self.claimer = claimer
        self._stays = Stays(claimer)
        self._alone = Workplace(claimer.paths, self._stays)
        self._juggled: list[Workplace] = []
        # Encoded once, not for each job.
        self._environment = {
            os.fsencode(name): os.fsencode(value) for name, value in _environment_of_all(claimer).items()
        }

    def make(self, job: ClaimedJob, directory: str | None = None, with_outputs: bool = False) -> Workplace:
        """A workplace for one of several jobs: in a fresh directory, or in `directory`, which is there or is made; what is made
        is empty, but for `output/`, if asked for. Raises OSError."""
        place = next((place for place in self._juggled if not place.is_used), None)
        if place is None:
            place = Workplace(self.claimer.paths, self._stays)
            self._juggled.append(place)
        place.set_up(job, directory, self._scratch_paths(place), False, with_outputs)
        return place

    def make_alone(self, job: ClaimedJob) -> Workplace:
        """The workplace for the only job that runs, whose output file has no name yet. Raises OSError."""
        self._alone.set_up(job, None, self._scratch_paths(self._alone), name_late=True)
        return self._alone

    def _scratch_paths(self, but: Workplace | None) -> set[str | None]:
        return {place.scratch_path for place in (self._alone, *self._juggled) if place is not but}

    def clear(self, place: Workplace, reusable: bool) -> str | None:
        """End what an attempt had; returns its output file's name, None where nothing was written. With `reusable` no process
        of it is left that might still write."""
        output_file = place.clear(reusable)
        if sum(not other.is_used for other in self._juggled) > _MOST_SPARES:
            place.discard_spares()
            self._juggled.remove(place)
        return output_file

    def discard_spares(self) -> None:
        """Remove what was kept for jobs that will not come, and what stayed of others."""
        for place in (self._alone, *self._juggled):
            if not place.is_used:
                place.discard_spares()
        self._juggled = [place for place in self._juggled if place.is_used]
        self.remove_kept(at_once=True)

    def remove_kept(self, at_once: bool = False) -> None:
        """Try again to remove what stayed of earlier jobs: now and then, or `at_once`."""
        if self._stays.paths:
            self._stays.try_again(self._scratch_paths(None), at_once)

    def environment(self, job: ClaimedJob, directory: str) -> dict[bytes, bytes]:
        """The environment of an attempt: the worker's, and what DESIGN.md, "A job's world", lists."""
        own = {
            b"JJ_JOB": job.name,
            b"JJ_JOB_ID": job.uid,
            b"JJ_JOB_FILE": job.path,
            b"JJ_SCRATCH_DIR": directory,
            b"JJ_PRIORITY": str(job.priority),
            b"JJ_CATEGORY": job.category,
            b"JJ_ATTEMPT": str(job.attempt),
            b"JJ_SUBMITTER": job.submitter,
        }
        return {**self._environment, **{name: os.fsencode(value) for name, value in own.items()}}


def _make_output(path: str) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o664)


def _environment_of_all(claimer: Claimer) -> dict[str, str]:
    """What all jobs of a worker see: the worker's own environment, JJ_… of the worker, and the jar's programs first."""
    layout = claimer.jar.layout
    return {
        **os.environ,
        "JJ_HOME": layout.home,
        "JJ_WORKER_HOME": layout.workers,
        "JJ_WORKER": claimer.paths.name,
        "JJ_WORKER_ID": claimer.worker_id,
        "JJ_WORKER_DIR": claimer.paths.path,
        "JJ_NODE": node_name(),
        "PATH": f"{layout.bin}:{os.environ.get('PATH', os.defpath)}",
    }
