"""What the tasks of a chunk have around them: their environment, directory, words and output, made once for all of them.

A task finds its index, and its entry if the array has entries, in its environment and as its first word. Starts the tasks;
writes nothing itself, but puts the script back if a task took it away.
"""

from __future__ import annotations

import contextlib
import os
import stat

from jobjar.access.refusals import explain_error
from jobjar.arrays.definition import Definition, Entries
from jobjar.arrays.indexes import Indexes
from jobjar.attempts.attempt import ClaimedJob
from jobjar.attempts.copied_output import CopiedOutput
from jobjar.attempts.own_output import OwnFiles, explain_where
from jobjar.attempts.surroundings import Surroundings
from jobjar.attempts.workplace import Workplace, Workplaces
from jobjar.processes.exit_status import NOT_FOUND_STATUS
from jobjar.processes.starting import CannotStart, start_session
from jobjar.shared_disk.creating import write_whole
from jobjar.shared_disk.regular import MOST_BYTES, open_regular


class OutputRefused(Exception):
    """A disk refuses a task's own file for now, with the reason."""


class World:
    """The surroundings of a chunk's tasks. `wanted` are their indexes. Raises OSError while a disk refuses them."""

    def __init__(
        self, workplaces: Workplaces, job: ClaimedJob, definition: Definition, wanted: Indexes, workplace: Workplace
    ) -> None:
        self._array = definition
        self._workplace = workplace
        paths = workplaces.claimer.jar.layout.batch(definition.uid)
        self._entries = Entries(paths, definition.indexes, wanted) if definition.entries else None
        indexes = definition.indexes
        self._environment = workplaces.environment(job, workplace.directory)
        self._environment[b"JJ_JOB_FILE"] = os.fsencode(definition.script)
        self._environment[b"JJ_ARRAY_ID"] = os.fsencode(definition.uid)
        numbers = (("FIRST", indexes.first), ("LAST", indexes.last), ("STEP", indexes.step), ("SIZE", indexes.count))
        for name, value in numbers:
            self._environment[f"JJ_ARRAY_{name}".encode()] = b"%d" % value
        self._around: Surroundings | None = None
        self._has_own_files = False
        # The files of the task that runs, if its array has such.
        self._files: OwnFiles | None = None
        # Why none of the tasks can be run.
        self._refusal: CannotStart | None = None
        if definition.given is not None:
            try:
                given = definition.given._replace(output=None, error=None)  # these are each task's own
                self._around = Surroundings(workplaces.claimer, job._replace(given=given), self._environment)
                self._has_own_files = (definition.given.output, definition.given.error) != (None, None)
                self._environment = self._around.environment
            except CannotStart as error:
                self._refusal = error
        self._copied: CopiedOutput | None = None
        self._script = -1
        with contextlib.suppress(OSError):  # the first task says what is wrong with it
            self._script = open_regular(definition.script)

    def start(self, index: int, attempt: int, is_piped: bool) -> int:
        """Start an attempt of a task, which writes into a pipe if `is_piped`; returns its process's id. Raises CannotStart,
        StillBusy, OutputRefused, OSError."""
        if self._refusal is not None:
            raise self._refusal
        word = self._environment[b"JJ_ARRAY_INDEX"] = b"%d" % index
        if self._entries is not None:
            word = self._environment[b"JJ_ENTRY"] = self._entries.of(index)
        self._environment[b"JJ_SCRATCH_DIR"] = os.fsencode(self._workplace.directory)
        words = (os.fsdecode(word), *(self._around.arguments if self._around is not None else ()))
        directory, output = self._workplace.scratch, self._workplace.output
        if self._around is not None and self._around.directory >= 0:
            directory = self._around.directory
        error = -1
        if self._has_own_files:
            paths = [self._array.output_path(stream, index, attempt) for stream in ("output", "error")]
            try:
                files = self._files = OwnFiles(paths[0], paths[1], is_piped)
            except OSError as refusal:
                raise OutputRefused(explain_error(refusal)) from refusal
            output, error = files.output if files.output >= 0 else output, files.error

        def start() -> int:
            return start_session(self._array.script, directory, output, self._environment, words, error)

        try:
            if is_piped and output == self._workplace.output:
                self._copied = CopiedOutput(output)
                output = self._copied.descriptor
            try:
                return start()
            except CannotStart as refusal:
                if refusal.status != NOT_FOUND_STATUS or not self._put_script_back():
                    raise
                return start()
        except BaseException:
            self.finish_output()
            if self._files is not None:
                self._files.remove()
            raise

    def _put_script_back(self) -> bool:
        """Put the script back, if a task removed or moved it: the others are to run. Returns whether it was gone and is there.
        A kill leaves it gone; another worker that has a chunk of the array puts it back."""
        path = self._array.script
        if self._script < 0 or os.path.lexists(path):
            return False
        with contextlib.suppress(OSError):
            content = os.pread(self._script, MOST_BYTES, 0)
            if content:
                write_whole(path, content, stat.S_IMODE(os.fstat(self._script).st_mode), is_exact=True)
                return True
        return False

    def take_note(self, index: int) -> str | None:
        """What people have to know of the files of the task that ran last: where they are, if not where its first attempt would
        have put them."""
        files, self._files = self._files, None
        if files is None:
            return None
        notes = list(files.notes)
        for stream, path in files.paths.items():
            note = explain_where(stream, path)
            if path != self._array.output_path(stream, index, 1) and not any(one.endswith(note) for one in notes):
                notes.append(note)
        return "\n".join(notes) or None

    def finish_output(self) -> None:
        """Wait until what a task wrote is in the output file, if it goes there through a pipe. Close the task's own files."""
        if self._files is not None:
            self._files.close()
        if self._copied is not None:
            copied, self._copied = self._copied, None
            copied.finish()

    def close(self) -> None:
        if self._script >= 0:
            os.close(self._script)
        if self._around is not None:
            self._around.close()
