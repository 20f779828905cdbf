"""Run the command of `--notify` when a wait is over, and wait for it. Loaded only by who waits."""

from __future__ import annotations

from collections.abc import Callable

from jobjar.attempts.on_end_variables import ALL, BATCH, JOBS, facts_of_ended, facts_of_several
from jobjar.jar import Jar
from jobjar.ledger import ask_awaited
from jobjar.ledger.ask_last_ends import ended_job
from jobjar.processes.command_queue import LIMIT_S, EndCommand
from jobjar.reports.targets import Target
from jobjar.reports.wait import Tally


def describe_wait(jar: Jar, target: Target, tally: Tally, verdict: str) -> dict[str, str]:
    """What the command is told: of one job as a worker tells it, else how many there were."""
    if len(target.jobs) == 1 and not target.selections:
        [key] = target.jobs
        with jar.ledger.errors_named():
            uid = ask_awaited.id_of_place(jar.ledger.connection, key) if "/" in key else key
            ended = None if uid is None else ended_job(jar.ledger.connection, uid)
        if ended is not None:
            return facts_of_ended(ended)
    kinds = {selection.kind for selection in target.selections}
    names = [selection.word or "" for selection in target.selections]
    kind = JOBS
    if not target.jobs and len(names) == 1 and kinds <= {ask_awaited.ALL, ask_awaited.BATCH}:
        kind = ALL if kinds == {ask_awaited.ALL} else BATCH
    name = names[0] if kind == BATCH else ""
    return facts_of_several(kind, name, tally.jobs, len(tally.unsuccessful), verdict)


def tell(jar: Jar, command: str, told: dict[str, str], log: Callable[[str], None]) -> None:
    """Run the command, and wait for it: for a minute at most."""
    notifier = EndCommand(command, jar.layout, log)
    notifier.tell("--notify", told)
    notifier.finish(LIMIT_S + 1)
