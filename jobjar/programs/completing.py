"""What a shell offers when a person presses Tab: verbs, options, jobs, categories, batches, workers.

The shell runs the program itself, with what was typed so far in variables of argcomplete's; `jobjar completion` has it do so.
The parsers say what may follow. Words that only the jar knows are read from its ledger as that is, since nobody waits for a Tab.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping

from jobjar.errors import JarError
from jobjar.jar import Jar, open_jar
from jobjar.reports.grouping import GROUPINGS
from jobjar.settings.layers import Value, parse_option

# Set by the shell's function: how many words come before those that a parser sees, counted from 1.
ASKED = "_ARGCOMPLETE"
_FORMATS = ("json", "csv", "text", "simple", "plain", "github", "grid", "tsv", "html", "latex")
_STATES = ("running", "held", "dependent", "waiting", "ended", "removed")
_OUTCOMES = ("succeeded", "failed", "timed_out", "killed", "cancelled", "crashed", "unknown")
# What is offered gets the jar and the beginning of the word.
Source = Callable[[Jar, str], Iterable[str]]


def _jobs(jar: Jar, beginning: str) -> Iterable[str]:
    from jobjar.ledger.ask_words import job_words, reading

    with reading(jar.ledger_home.database) as connection:
        return job_words(connection, beginning)


def _running_jobs(jar: Jar, beginning: str) -> Iterable[str]:
    from jobjar.ledger.ask_words import job_words, reading

    with reading(jar.ledger_home.database) as connection:
        return job_words(connection, beginning, ["claimed"])


def _categories(jar: Jar, beginning: str) -> Iterable[str]:
    from jobjar.ledger.ask_words import category_words, reading
    from jobjar.shared_disk.listing import list_directories

    with reading(jar.ledger_home.database) as connection:
        return {*category_words(connection), *list_directories(jar.layout.unclaimed), *jar.settings.categories}


def _batches(jar: Jar, beginning: str) -> Iterable[str]:
    from jobjar.ledger.ask_words import batch_words, reading

    with reading(jar.ledger_home.database) as connection:
        return batch_words(connection)


def _targets(jar: Jar, beginning: str) -> Iterable[str]:
    return [*_jobs(jar, beginning), *_batches(jar, beginning), *_categories(jar, beginning)]


def _workers(jar: Jar, beginning: str) -> Iterable[str]:
    from jobjar.roster import running_workers

    return [worker.name for worker in running_workers(jar.layout)]


def _nodes(jar: Jar, beginning: str) -> Iterable[str]:
    return {name.rpartition(".")[0] for name in _workers(jar, beginning)}


def _controlled(jar: Jar, beginning: str) -> Iterable[str]:
    return ["all", *_nodes(jar, beginning), *_workers(jar, beginning)]


# By what an argument is called in its parser, and for some programs by theirs.
_SOURCES: dict[str, Source] = {
    "job": _jobs,
    "category": _categories,
    "batch": _batches,
    "worker": _workers,
    "node": _nodes,
    "state": lambda jar, beginning: _STATES,
    "outcome": lambda jar, beginning: _OUTCOMES,
    "format": lambda jar, beginning: _FORMATS,
    "by": lambda jar, beginning: GROUPINGS,
    "kill job": _running_jobs,
    "wait job": _targets,
    "batch_status name": _batches,
    "batch_edit name": _batches,
    "abort_batch name": _batches,
    "list_outputs name": _targets,
    "workload_limit name": _categories,
    **dict.fromkeys(("stop_worker name", "pause_worker name", "unpause_worker name"), _controlled),
}


def complete(parser: argparse.ArgumentParser) -> None:
    """Print what may come next in what a person types for this parser, and exit. Where nothing else is known, that is files."""
    import argcomplete

    verb = parser.prog.rpartition(" ")[2]
    for action in parser._actions:
        source = _SOURCES.get(f"{verb} {action.dest}") or _SOURCES.get(action.dest)
        if source is not None and action.nargs != 0 and not action.choices:
            # argcomplete reads this attribute, which argparse does not have.
            action.completer = _completer(source)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser, always_complete_options=False)


def _completer(source: Source) -> Callable[..., list[str]]:
    def list_words(prefix: str, parsed_args: argparse.Namespace, **more: object) -> list[str]:
        home = getattr(parsed_args, "home", None)
        overrides: Mapping[str, Value] = {}
        # Where there is no jar, or no ledger yet, nothing is offered: a message would fall into what a person types.
        with contextlib.suppress(JarError, OSError, *_driver_errors()):
            if home:
                overrides = {"JJ_HOME": parse_option("JJ_HOME", os.path.abspath(home), "option --home")}
            with open_jar(overrides, os.path.abspath(sys.argv[0])) as jar:
                return [word for word in source(jar, prefix) if word.startswith(prefix)]
        return []

    return list_words


def _driver_errors() -> tuple[type[Exception], ...]:
    from jobjar.ledger.driver import quick_driver

    return (quick_driver().Error,)


def complete_verb(verbs: Iterable[str], program_path: str | None) -> None:
    """Print what may come next in what a person types for `jobjar`, and exit: verbs, or what the verb's parser says."""
    from argcomplete.lexers import split_line

    start = int(os.environ[ASKED]) - 1
    _, beginning, _, words, _ = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    before = words[start + 1 :]
    verb = before[0].replace("-", "_") if before else ""
    if verb in verbs:
        # The parser sees the verb as its program.
        os.environ[ASKED] = str(start + 2)
        importlib.import_module(f"jobjar.programs.{verb}").main([], program_path, program=f"jobjar {verb}")
        return
    offered = [verb.replace("_", "-") if "-" in beginning else verb for verb in verbs]
    parser = argparse.ArgumentParser(prog="jobjar")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("verb", choices=[*offered, "help"])
    parser.add_argument("of", nargs="?", choices=offered if before[:1] == ["help"] else [])
    complete(parser)
