"""Store the published files of a described job, by the stock handler or by the user's own software package.

Reads `underway/<uid>/<attempt>.<worker_uid>/output/`; writes JJ_STORAGE_PATH. After a kill anywhere, the job goes back with its
state.json, and the next worker that claims it stores the files again. It recognizes stored ones (publishing/storage.py).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jobjar.access.refusals import explain_error
from jobjar.attempts.attempt import INTERRUPTED
from jobjar.attempts.workplace import Workplace
from jobjar.described.command import make_text
from jobjar.described.steps import STORE, Attempt, StageFailed, Steps, Work
from jobjar.errors import CannotStore, JarError, LedgerError
from jobjar.fetching.copying import LOOKS_S
from jobjar.jar import Jar
from jobjar.job_file.description import parse_source
from jobjar.journal.entries import stored_entry
from jobjar.ledger.ask_claiming import count_attempts
from jobjar.packages.install import Package, find_command, install
from jobjar.processes.ending import doubt, seems_ended_on_request, wait_for_child
from jobjar.processes.exit_status import shell_status
from jobjar.processes.starting import start_shell
from jobjar.publishing.outputs import finish_publishing
from jobjar.publishing.storage import run_storage_software, storage_path, store_file
from jobjar.publishing.underway import OutputFile, State
from jobjar.publishing.variables import StoredRecords
from jobjar.shared_disk.files import look, replace_file

# After a refusal the job is tried again after the first delay, doubled each time up to the longest; in seconds.
FIRST_DELAY_S, LONGEST_DELAY_S = 5.0, 300.0
# This file beside a state says why the published files cannot be stored, and are kept.
_REFUSED_FILE = "refused"


class Refused(Exception):
    """The storage cannot be used now. The job goes back, to be stored later."""


def store_outputs(
    attempt: Attempt, state: State, directory: str, is_all: bool, make_workplace: Callable[[], Workplace]
) -> Steps[None]:
    """Store every file published in `directory`. `is_all`: the attempt does nothing else, so its wall time is that of storing.

    Raises Refused where storing may succeed later, StageFailed where it cannot: a name is taken by other content, say.
    """
    attempt.begin(STORE)
    started = time.monotonic()
    try:
        published = finish_publishing(directory)
        if attempt.jar.settings.storage_software:
            yield from _store_by_software(attempt, state, published, make_workplace)
        else:
            where = storage_path(attempt.jar)
            for file in state.files:
                yield from _store_file(attempt, state, file, f"{published}/{file.name}", where)
    except CannotStore as error:
        raise StageFailed(STORE, str(error)) from error
    except OSError as error:
        raise Refused(f"store: {_explain(attempt, error)}") from error
    except (JarError, ValueError) as error:
        raise Refused(f"store: {error}") from error
    finally:
        if is_all:
            attempt.wall_time_s = time.monotonic() - started
    attempt.end()


def _explain(attempt: Attempt, error: OSError) -> str:
    named = attempt.jar.settings.storage_path
    is_missing = error.errno == errno.ENOENT and error.filename == named
    return explain_error(error) + (", or name another storage path (JJ_STORAGE_PATH)" if is_missing else "")


def _store_file(attempt: Attempt, state: State, file: OutputFile, path: str, where: str) -> Steps[None]:
    record: dict[str, Any] = yield Work(partial(store_file, path, file, where, state.output_path, attempt.check))
    attempt.entries.append(stored_entry(attempt.about, record))


def _store_by_software(
    attempt: Attempt, state: State, published: str, make_workplace: Callable[[], Workplace]
) -> Steps[None]:
    package: Package = yield Work(partial(_install, attempt))
    if attempt.workplace is None:
        attempt.settle(make_workplace())
    text = make_text(find_command("storage_command", None, [package]), [package])
    of_storage = {
        b"JJ_PHASE": STORE.encode(),
        b"JJ_STORAGE_PATH": os.fsencode(attempt.jar.settings.storage_path),
        b"JJ_STORAGE_CLASS": (state.storage_class or "").encode(),
        b"JJ_OUTPUT_PATH": os.fsencode(state.output_path),
    }
    call = partial(_call, attempt, text, {**attempt.environment, **of_storage})
    said: StoredRecords = yield Work(
        partial(run_storage_software, attempt.directory, published, state.files, call, attempt.check), is_short=True
    )
    attempt.warn(said.warnings)
    attempt.entries += [stored_entry(attempt.about, record) for record in said.records]


def _install(attempt: Attempt) -> Package:
    source = parse_source(attempt.jar.settings.storage_software)
    return install(attempt.jar.layout.software, source, None, attempt.log, attempt.check, attempt.log_warning)


def _call(attempt: Attempt, text: str, environment: dict[bytes, bytes], directory: str) -> int:
    """Run the storage_command; called in a thread. Returns its exit status, for a signal 128 more than its number."""
    assert attempt.workplace is not None
    pid = start_shell(text, (directory,), attempt.workplace.job_output, environment)
    ended = wait_for_child(pid, attempt.check, LOOKS_S, attempt.jar.settings.grace_time_s)
    attempt.count(ended)
    if seems_ended_on_request(ended):
        doubt(attempt.check)
    return shell_status(ended.exit_status, ended.signal)


def count_refusals(jar: Jar, state: State) -> int:
    """Count how often a job was sent back since its files were published; 0 where the ledger cannot be read."""
    try:
        with jar.ledger.writing() as connection:
            return count_attempts(connection, state.job, (INTERRUPTED,), state.attempt - 1)
    except (LedgerError, OSError):
        return 0


def delay_after(refusals: int) -> float:
    """The delay in seconds for a job that was refused so often before."""
    return min(FIRST_DELAY_S * 2.0 ** min(refusals, 20), LONGEST_DELAY_S)


def keep_published(directory: str, why: str) -> None:
    """Keep the published files where they are after their job is completed. `why` is written beside them. Raises OSError."""
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {why}\n"
    replace_file(f"{directory}/{_REFUSED_FILE}", text.encode("utf-8", "replace"))


def is_kept(directory: str) -> bool:
    """Whether the files published in `directory` are kept for people to look at."""
    return look(f"{directory}/{_REFUSED_FILE}") is not None
