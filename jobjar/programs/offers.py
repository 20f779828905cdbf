"""The options that say what a worker has for its jobs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobjar.attempts.capacity import Offer
    from jobjar.settings.layers import Settings


def add_offer(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument_group("what its jobs may have").add_argument
    add("--slots", type=_by("parse_optional_slots"), metavar="N", help="run N jobs at once in this one worker (default: "
        "JJ_SLOTS; with --cores so many, else 1)")  # fmt: skip
    add("--cores", type=_by("parse_cores"), metavar="N|all", help="the cores that its jobs have together (default: JJ_CORES; "
        "all that it may use)")  # fmt: skip
    add("--memory", type=_by("parse_memory"), metavar="SIZE|all", help="the memory that its jobs have together (default: "
        "JJ_MEMORY; all that it may use)")  # fmt: skip
    add("--gpus", metavar="0,1|all|none", help="the GPUs that its jobs have (default: JJ_GPUS; those of "
        "CUDA_VISIBLE_DEVICES)")  # fmt: skip
    add("--resource", metavar="NAME=N", action="append", type=_by("parse_named"), help="what else its jobs have together, "
        "such as licences; may be repeated (default: JJ_RESOURCES)")  # fmt: skip


def read_offer(options: argparse.Namespace, settings: Settings) -> Offer:
    """The offer that options and settings make. `options.slots` and the like are None if they were not given."""
    from jobjar.attempts.capacity import offer_of

    named: dict[str, int] = {}
    for some in options.resource or ():
        named.update(some)
    return offer_of(settings, options.slots, options.cores, options.memory, options.gpus, named or None)


def _by(parser: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        from jobjar.settings import parsers

        try:
            return getattr(parsers, parser)(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse
