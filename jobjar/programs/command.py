"""What all programs share: the parser's settings, errors to standard error, exit statuses."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from jobjar.access.refusals import name_refusal
from jobjar.errors import JarError
from jobjar.jar import Jar, open_jar
from jobjar.programs.utf8 import begin
from jobjar.settings.layers import Value, parse_option
from jobjar.shared_disk.patience import patience
from jobjar.text import printable

Body = Callable[[argparse.Namespace], int]


def make_parser(program: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser with the options that every program has."""
    parser = _Parser(prog=program, description=description, epilog=epilog, formatter_class=_Formatter)
    parser.add_argument("--home", metavar="DIR", help="the jar (default: JJ_HOME, or the one that the program lies in)")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    return parser


def add_root_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of programs that start workers."""
    parser.add_argument(
        "--as-root-for-group",
        action="store_true",
        help="as root, start workers although others may submit: their jobs run as root",
    )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Asks the terminal for its width itself. argparse makes a formatter for each option, and would load shutil for that."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else 0
        if width <= 0:
            try:
                width = os.get_terminal_size(1).columns or 80
            except (OSError, ValueError):
                width = 80
        super().__init__(prog, width=width - 2)


class _Parser(argparse.ArgumentParser):
    """Says of an option that there is not which one may have been meant."""

    def error(self, message: str) -> NoReturn:
        unknown = [word.partition("=")[0] for word in message.partition("unrecognized arguments: ")[2].split()]
        import difflib

        options = [option for action in self._actions for option in action.option_strings]
        near = [
            meant for word in unknown if word.startswith("-") for meant in difflib.get_close_matches(word, options, n=1)
        ]
        super().error(message + (f"; did you mean {' or '.join(near)}?" if near else ""))


class _Version(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *rest: object, **named: object
    ) -> None:
        from jobjar.programs.version import describe_version

        home = getattr(namespace, "home", None)
        print(describe_version(os.path.abspath(sys.argv[0]), None if home is None else os.path.abspath(home)))
        parser.exit(0)


def named_jar(options: argparse.Namespace, program_path: str | None) -> Jar:
    """The jar that a program works on, for a `with` that closes it. Files that the program makes in it get the jar's
    permissions."""
    overrides: Mapping[str, Value] = {}
    if options.home:
        overrides = {"JJ_HOME": parse_option("JJ_HOME", os.path.abspath(options.home), "option --home")}
    jar = open_jar(overrides, program_path)
    jar.log = lambda line: complain(os.path.basename(sys.argv[0]), line)
    jar.take_umask()
    return jar


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, body: Body) -> int:
    """Parse, run `body`, and turn an error into one line on standard error; returns the exit status."""
    gc.enable()
    return _run(parser, argv, body)


def run_and_exit_at_once(parser: argparse.ArgumentParser, argv: Sequence[str] | None, body: Body) -> int:
    """`run` for a program that is over at once and leaves nothing open. A process of its own exits without a cleanup, since the
    cleanup would take a noticeable part of the program's time."""
    try:
        status = _run(parser, argv, body)
        if argv is None:
            sys.stderr.flush()
            os._exit(status)
        return status
    finally:
        gc.enable()


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, body: Body) -> int:
    begin(is_program=argv is None)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
        from jobjar.programs.completing import complete

        complete(parser)
    options = parser.parse_args(argv)
    patience.log = lambda line: complain(parser.prog, line)
    try:
        status = body(options)
        sys.stdout.flush()
        return status
    except JarError as error:
        complain(parser.prog, error)
        return error.exit_status
    except BrokenPipeError:
        # The reader of our output has seen enough (`system_status | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt as error:
        if error.args:
            complain(parser.prog, error)
        return 130
    except ImportError as error:
        what_to_do = "it is being upgraded, or was by half: install it again whole, then try again"
        complain(parser.prog, f"a part of this software does not fit the others ({error}); {what_to_do}")
        return 1
    except OSError as error:
        complain(parser.prog, f"{name_refusal(error)}. Check the disk and the permissions")
        return 1
    except Exception as error:
        named = _name_ledger_error(error)
        if named is None:
            raise
        complain(parser.prog, named)
        return named.exit_status


def _name_ledger_error(error: Exception) -> JarError | None:
    """The JarError for an SQLite error that a query of a reporting program raised; None for any other error."""
    from jobjar.ledger.database import UNREADABLE, name_error

    return name_error(error, "of this node") if isinstance(error, UNREADABLE) else None


def warn_of_source(program: str, source: Mapping[str, Any]) -> None:
    """Warn people what the answer was read from, unless that was this node's own ledger (`refresh.describe_source`)."""
    from jobjar.reports.refresh import name_source

    text = name_source(source["source"], source["snapshot_age_s"])
    if text is not None:
        complain(program, text)


def warn_of_other_versions(program: str, jar: Jar) -> None:
    """Warn people if workers of another version also use the jar."""
    from jobjar.reports.versions import explain_other_versions
    from jobjar.roster import list_workers

    text = explain_other_versions(list_workers(jar.layout))
    if text is not None:
        complain(program, text)


def print_tables(text: str) -> None:
    """Print tables and the text around them on standard output. The tabs of format tsv stay."""
    print("\t".join(map(printable, text.split("\t"))))


def complain(program: str, message: object) -> None:
    """Print a message for people on standard error."""
    print(f"{program}: {printable(str(message))}", file=sys.stderr)
