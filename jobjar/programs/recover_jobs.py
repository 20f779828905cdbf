"""recover_jobs: take back the jobs of this node's dead workers and reconcile the ledger; print what was done. With
--nightly, also what is done once a night (nightly/night.py)."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence

from jobjar.errors import NotConfirmed
from jobjar.grouped import summarize
from jobjar.jar import Jar
from jobjar.programs.command import complain, make_parser, named_jar, run, warn_of_other_versions
from jobjar.text import printable


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "recover_jobs") -> int:
    parser = make_parser(
        program,
        "Return the jobs that crashed workers of this node held, complete those that had ended, end what their jobs left "
        "running, and reconcile the ledger with the directories. With JJ_LEASE_TIME, also watch the workers of all nodes "
        "that hold jobs and whose heartbeats are older than that, and take back the jobs of those whose heartbeats do not "
        "move for that long. Prints what it did.",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing where there was nothing to do")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each, where there are several of one kind")
    parser.add_argument(
        "--nightly",
        action="store_true",
        help="also archive what is old, compress journals, check and copy the ledger; exit status 1 where something is wrong",
    )
    parser.add_argument(
        "--batch",
        action="append",
        default=[],
        metavar="NAME",
        help="the node of the process that holds this batch, to change it, is gone for good: take back what it had not done",
    )

    parser.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NAME",
        help="this node is gone for good: take back what its workers held, and what its processes had not done",
    )
    parser.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="NAME",
        help="this worker is gone for good, though nothing here shows it: take back what it held",
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask whether --node or --worker is meant")

    def body(options: argparse.Namespace) -> int:
        from jobjar.attempts.on_end import tell_recovered
        from jobjar.batches.unfinished import give_up
        from jobjar.ledger.rebuild import fill_ledger
        from jobjar.programs.shown_meter import open_meter
        from jobjar.recovery.lease import recover_expired
        from jobjar.recovery.recover import recover_node

        def warn(line: str) -> None:
            complain(program, line)

        with named_jar(options, program_path) as jar:
            warn_of_other_versions(program, jar)
            _ = jar.ledger_home  # where it is refused, nothing is given up
            if options.node or options.worker:
                _give_up(jar, program, options)
            for name in options.batch:
                if not give_up(jar, name):
                    warn(f"no change of a batch {name} is under way, so there is nothing of it to take back")
            if options.nightly:
                return _do_nightly(jar, options.quiet, options.verbose)
            with open_meter() as meter:
                recovery = jar.ledger.repaired(lambda: recover_node(jar, meter), fill_ledger, warn)
            with open_meter() as meter:
                jar.ledger.repaired(lambda: recover_expired(jar, recovery, warn, meter), fill_ledger, warn)
            tell_recovered(jar, recovery.completed_jobs, recovery.by, warn)
            _settle_dependents(jar, recovery.log)
        lines = [*recovery.lines, *([] if options.quiet else recovery.notes)]
        for line in lines if options.verbose else summarize(lines):
            print(printable(line))
        if recovery.lines or not options.quiet:
            print(f"{recovery.returned} jobs returned, {recovery.completed} completed")
        return 0

    return run(parser, argv, body)


def _settle_dependents(jar: Jar, log: Callable[[str], None]) -> None:
    """Let dependents go on whose prerequisites have ended, and cancel others, if nobody has yet."""
    from jobjar.steering.dependents import settle_dependents

    settled = settle_dependents(jar)
    if settled.released or settled.cancelled:
        log(f"released {settled.released} dependents, cancelled {settled.cancelled}")
    for reason in settled.refused:
        log(f"could not move the dependent {reason}")


def _give_up(jar: Jar, program: str, options: argparse.Namespace) -> None:
    """Treat as dead what the person says is gone; without --yes, ask first. Raises UnknownGone, NotGone, NotConfirmed."""
    from jobjar.recovery.declared_gone import find_gone, give_up_gone

    gone = find_gone(jar, options.node, options.worker)
    if (gone.workers or gone.batches) and not options.yes:
        complain(program, gone.describe(jar))
        if not sys.stdin.isatty():
            typed = " ".join(
                f"--{kind} {shlex.quote(name)}" for kind in ("node", "worker") for name in getattr(options, kind)
            )
            raise NotConfirmed(
                reason="only somebody at a terminal is asked, and standard input is none: an answer that is piped there is not "
                f"read. Where all of the above is certainly gone: {program} {typed} --yes"
            )
        print("Is it certain that all of it is gone for good? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise NotConfirmed(reason="the answer was not y")
    give_up_gone(jar, gone)


def _do_nightly(jar: Jar, quiet: bool, verbose: bool) -> int:
    """Do all the nightly work, and print a report that cron can mail: what was done, then the warnings."""
    from jobjar.nightly.night import run_nightly

    night = run_nightly(jar)
    _settle_dependents(jar, lambda line: night.log(line, matters=True))
    if night.mattered or not quiet:
        for line in night.lines if verbose else summarize(night.lines):
            print(printable(line))
        for line in night.warnings:
            print(f"warning: {line}")
    return 1 if night.warnings else 0
