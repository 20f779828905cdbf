"""The part of `jobjar submit` that submits arrays, and waits for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jobjar.arrays.definition import JSON, LINES
from jobjar.arrays.entries import STANDARD_INPUT, check_lines, read_entries_file, read_json, split_lines
from jobjar.arrays.indexes import Indexes, parse_array
from jobjar.arrays.submit import Plan, submit_array
from jobjar.errors import UsageError
from jobjar.reports.progress import Progress

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.stages.submit import Submission


def submit_and_wait(
    jar: Jar, submission: Submission, options: argparse.Namespace, parser: argparse.ArgumentParser
) -> int:
    """Submit the array that the options describe, print its id, and wait for it if they say so; returns the exit status. Raises
    UsageError and the errors of submit_array."""
    from jobjar.programs.command import complain
    from jobjar.reports.arrays import count_unsuccessful, format_array

    uid = _submit(jar, submission, options, parser)
    print(uid, flush=True)
    if jar.has_new_dependents:
        from jobjar.steering.dependents import fold_and_settle

        fold_and_settle(jar)
    if not options.wait:
        return 0
    described = wait_for_array(jar, uid, parser.prog)
    complain(parser.prog, format_array(described))
    return 1 if count_unsuccessful(described) else 0


def _submit(jar: Jar, submission: Submission, options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    chunk = read_count(parser, "--chunk", options.chunk)
    at_once = read_count(parser, "--limit", options.limit)
    if options.array is not None:
        try:
            indexes, limit = parse_array(options.array)
        except ValueError as error:
            raise UsageError(reason=f"--array: {error}; nothing was submitted") from error
        if at_once is not None and limit is not None:
            parser.error("give the limit once: with --limit, or behind a %")
        return submit_array(
            jar,
            Plan(submission, indexes, at_once=at_once or limit, chunk=chunk, fails_fast=options.fail_fast),
        )
    path = options.each_line if options.each_line is not None else options.each_json
    data = read_entries_file(path)
    if options.each_line is not None:
        kind, entries = LINES, list(check_lines(split_lines(data), path))
    else:
        kind, entries = JSON, read_json(data, path)
    if not entries:
        raise UsageError(reason=f"{path} has no entries; nothing was submitted")
    indexes = Indexes(1, len(entries))
    return submit_array(jar, Plan(submission, indexes, kind, entries, at_once, chunk, fails_fast=options.fail_fast))


def check_options(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """End the program if the options of an array contradict one another."""
    files = [options.each_line, options.each_json]
    given = [value for value in (options.array, *files) if value is not None]
    if len(given) > 1:
        parser.error("give one of --array, --each-line and --each-json")
    if not given and (options.chunk is not None or options.limit is not None):
        parser.error("--chunk and --limit are about an array: give --array, --each-line or --each-json too")
    if STANDARD_INPUT in files and options.command[:1] == [STANDARD_INPUT] and not options.file:
        parser.error("standard input can be the script or the entries, and not both; put one into a file")


def read_count(parser: argparse.ArgumentParser, option: str, text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**9):
        parser.error(f"{option}: {text!r} is not a number of tasks")
    return None if text is None else int(text)


def wait_for_array(jar: Jar, uid: str, program: str, on_look: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Wait until no task of an array is left to run; returns what `describe_array` says of it then. `on_look` is called about
    once a second, when the ledger is up to date; it may print."""
    from jobjar.ledger.ask_arrays import array_of
    from jobjar.programs.command import complain
    from jobjar.programs.shown_meter import ShownWait
    from jobjar.reports.arrays import describe_array
    from jobjar.reports.targets import select
    from jobjar.reports.wait import Wait, refresh_patiently

    shown = ShownWait(lambda line: complain(program, line), "tasks")

    def show(progress: Progress) -> None:
        shown.clear()
        on_look()
        array = array_of(jar.ledger.connection, uid)
        if array is not None and array.tasks:
            shown.show(Progress(array.tasks, array.succeeded + array.failed, array.failed, progress.running))

    try:
        refresh_patiently(jar)
        Wait(jar, select(jar, (), [uid]), shown.log, show).run(None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{uid} goes on; `jobjar wait {uid}` waits for it, `jobjar cancel {uid}` ends it"
        ) from None
    finally:
        shown.end()
    array = array_of(jar.ledger.connection, uid)
    assert array is not None
    return describe_array(jar, array)
