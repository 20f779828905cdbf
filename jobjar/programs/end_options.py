"""The options that say when a worker ends by itself, as `Limits` (worker/own_end.py). Reads clocks; writes nothing."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobjar.units import LONGEST_S, parse_coming, parse_seconds

if TYPE_CHECKING:
    from jobjar.worker.own_end import Limits


def add_end_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when the worker ends by itself (default: never)")
    time_options = group.add_mutually_exclusive_group()
    time_options.add_argument(
        "--for",
        dest="for_s",
        type=parse_some_time,
        metavar="TIME",
        help="end after this time (2h); a job whose time limit (else: job_runtime) is longer than what is left is not claimed",
    )
    time_options.add_argument(
        "--until",
        type=_parse_until,
        metavar="TIME",
        help="the same, at a time: 18:00, 2026-12-24T18:00, +2h",
    )
    group.add_argument(
        "--max-jobs",
        type=parse_some,
        metavar="N",
        help="end after N jobs; a chunk of an array counts as one",
    )
    group.add_argument(
        "--idle-exit",
        type=parse_some_time,
        metavar="TIME",
        help="end after this time without a job (10m)",
    )


def read_limits(options: argparse.Namespace, grace_time_s: float, warn: Callable[[str], None]) -> Limits:
    """The limits that the options give, which begin now. Without a time in them, the allocation's end counts in which this
    program runs: at that time nothing is to be left of a job that had `grace_time_s` to end."""
    from jobjar.worker.own_end import Limits

    if options.for_s is None and options.until is None:
        ends_at, why = _find_end_of_allocation(grace_time_s, warn)
        return Limits(None, ends_at, options.max_jobs, options.idle_exit, why, setup=options.setup or "")

    deadline = None
    if options.for_s is not None:
        from jobjar.units import format_seconds

        why, deadline = f"--for {format_seconds(options.for_s)}", time.monotonic() + options.for_s
    else:
        why = f"--until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(options.until))}"
    return Limits(deadline, options.until, options.max_jobs, options.idle_exit, why, setup=options.setup or "")


def limits_as_words(limits: Limits, options: argparse.Namespace) -> list[str]:
    """The options that give a worker on another host the same limits."""
    words = []
    if limits.ends_at is not None:
        # Written with a zone, because the other host may be in another one.
        words += ["--until", time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(limits.ends_at))]
    elif options.for_s is not None:
        words += ["--for", f"{options.for_s:f}"]
    words += [] if limits.most_jobs is None else ["--max-jobs", str(limits.most_jobs)]
    return words + ([] if limits.idle_exit_s is None else ["--idle-exit", f"{limits.idle_exit_s:f}"])


def _find_end_of_allocation(grace_time_s: float, warn: Callable[[str], None]) -> tuple[float | None, str]:
    from jobjar.worker.allocation import end_in_allocation, find_allocation

    allocation = find_allocation(os.environ)
    if allocation is None:
        return None, ""
    if not allocation.is_known:
        warn(f"this is {allocation.name}, and nothing says when it ends: give --for or --until")
    return end_in_allocation(allocation, grace_time_s), f"the end of {allocation.name} was near"


def parse_some_time(text: str) -> float:
    """Parse a time above 0. Raises ArgumentTypeError."""
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not 0 < seconds <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r}: give a time above 0, such as 90, 10m or 2h")
    return seconds


def _parse_until(text: str) -> float:
    now = time.time()
    try:
        moment = parse_coming(text, now)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if moment <= now:
        raise argparse.ArgumentTypeError(f"{text!r} is over")
    return moment


def parse_some(text: str) -> int:
    """Parse a number of 1 or more. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)
