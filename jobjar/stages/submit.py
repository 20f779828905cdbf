"""Put a job into the unclaimed jar.

The steps: write the file to limbo, fsync, journal `submitted`, rename to unclaimed (the commit), journal `moved`. A kill
before the rename leaves a file in limbo, which the status report names. Without its run bit it is a half copy, which
recovery discards after a day. After the rename the job is claimable, and a scan adds it to the ledger. A job that is to be
held, or has prerequisites, stays in limbo: one append with `submitted` and its move is the commit, and nothing is renamed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jobjar.access.refusals import explain_at, name_place
from jobjar.attempts.copied_output import MARK, names_its_output
from jobjar.errors import BadCommand, JarError, NotExecutable, SubmitFailed
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.attributes import merge_attributes, parse_attributes, read_header
from jobjar.job_file.header import HEADER_BYTES, refuse_misplaced
from jobjar.job_file.names import check_category, make_name
from jobjar.job_file.prerequisites import LookedUp, has_words
from jobjar.journal.entries import submitted_entry
from jobjar.journal.read import Entry
from jobjar.journal.submitted import first_move_entry, held_entry, is_to_be_held
from jobjar.layout import unclaimed_place
from jobjar.shared_disk.clock import disk_time
from jobjar.shared_disk.creating import create_anew
from jobjar.shared_disk.file_mark import mark_prefix, sum_beginning
from jobjar.shared_disk.files import is_directory, look, make_directory, sync_directory, write_all
from jobjar.shared_disk.moves import move_under_own_name
from jobjar.shared_disk.patience import is_transient, keep_trying, patiently

T = TypeVar("T")
# How many jobs of one submit_jobs call go through the steps together.
CHUNK = 200
_COPY_BYTES = 1 << 20


class Submission(NamedTuple):
    """A job to submit. Exactly one of these is not None: `command` (a shell line), `path` (an executable file to copy),
    `script` (the text of the job's file). Without priority (None), category ('') and identifier (None) its file may say them.
    `says_all`: each attribute is in the file. `is_chunk`: it is a chunk of an array, which its name has to show."""

    command: str | None
    path: str | None
    priority: int | None
    category: str
    identifier: str | None
    attributes: Mapping[str, Any]
    script: bytes | None = None
    says_all: bool = False
    title: str | None = None
    is_chunk: bool = False

    @property
    def what(self) -> str:
        if self.title is not None:
            return self.title
        if self.script is not None:
            return f"the job {self.identifier}"
        return self.path if self.path is not None else f"the command {self.command!r}"


class _Limbo(NamedTuple):
    name: str
    path: str
    descriptor: int
    submission: Submission
    beginning: str  # the sum of the file's first bytes (shared_disk/file_mark.py)


def describe_command(
    command: str | Sequence[str],
    priority: int | None = None,
    category: str | None = None,
    identifier: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Submission:
    """A submission of a command. Words are joined by single spaces, and the shell reads the result (guide).

    Raises BadCommand, BadCategory, BadAttribute. Priority and identifier are checked later, when the name is made.
    """
    line = command if isinstance(command, str) else " ".join(command)
    if not line.strip():
        raise BadCommand(reason="it is empty")
    if "\0" in line:
        raise BadCommand(reason="it has a NUL")
    values = parse_attributes(attributes or {}, "submission")
    return Submission(line, None, priority, check_category(category) if category else "", identifier, values)


def describe_file(
    path: str,
    priority: int | None = None,
    category: str | None = None,
    identifier: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Submission:
    """A submission of a copy of an executable file. Raises NotExecutable, BadCategory, BadAttribute."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise NotExecutable(path=path, reason=error.strerror) from error
    if not stat.S_ISREG(status.st_mode):
        raise NotExecutable(path=path, reason="it is not a regular file")
    if not status.st_mode & 0o111:
        raise NotExecutable(path=path, reason=f"it is not executable (`chmod +x {path}`)")
    values = parse_attributes(attributes or {}, "submission")
    return Submission(None, path, priority, check_category(category) if category else "", identifier, values)


def submit(jar: Jar, submission: Submission) -> str:
    """Submit one job; returns its name. Once this returns, the job outlives a crash of this node.

    Raises SubmitFailed (nothing of the job is in the jar), BadPriority, BadIdentifier, BadAttribute, NotExecutable.
    """
    return submit_all(jar, [submission])[0]


def submit_all(jar: Jar, submissions: Iterable[Submission]) -> list[str]:
    """Submit many jobs in their order; returns their names. This is cheaper per job than `submit`.

    Raises the errors of `submit`. Jobs before the one that failed may be submitted then: the error's field `submitted` has
    their names.
    """
    names: list[str] = []
    chunk: list[Submission] = []
    iterator = iter(submissions)
    try:
        while True:
            chunk = list(itertools.islice(iterator, CHUNK))
            if not chunk:
                return names
            _submit_chunk(jar, chunk, names)
            jar.mirror(after_s=jar.settings.poll_time_s)
    except JarError as error:
        error.fields["submitted"] = names
        raise


def _submit_chunk(jar: Jar, chunk: Sequence[Submission], names: list[str]) -> None:
    """Submit a chunk. The names of the jobs that are in the jar are added to `names`, even if this raises."""
    pending: list[_Limbo] = []
    looked_up: LookedUp = {}
    by = login()
    try:
        for submission in chunk:
            jar.make_category(submission.category)
            pending.append(_write_to_limbo(jar, submission, jar.layout.limbo, looked_up))
        _start_writing(pending)
        entries = [_sync_file(jar, job, by) for job in pending]
        held = [held_entry(entry) for entry in entries if is_to_be_held(entry)]
        # Attributes that are not in the file have to outlive this node as the file does.
        durable = any(job.submission.attributes and not job.submission.says_all for job in pending)
        # COMMIT: from here the jobs that are to be held are submitted.
        _or_fail(pending[0].submission, lambda: jar.journal.append([*entries, *held], durable or bool(held)))
    except JarError:
        for job in pending:
            with contextlib.suppress(OSError):
                os.unlink(job.path)
        raise
    finally:
        for job in pending:
            with contextlib.suppress(OSError):  # its content was synced
                os.close(job.descriptor)
    moved = []
    refused: tuple[_Limbo, OSError] | None = None
    for job, entry in zip(pending, entries, strict=True):
        if not is_to_be_held(entry):
            if refused is None:
                try:
                    moved.append(_move_to_unclaimed(jar, job, entry))
                except OSError as error:
                    refused = job, error
            if refused is not None:
                # Jobs that were not moved are not submitted. Remove their files.
                with contextlib.suppress(OSError):
                    os.unlink(job.path)
                continue
        names.append(job.name)
    with contextlib.suppress(OSError):
        jar.journal.append(moved)  # the jobs are submitted; if this fails, a scan finds them
    with contextlib.suppress(*([OSError] if refused else [])):  # the first error is the one to report
        if held:
            sync_directory(jar.layout.limbo)
        for category in {job.submission.category for job in pending}:
            sync_directory(jar.layout.category_directory(category))
    if refused is not None:
        job, why = refused
        raise SubmitFailed(path=job.submission.what, reason=explain_at(why, job.path)) from why


def stage_chunk(jar: Jar, chunk: Sequence[Submission], directory: str) -> None:
    """Write the files of many jobs into a new directory of a change (layout.staged), and make them durable. Nothing takes them
    for jobs there. The sub-directories are those of unclaimed. batches/release.py makes the jobs claimable.

    Raises SubmitFailed, BadPriority, BadIdentifier, BadAttribute, NotExecutable; the caller then removes what was written.
    """
    what = chunk[0]
    pending: list[_Limbo] = []
    categories = sorted({submission.category for submission in chunk})
    paths = {category: f"{directory}/{category}" if category else directory for category in ("", *categories)}
    try:
        for path in paths.values():
            _or_fail(what, lambda path=path: make_directory(path, 0o777 & ~jar.umask))  # type: ignore[misc]
        for submission in chunk:
            jar.make_category(submission.category)
            pending.append(_write_to_limbo(jar, submission, paths[submission.category]))
        _start_writing(pending)
        for job in pending:
            _sync_file(jar, job, "")
        for path in paths.values():
            _or_fail(what, lambda path=path: sync_directory(path))  # type: ignore[misc]
    finally:
        for job in pending:
            with contextlib.suppress(OSError):  # its content was synced
                os.close(job.descriptor)


def _write_to_limbo(jar: Jar, submission: Submission, directory: str, looked_up: LookedUp | None = None) -> _Limbo:
    """Make the job's file in `directory` (limbo, or one below it). It gets its run bit when it is whole."""
    name = make_name(submission.priority or 0, submission.identifier, submission.is_chunk)
    path = f"{directory}/{name}"
    try:
        descriptor, header, beginning = patiently(lambda: _write_file(jar, submission, path), path)
    except OSError as error:
        reason = explain_at(error, path)
        raise SubmitFailed(
            path=submission.what, reason=name_place(directory, reason) if error.filename in (None, path) else reason
        ) from error
    job = _Limbo(name, path, descriptor, submission, beginning)
    if "given" not in header and "given" not in submission.attributes:
        return job._replace(submission=submission._replace(attributes={**header, **submission.attributes}))
    try:
        return _settle(jar, job, merge_attributes(header, submission.attributes), looked_up)
    except (JarError, OSError) as error:
        with contextlib.suppress(OSError):  # the first error is the one to report
            os.close(descriptor)
            os.unlink(path)
        if isinstance(error, OSError):
            raise SubmitFailed(path=submission.what, reason=name_place(directory, explain_at(error, path))) from error
        raise


def _settle(jar: Jar, job: _Limbo, attributes: dict[str, Any], looked_up: LookedUp | None) -> _Limbo:
    """Settle what a job was given. Name, priority and category count if the submission has none. Raises BadAttribute and its
    like, OSError."""
    from jobjar.job_file.given import find_submitter, settle

    submission = job.submission
    attributes = settle(attributes, submission.what, find_submitter())
    given = attributes.pop("given", {})
    if has_words(given):
        from jobjar.selecting.prerequisite_words import settle_prerequisites

        settle_prerequisites(jar, given, attributes.get("batch"), submission.what, looked_up)
    identifier = given.get("name") if submission.identifier is None else submission.identifier
    priority = given.pop("priority", None) if submission.priority is None else submission.priority
    category = submission.category or given.get("category", "")
    given.pop("priority", None), given.pop("category", None)
    # A name, a priority or a category alone is in the file's name and place.
    if given:
        attributes["given"] = {**given, "name": identifier} if identifier else given
    said = submission._replace(priority=priority, category=category, identifier=identifier, attributes=attributes)
    if (identifier, priority, category) != (submission.identifier, submission.priority, submission.category):
        if category != submission.category:
            jar.make_category(category)
        name = make_name(priority or 0, identifier)
        path = f"{os.path.dirname(job.path)}/{name}"
        patiently(lambda: os.rename(job.path, path), path)  # nobody knows it by the other name yet
        return job._replace(name=name, path=path, submission=said)
    return job._replace(submission=said)


def _write_file(jar: Jar, submission: Submission, path: str) -> tuple[int, Mapping[str, Any], str]:
    """Write one job's file. What an earlier try left is replaced: the name is ours alone. Returns the file's descriptor, the
    attributes in it, and the sum of its beginning."""
    descriptor = create_anew(path, 0o600, os.O_RDWR)
    try:
        mode = 0o700
        if submission.script is not None:
            write_all(descriptor, submission.script)
        elif submission.path is not None:
            mode = _copy_file(submission.path, descriptor)
        else:
            write_all(descriptor, f"#!/bin/sh -f\n{submission.command}\n".encode("utf-8", "surrogateescape"))
        beginning = os.pread(descriptor, HEADER_BYTES, 0)
        header = read_header(beginning, submission.what)
        refuse_misplaced(beginning, submission.what)
        if names_its_output(beginning):
            mode |= MARK
        os.fchmod(descriptor, mode | 0o070 if jar.is_for_group else mode)
    except (OSError, JarError):
        with contextlib.suppress(OSError):  # the first error is the one to report
            os.close(descriptor)
            os.unlink(path)
        raise
    return descriptor, header, sum_beginning(beginning)


def _copy_file(path: str, target: int) -> int:
    """Copy a file's content; returns the mode for the copy. The file is checked again: it may have changed since."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotExecutable(path=path, reason=explain_at(error, path, os.R_OK)) from error
    try:
        mode = os.fstat(source).st_mode
        if not mode & 0o111:
            raise NotExecutable(path=path, reason=f"it is not executable (`chmod +x {path}`)")
        while chunk := os.read(source, _COPY_BYTES):
            write_all(target, chunk)
    finally:
        os.close(source)
    return 0o700 | mode & 0o050


def _start_writing(pending: Sequence[_Limbo]) -> None:
    """Ask the kernel to write all files at once, so that the fsyncs that follow are short."""
    if len(pending) > 1 and hasattr(os, "posix_fadvise"):
        for job in pending:
            os.posix_fadvise(job.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_file(jar: Jar, job: _Limbo, by: str) -> Entry:
    """Make the file durable; returns its `submitted` entry."""

    def write_again_and_sync() -> os.stat_result:
        # A failed fsync may drop what it was to write, and a second one would not write that.
        descriptor, _, beginning = _write_file(jar, job.submission, job.path)
        try:
            if beginning != job.beginning:  # its attributes and its mark were taken from what it was
                raise NotExecutable(
                    path=job.submission.what, reason="it was changed while it was submitted; submit it again"
                )
            os.fsync(descriptor)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def sync() -> os.stat_result:
        try:
            os.fsync(job.descriptor)
            return os.fstat(job.descriptor)
        except OSError as error:
            if not is_transient(error):
                raise
            return keep_trying(error, write_again_and_sync, job.path)

    status = _or_fail(job.submission, sync)
    mark = mark_prefix(status) + job.beginning
    return submitted_entry(job.name, job.submission.category, by, disk_time(status), job.submission.attributes, mark)


def _or_fail(submission: Submission, action: Callable[[], T]) -> T:
    try:
        return action()
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else ""
        reason = explain_at(error, place or os.curdir)
        raise SubmitFailed(path=submission.what, reason=name_place(place, reason) if place else reason) from error


def _move_to_unclaimed(jar: Jar, job: _Limbo, submitted: Entry) -> Entry:
    """Move one file; returns its `moved` entry."""
    path = jar.layout.path(unclaimed_place(job.submission.category, job.name))
    try:
        move_under_own_name(job.path, path)  # COMMIT: from here the job is submitted
    except FileNotFoundError:
        # Only this process moves a file of this name out of limbo. So the rename happened, and a worker was quick.
        if look(job.path) is not None or not is_directory(os.path.dirname(path)):
            raise
    return first_move_entry(jar.layout, submitted)
