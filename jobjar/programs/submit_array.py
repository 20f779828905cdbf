"""The part of `jobjar submit` that submits arrays."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from jobjar.arrays.definition import JSON, LINES
from jobjar.arrays.indexes import Indexes, parse_array
from jobjar.arrays.submit import Plan, submit_array
from jobjar.errors import UsageError
from jobjar.shared_disk.regular import read_given

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.stages.submit import Submission


def submit_array_as_typed(
    jar: Jar, submission: Submission, options: argparse.Namespace, parser: argparse.ArgumentParser
) -> str:
    """Submit the array that the options describe; returns its id. Raises UsageError and the errors of submit_array."""
    kinds = [options.array, options.each_line, options.each_json]
    if sum(kind is not None for kind in kinds) > 1:
        parser.error("give one of --array, --each-line and --each-json")
    chunk = None
    if options.chunk is not None:
        if not options.chunk.isdecimal() or not int(options.chunk):
            parser.error(f"--chunk: {options.chunk!r} is not a number of tasks")
        chunk = int(options.chunk)
    if options.array is not None:
        try:
            indexes, at_once = parse_array(options.array)
        except ValueError as error:
            raise UsageError(reason=f"--array: {error}; nothing was submitted") from error
        return submit_array(jar, Plan(submission, indexes, at_once=at_once, chunk=chunk, fails_fast=options.fail_fast))
    path = options.each_line if options.each_line is not None else options.each_json
    try:
        data = sys.stdin.buffer.read() if path == "-" else read_given(path)
    except OSError as error:
        raise UsageError(reason=f"{path}: {error.strerror}; nothing was submitted") from error
    if options.each_line is not None:
        kind, entries = LINES, data.split(b"\n")
        if entries[-1] == b"":
            entries.pop()
    else:
        kind, entries = JSON, _read_json(data, path)
    if not entries:
        raise UsageError(reason=f"{path} has no entries; nothing was submitted")
    if any(b"\0" in entry for entry in entries):
        raise UsageError(reason=f"{path} has a NUL; nothing was submitted")
    return submit_array(jar, Plan(submission, Indexes(1, len(entries)), kind, entries, None, chunk, options.fail_fast))


def wait_for_array(jar: Jar, uid: str, program: str) -> int:
    """Wait until an array has ended; returns 0 if all its tasks have succeeded, else 1."""
    from jobjar.programs.command import complain
    from jobjar.programs.shown_meter import ShownWait
    from jobjar.reports.arrays import describe_if_array, tell_array
    from jobjar.reports.targets import select
    from jobjar.reports.wait import Wait, refresh_patiently

    shown = ShownWait(lambda line: complain(program, line))
    try:
        refresh_patiently(jar)
        Wait(jar, select(jar, [], [uid]), shown.log, shown.show).run(None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{uid} goes on; `jobjar wait {uid}` waits for it, `jobjar cancel {uid}` ends it"
        ) from None
    finally:
        shown.end()
    described = describe_if_array(jar, uid)
    if described is None or described["failed"] + described["not_run"]:
        if described is not None:
            complain(program, tell_array(described))
        return 1
    return 0


def _read_json(data: bytes, path: str) -> list[bytes]:
    """The values of a JSON list, or of JSON lines."""
    try:
        try:
            values = json.loads(data)
            if type(values) is not list:
                values = [values]
        except ValueError:
            values = [json.loads(line) for line in data.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UsageError(reason=f"{path}: {error}; nothing was submitted") from error
    return [json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape") for value in values]
