"""What the verbs have in common that steer jobs: selection, --dry-run, --format, the line that says what was done."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobjar.programs.command import complain, named_jar
from jobjar.programs.options import add_selection, add_text_format, read_selection

if TYPE_CHECKING:
    from jobjar.selecting.selection import Selection
    from jobjar.steering.steer import Steered
    from jobjar.steering.verb import Verb

EXITS = (
    "Exit status: 0 if it was done to all jobs that are meant, 1 if to some not (each is named) or if none is meant."
)


def add_steering(parser: argparse.ArgumentParser, does: str) -> None:
    """Add the options of all these verbs. `does` is what the verb does to the jobs ("cancel")."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    add_text_format(parser)
    add_selection(parser, does)


def steer_selected(
    options: argparse.Namespace,
    program_path: str | None,
    program: str,
    verb: Verb,
    describe_done: Callable[[str], str],
    narrow: Callable[[Selection], Selection] = lambda selection: selection,
) -> int:
    """Do what a verb says to the jobs that the options select, and print that. `describe_done` makes the line from how many
    jobs it was ("312 waiting jobs"). `narrow` changes the selection first. Returns the exit status."""
    from jobjar.programs.shown_meter import open_meter
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.steering.steer import steer

    selection = narrow(read_selection(options))
    with named_jar(options, program_path) as jar:
        refresh_ledger(jar)
        with open_meter() as meter:
            steered = steer(jar, selection, verb, options.dry_run, meter)
    if options.format == "json":
        print(json.dumps(describe(steered, options.dry_run)))
    else:
        print(describe_done(steered.describe_jobs()))
    for error in steered.errors:
        complain(program, error)
    return 1 if steered.errors else 0


def describe(steered: Steered, is_dry_run: bool) -> dict[str, object]:
    """What was done, for programs."""
    return {
        "dry_run": is_dry_run,
        "jobs": [job._asdict() for job in steered.jobs],
        "tasks": [tasks._asdict() for tasks in steered.tasks],
        "going_on": steered.going_on,
        "errors": [{"job": error.fields.get("job"), "reason": str(error)} for error in steered.errors],
    }
