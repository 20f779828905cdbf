"""The options that say when a worker ends by itself, as `Limits` (worker/own_end.py). Reads clocks; writes nothing."""

from __future__ import annotations

import argparse
import time
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
        type=_parse_time,
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
        type=_parse_count,
        metavar="N",
        help="end after N jobs; a chunk of an array counts as one",
    )
    group.add_argument(
        "--idle-exit",
        type=_parse_time,
        metavar="TIME",
        help="end after this time without a job (10m)",
    )


def read_limits(options: argparse.Namespace) -> Limits:
    """The limits that the options give, which begin now."""
    from jobjar.worker.own_end import Limits

    why = deadline = None
    if options.for_s is not None:
        from jobjar.units import format_seconds

        why, deadline = f"--for {format_seconds(options.for_s)}", time.monotonic() + options.for_s
    elif options.until is not None:
        why = f"--until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(options.until))}"
    return Limits(deadline, options.until, options.max_jobs, options.idle_exit, why or "")


def _parse_time(text: str) -> float:
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


def _parse_count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)
