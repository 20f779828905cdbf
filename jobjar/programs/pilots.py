"""jobjar pilots: queues of pilots, which are workers that are submitted into a batch system where jobs wait."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jobjar.errors import JarError, UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run
from jobjar.programs.options import add_table_format, read_time
from jobjar.units import parse_seconds

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.pilots.queue import QueueState

_ACTIONS = ("add", "list", "show", "pause", "resume", "remove", "log")
_DESCRIPTION = """Have workers submitted into a batch system where jobs wait: pilots. `check_pilots`, which
cron runs every minute, submits them and looks what became of them; each leaves by itself when it has no job for a while.

  add NAME --slurm …      submit pilots as the options say, from now on; after `--` come options of sbatch
  list                    the queues of pilots, one line each
  show NAME               what a queue submits, its pilots, and how the last ones ended
  pause NAME, resume NAME submit none for now, and again
  remove NAME             submit none any more; those that wait are cancelled, those that run go on (--cancel: they are ended)
  log NAME [PILOT]        what a pilot wrote: the last one, or that of a number or of the batch system's id"""
_SHOWN = 10


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar pilots") -> int:
    words = list(sys.argv[2:] if argv is None else argv)
    # What comes after `--` is for the batch system, and argparse would mix it up with the words before.
    own, passed = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = make_parser(program, _DESCRIPTION)
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="the name of a queue of pilots")
    parser.add_argument("pilot", nargs="?", metavar="PILOT", help="for log: a pilot's number, or the batch system's id")
    add_table_format(parser)
    parser.add_argument(
        "--cancel", action="store_true", help="for remove: end also the pilots that run; their jobs go back"
    )
    group = parser.add_argument_group("for add")
    system = group.add_mutually_exclusive_group()
    for name, text in _SYSTEMS.items():
        system.add_argument(f"--{name}", dest="system", action="store_const", const=name, help=text)
    group.add_argument("--category", action="append", default=[], metavar="NAME", help="a category that pilots ask for")
    group.add_argument(
        "--cores", type=int, default=0, metavar="N", help="cores of a pilot (default: the batch system's)"
    )
    group.add_argument(
        "--memory", default="", metavar="SIZE", help="memory of a pilot: 4G, 500M (default: the batch system's)"
    )
    group.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of a pilot (default: none)")
    group.add_argument("--time", default="1h", metavar="TIME", help="how long a pilot may run (default: 1h)")
    group.add_argument("--max", type=int, default=10, metavar="N", help="pilots at once, at most (default: 10)")
    group.add_argument(
        "--backlog", type=int, default=2, metavar="N", help="pilots that wait at once, at most (default: 2)"
    )
    group.add_argument(
        "--idle-exit", default="5m", metavar="TIME", help="how long a pilot without a job stays (default: 5m)"
    )
    group.add_argument(
        "--failures", type=int, default=3, metavar="N", help="pause after so many failed pilots in a row (default: 3)"
    )
    group.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a line of shell that a pilot runs before its worker: 'module load R'",
    )

    def body(options: argparse.Namespace) -> int:
        if passed and options.action != "add":
            raise UsageError(reason="only `pilots add` passes options on to the batch system")
        if (options.name is None) != (options.action == "list"):
            parser.error("a NAME belongs to every action but list")
        with named_jar(options, program_path) as jar:
            return _DOERS[options.action](jar, options, passed, program)

    return run(parser, own, body)


_SYSTEMS = {
    "slurm": "submit into Slurm, by sbatch, squeue and scancel",
    "pbs": "into PBS Professional or OpenPBS, by qsub, qstat, qselect and qdel",
    "sge": "into Grid Engine, by qsub, qstat and qdel",
    "htcondor": "into HTCondor, by condor_submit, condor_q and condor_rm",
    "lsf": "into LSF, by bsub, bjobs and bkill",
}


def _add(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
    from jobjar.job_file.names import check_category
    from jobjar.pilots.all_systems import SYSTEMS
    from jobjar.pilots.queue import Plan, add_queue, find_queue
    from jobjar.pilots.script import find_work_s
    from jobjar.pilots.told import tell_queue
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.settings.parsers import parse_size

    if options.system is None:
        raise UsageError(reason=f"say which batch system it is: {', '.join(f'--{name}' for name in _SYSTEMS)}")
    jar.check_is_safe()
    system = SYSTEMS[options.system]
    refused = system.refused_options(passed)
    if refused:
        raise UsageError(reason=f"{refused[0]} cannot be passed on: pilots have that from Job Jar")
    for name in ("max", "backlog", "failures"):
        if getattr(options, name) < 1:
            raise UsageError(reason=f"--{name} is a number of 1 or more")
    time_s = read_time("--time", options.time, parse_seconds)
    if time_s < 60:
        raise UsageError(reason="--time is 1 minute or more")
    plan = Plan(
        queue=options.name,
        system=options.system,
        categories=tuple(check_category(name) for name in options.category) or jar.settings.categories,
        time_s=time_s,
        work_s=find_work_s(jar, time_s),
        most=options.max,
        backlog=options.backlog,
        idle_exit_s=read_time("--idle-exit", options.idle_exit, parse_seconds),
        failures=options.failures,
        options=tuple(passed),
        before=tuple(options.before),
        cores=max(0, options.cores),
        memory_mib=_read_memory(options.memory, parse_size),
        gpus=max(0, options.gpus),
    )
    refresh_ledger(jar)
    add_queue(jar, plan)
    tell_queue(jar, find_queue(jar, plan.queue))
    return 0


def _read_memory(text: str, parse: Callable[[str], int]) -> int:
    """Memory as people write it, in MiB. Raises UsageError."""
    try:
        return (parse(text) + (1 << 20) - 1) >> 20 if text else 0
    except ValueError as error:
        raise UsageError(reason=f"--memory: {error}") from error


def _list(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
    from jobjar.reports.pilots import describe_queues, format_queues
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.reports.tables import check_format

    check_format(options.format)
    refresh_ledger(jar)
    described = describe_queues(jar)
    if options.format == "json":
        print(json.dumps(described, indent=1))
    elif described:
        print(format_queues(described, options.format))
    else:
        complain(program, "there are no pilots; `jobjar pilots add` makes some")
    return 0


def _show(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
    from jobjar.reports.pilots import describe_queue, format_queue
    from jobjar.reports.refresh import refresh_ledger
    from jobjar.reports.tables import check_format

    check_format(options.format)
    refresh_ledger(jar)
    described = describe_queue(jar, options.name, _SHOWN)
    if described is None:
        raise JarError(reason=f"there are no pilots {options.name}; `jobjar pilots list` lists them")
    print(json.dumps(described, indent=1) if options.format == "json" else format_queue(described, options.format))
    return 0


def _change(change: Callable[[Jar, QueueState, argparse.Namespace], QueueState]) -> _Do:
    def do(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
        from jobjar.pilots.queue import find_queue
        from jobjar.pilots.told import tell_queue
        from jobjar.reports.refresh import refresh_ledger

        queue = find_queue(jar, options.name)
        refresh_ledger(jar)
        tell_queue(jar, change(jar, queue, options))
        return 0

    return do


def _pause(jar: Jar, queue: QueueState, options: argparse.Namespace) -> QueueState:
    from jobjar.host import login
    from jobjar.pilots.queue import pause_queue

    return pause_queue(jar, queue, login(), f"paused by {login()}")


def _resume(jar: Jar, queue: QueueState, options: argparse.Namespace) -> QueueState:
    from jobjar.pilots.queue import resume_queue

    return resume_queue(queue)


def _remove(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
    from jobjar.host import login
    from jobjar.pilots.queue import find_queue, remove_queue
    from jobjar.pilots.turn import take_turns

    queue = find_queue(jar, options.name)
    remove_queue(jar, queue, login(), options.cancel)
    take_turns(jar, lambda line: None, lambda line: complain(program, line), [queue.name])
    return 0


def _log(jar: Jar, options: argparse.Namespace, passed: list[str], program: str) -> int:
    from jobjar.pilots.pilot import find_pilot, numbers_in
    from jobjar.pilots.queue import find_queue
    from jobjar.shared_disk.files import read_file
    from jobjar.text import printable

    paths = find_queue(jar, options.name).paths
    last = max([0, *numbers_in(paths.open), *numbers_in(paths.ended)])
    found = find_pilot(paths, options.pilot or str(last))
    if found is None:
        raise JarError(
            reason=f"there is no pilot {options.pilot or ''} of {options.name}; `jobjar pilots show` lists them"
        )
    try:
        data = read_file(found[1].output)
    except FileNotFoundError:
        complain(program, f"pilot {found[0].number} of {options.name} has written nothing; it is {found[0].state}")
        return 1
    sys.stdout.write(printable(data.decode(errors="replace").replace("\t", "    ")))
    return 0


_Do = Callable[["Jar", argparse.Namespace, "list[str]", str], int]
_DOERS: dict[str, _Do] = {
    "add": _add,
    "list": _list,
    "show": _show,
    "pause": _change(_pause),
    "resume": _change(_resume),
    "remove": _remove,
    "log": _log,
}
