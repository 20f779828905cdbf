"""Changes of batches: one at a time per batch, made wholly or not at all. Others finish the change of a dead process.

    batches/<name>/batch.json           the state of the batch; written whole, by rename
    batches/<name>/change/<id>.json     the change that is being made, and its process
    batches/<name>/change/<id>.given_up  the same, after a person said that this process is gone for good
    batches/<name>/change/<id>.…        the next content of batch.json
    limbo/.batch-<id>/                  the jobs that the change writes (release.py), or cancels (cancel.py)

1. Take the batch: rename a directory that holds `<id>.json` to `change`; for a new batch, rename the batch's whole directory.
   A rename onto a directory that is not empty fails everywhere, so one process has the batch. 2. Write the jobs.
3. COMMIT: `batch.json` names the change. 4. Make the jobs claimable, journal `batch`. 5. Give the batch back.
After a kill before 3, nothing is submitted, and `settle` removes the files. After a later kill, `settle` does 4 and 5.
Several batches of one submission have one change. The first of them is its leader: its `batch.json` commits all of them, and it
is given back last.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from jobjar.access.refusals import explain_error
from jobjar.batches.release import discard_staged, release_staged
from jobjar.batches.state import move_json, open_batches, read_batch, read_json, write_json, write_json_in
from jobjar.batches.waiting_jobs import CHUNK, cancel_batch, set_priority
from jobjar.errors import (
    BatchBusy,
    BatchUnfinished,
    LedgerError,
    SubmitFailed,
)
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.job_file.names import new_id, parse_priority
from jobjar.liveness import ALIVE, DEAD, ProcessIdentity, liveness, this_process
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.contents import BATCH, CHANGE
from jobjar.shared_disk.creating import (
    make_directory_in,
    opened,
    temporary_path_of_node,
)
from jobjar.shared_disk.files import look, make_directory, remove_file, sync_directory
from jobjar.shared_disk.listing import list_directory
from jobjar.shared_disk.moves import rename_directory
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.regular import open_directory_in
from jobjar.shared_disk.trees import remove_entry, remove_tree
from jobjar.stages.submit import Submission, stage_chunk

_TRIES = 3
_underway: set[str] = set()  # the changes that this process is making


class Change(NamedTuple):
    """A change that is being made: its batches, the leader first, and its process."""

    id: str
    batches: tuple[str, ...]
    by: str
    process: ProcessIdentity
    # A person said that its process is gone for good, so it cannot commit any more.
    is_given_up: bool = False


def is_taken(jar: Jar, name: str) -> bool:
    """Whether a batch has this name already, or a living process is about to make one. Raises BatchBusy where the process is
    of another node, and may be dead."""
    if look(jar.layout.batch(name).path) is None:
        return False
    if not settle(jar, name):
        held = read_change(jar, name)
        if held is not None and liveness(held.process) != ALIVE and look(jar.layout.batch(name).file) is None:
            raise BatchBusy(name=name, pid=held.process.pid, node=held.process.node)
    return look(jar.layout.batch(name).path) is not None


# Taking a batch and giving it back


def new_change(batches: Sequence[str]) -> Change:
    return Change(new_id(), tuple(batches), login(), this_process())


def take_name(jar: Jar, name: str, change: Change) -> bool:
    """Make a batch's directory, held by `change`. Returns whether the name was free."""
    return _rename_prepared(jar, change, "/change", jar.layout.batch(name).path)


def take_batch(jar: Jar, name: str) -> Change:
    """Take an existing batch, to change it. Finishes or discards the change of a dead process. Raises UnknownBatch, BatchBusy."""
    change = new_change([name])
    _underway.add(change.id)  # before it can be seen: another thread would take it for a left-over
    is_held = False
    try:
        for _ in range(_TRIES):
            read_batch(jar, name)
            is_held = _rename_prepared(jar, change, "", jar.layout.batch(name).change)
            if is_held:
                return change
            if not settle(jar, name):
                break
    finally:
        if not is_held:
            _underway.discard(change.id)
    held = read_change(jar, name)
    process = held.process if held else change.process
    raise BatchBusy(name=name, pid=process.pid, node=process.node)


def _rename_prepared(jar: Jar, change: Change, inner: str, target: str) -> bool:
    """Make a directory with the change's file at its `inner` path, and rename it to `target`. False where `target` is taken.

    Raises the errors of `Jar.journal`: a change that cannot be journaled must not be made at all."""
    _ = jar.journal
    with contextlib.suppress(FileExistsError):
        make_directory(jar.layout.batches, 0o777 & ~jar.umask)  # a jar of an earlier version
    prepared = temporary_path_of_node(f"{jar.layout.batches}/")
    name = os.path.basename(prepared)
    said = {"id": change.id, "batches": change.batches, "by": change.by, **change.process._asdict()}
    with open_batches(jar, jar.layout.batches) as batches:
        try:
            with _made_directory(jar, batches, prepared) as directory, contextlib.ExitStack() as stack:
                here = stack.enter_context(_made_directory(jar, directory, prepared + inner)) if inner else directory
                write_json_in(jar, here, f"{prepared}{inner}/{change.id}.json", said)
            return _take_place(jar, batches, name, change, inner, target)
        finally:
            remove_entry(batches, jar.layout.batches, name)


@contextlib.contextmanager
def _made_directory(jar: Jar, above: int, path: str) -> Iterator[int]:
    name = os.path.basename(path)
    make_directory_in(above, name, path, 0o777 & ~jar.umask)
    with opened(lambda: open_directory_in(above, name, path), path) as made:
        if jar.is_for_group:
            patiently(lambda: os.fchmod(made, 0o2770), path)
        yield made


def _take_place(jar: Jar, batches: int, name: str, change: Change, inner: str, target: str) -> bool:
    """Rename the prepared directory to `target`. False where `target` is taken."""

    def is_own() -> bool:
        return look(f"{target}{inner}/{change.id}.json") is not None

    try:
        with open_batches(jar, os.path.dirname(target)) as there:
            return rename_directory(name, os.path.basename(target), is_own, batches, there)
    except FileNotFoundError:
        return False  # the batch was removed


def give_back(jar: Jar, change: Change) -> None:
    """Let others change the batches, the leader's last. Removes a new batch that was not committed."""
    for name in reversed(change.batches):
        paths = jar.layout.batch(name)
        own = [entry.name for entry in list_directory(paths.change) if entry.name.startswith(f"{change.id}.")]
        holding = [f"{change.id}.json", f"{change.id}.given_up"]
        for left in [*(left for left in own if left not in holding), *holding]:
            remove_file(f"{paths.change}/{left}")
        _remove_if_empty(jar, name)


def let_go(jar: Jar, change: Change) -> None:
    """Give the batches of a change back that changed no batch."""
    give_back(jar, change)
    _underway.discard(change.id)


def _remove_if_empty(jar: Jar, name: str) -> None:
    paths = jar.layout.batch(name)
    if look(paths.file) is None:
        remove_tree(paths.array)
    for path in (paths.change, *([paths.path] if look(paths.file) is None else [])):
        with contextlib.suppress(OSError):  # not empty: another holds it
            os.rmdir(path)


def read_change(jar: Jar, name: str) -> Change | None:
    """The change that is being made to a batch, or None."""
    for entry in list_directory(jar.layout.batch(name).change):
        data = read_json(entry.path, CHANGE) if entry.name.endswith((".json", ".given_up")) else None
        if data is not None:
            process = ProcessIdentity(
                data["node"], data["pid"], data["started"], data["boot_id"], data.get("pid_namespace", "")
            )
            return Change(data["id"], tuple(data["batches"]), data["by"], process, entry.name.endswith(".given_up"))
    return None


# Writing the jobs, committing, finishing, discarding


def stage_jobs(jar: Jar, change: Change, submissions: Iterable[Submission]) -> int:
    """Write the jobs of a change. Returns how many. Raises SubmitFailed, OSError."""
    directory = jar.layout.staged(change.id)
    iterator = iter(submissions)
    count = 0
    for number in itertools.count():
        chunk = list(itertools.islice(iterator, CHUNK))
        if not chunk:
            return count
        if not number:
            make_directory(directory, 0o777 & ~jar.umask)
        stage_chunk(jar, chunk, f"{directory}/{number:08d}")
        count += len(chunk)
    raise AssertionError("itertools.count() has no end")


def prepare(jar: Jar, name: str, state: dict[str, Any]) -> None:
    """Write the state that a batch gets once the change's leader is committed. Raises OSError."""
    paths = jar.layout.batch(name)
    write_json(jar, f"{paths.change}/{state['change']}.prepared", state)
    sync_directory(paths.change)


def commit(jar: Jar, change: Change, state: dict[str, Any]) -> None:
    """Write the leader's state, which names the change. Raises OSError: nothing was changed then."""
    paths = jar.layout.batch(change.batches[0])
    staged = jar.layout.staged(change.id)
    for path in (staged, jar.layout.limbo, jar.layout.batches):
        if look(path) is not None:
            sync_directory(path)
    written = f"{paths.change}/{change.id}.state"
    write_json(jar, written, {**state, "change": change.id})
    # The order matters: this writes the state, then looks for the file. Settling a given-up change finds that file renamed, and
    # then removes the state.
    if read_json(f"{paths.change}/{change.id}.json", CHANGE) is None:
        raise _given_up(paths.change)
    try:
        # COMMIT: from here the change is made, and the jobs in its directory are submitted
        with open_batches(jar, paths.change) as here, open_batches(jar, paths.path) as there:
            name, last = os.path.basename(written), os.path.basename(paths.file)
            patiently(lambda: os.rename(name, last, src_dir_fd=here, dst_dir_fd=there), written)
    except FileNotFoundError:
        if not is_committed(jar, change):  # the rename may have happened although it failed
            raise _given_up(paths.change) from None
    sync_directory(paths.path)


def _given_up(path: str) -> OSError:
    return FileNotFoundError(errno.ENOENT, "the change was given up (recover_jobs --batch)", path)


def is_committed(jar: Jar, change: Change) -> bool:
    state = read_json(jar.layout.batch(change.batches[0]).file, BATCH)
    return state is not None and state.get("change") == change.id


def finish(jar: Jar, change: Change, meter: Meter = SILENT) -> None:
    """Do the rest of a committed change. Two processes may do it at once. Raises OSError, LedgerError: the
    next process that settles the change goes on."""
    states = []
    for name in change.batches:
        paths = jar.layout.batch(name)
        prepared = f"{paths.change}/{change.id}.prepared"
        if look(prepared) is not None:
            move_json(jar, prepared, paths.file)
        states.append(read_batch(jar, name))
    jar.journal.append([state.entry() for state in states], durable=True)
    release_staged(jar, jar.layout.staged(change.id), change.by, meter)
    for state in states:
        if state.is_aborted:
            cancel_batch(jar, state.name, change.id, change.by, partial(is_aborted, jar, state.name))
        elif state.data.get("priority_by") == change.id:
            is_wanted = partial(_has_priority_by, jar, state.name, change.id)
            set_priority(jar, state.name, parse_priority(dict(state.keys)["priority"]), change.by, is_wanted)
    give_back(jar, change)


def is_aborted(jar: Jar, name: str) -> bool:
    """Whether a batch is aborted now: another process may have finished the abort, and restarted the batch."""
    return read_batch(jar, name).is_aborted


def _has_priority_by(jar: Jar, name: str, change_id: str) -> bool:
    return read_batch(jar, name).data.get("priority_by") == change_id


@contextlib.contextmanager
def making(jar: Jar, change: Change, what: str, meter: Meter = SILENT) -> Iterator[None]:
    """Finish the change that the body commits. Where the body fails before its commit, nothing is changed.

    Raises SubmitFailed where the disk refuses something before the commit, and BatchUnfinished where the disk or the ledger
    refuses something after it. A KeyboardInterrupt is raised again, and says whether it came before or after the commit.
    """
    _underway.add(change.id)
    try:
        try:
            yield
            finish(jar, change, meter)
        except BaseException as error:
            has_happened = is_committed(jar, change)
            if not has_happened:
                discard(jar, change)
            if isinstance(error, KeyboardInterrupt):
                rest = (
                    "is decided; recover_jobs finishes it" if has_happened else "was not made, and left nothing behind"
                )
                raise KeyboardInterrupt(f"interrupted: {what} {rest}") from error
            refused = (OSError, LedgerError) if has_happened else OSError
            if not isinstance(error, refused):
                raise
            reason = str(error)
            if isinstance(error, OSError):
                reason = explain_error(error)
            if has_happened:
                raise BatchUnfinished(name=change.batches[0], reason=reason) from error
            raise SubmitFailed(path=what, reason=reason) from error
    finally:
        _underway.discard(change.id)


def discard(jar: Jar, change: Change) -> None:
    """Remove the files of a change that was not committed, and give its batches back."""
    discard_staged(jar.layout.staged(change.id))
    give_back(jar, change)


def settle(jar: Jar, name: str, log: Callable[[str], None] = lambda line: None) -> bool:
    """Finish or discard a batch's change that was given up, or that no living process is making. Returns whether the batch is
    free now.

    Any process may finish a committed change. A change that was not committed stays where its process may be alive on another
    node.
    """
    change = read_change(jar, name)
    if change is None:
        _remove_if_empty(jar, name)
        return True
    alive = DEAD if change.is_given_up else liveness(change.process)
    if change.is_given_up:
        # Its process may be alive, just before its commit. Without this file the commit has nothing to rename.
        remove_file(f"{jar.layout.batch(change.batches[0]).change}/{change.id}.state")
    elif change.process == this_process():
        # An earlier call in this process could not finish or discard this change, because the disk refused.
        alive = ALIVE if change.id in _underway else DEAD
    if alive == ALIVE:
        return False
    if is_committed(jar, change):
        finish(jar, change)
        log(f"batch {name}: went on with the change {change.id}, which was made and not finished")
        return True
    if alive != DEAD:
        return False
    discard(jar, change)
    log(f"batch {name}: discarded the change {change.id}, whose process died before it was made")
    return True
