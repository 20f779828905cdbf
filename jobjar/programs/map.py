"""jobjar map: run a command for each of many arguments, as GNU Parallel does, by the workers of a jar."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jobjar.arrays.entries import STANDARD_INPUT, check_lines, read_entries_file, split_lines
from jobjar.arrays.replacing import Source, Template, combine, count_combined
from jobjar.errors import JarError, UsageError
from jobjar.programs.command import complain, make_parser, named_jar, run

if TYPE_CHECKING:
    from jobjar.jar import Jar
    from jobjar.stages.submit import Submission

_ABOUT = """Run a command for each of many arguments: submit an array, wait for it, print what each task wrote once it has
ended. The arguments stand behind ::: or in files behind ::::, a line each, or come from standard input. Several ::: are
combined, all with all; :::+ and ::::+ give their arguments to those before, one to each. In the command {} is the argument, {.}
without its extension, {/} without its directory, {//} its directory, {/.} without both, {#} the number of the task; {1} {2} {2.}
… are the arguments of the first, the second source. Arguments are quoted for /bin/sh, and the command is not. Exit status: 0 all
succeeded; 1 to 100 so many did not; 101 more than 100; 255 any other error; 130 interrupted, and the array goes on."""
_OTHER_ERROR, _MOST_COUNTED = 255, 100
_MARKS = (":::", ":::+", "::::", "::::+")
# Each entry is a whole command, which the shell that runs the task reads. The command has no positional parameters.
_LINE = 'shift; eval "$JJ_ENTRY"'


class _Commands(NamedTuple):
    """What is to be run: the command as it was typed, how many tasks there are, and each one's command."""

    typed: str
    tasks: int
    sources: list[Source]
    template: Template

    def lines(self) -> Iterator[bytes]:
        filled = (self.template.fill(values, number) for number, values in enumerate(combine(self.sources), 1))
        return check_lines(filled, "the commands")


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "jobjar map") -> int:
    parser = make_parser(program, _ABOUT)
    parser.usage = (
        f"{program} [OPTION…] [COMMAND [WORD…]] ::: ARGUMENT… [::: ARGUMENT…]…\n"
        f"       {program} [OPTION…] [COMMAND [WORD…]] :::: FILE… [:::: FILE…]…\n"
        f"       {program} [OPTION…] [COMMAND [WORD…]] < ARGUMENTS"
    )
    add = parser.add_argument
    add(
        "-j",
        "--jobs",
        "-P",
        metavar="N",
        help="run at most N tasks at once, over all workers (default and 0: no limit)",
    )
    add(
        "-k",
        "--keep-order",
        action="store_true",
        help="print the output in the order of the arguments; otherwise each task's when it has ended",
    )
    add("--dry-run", action="store_true", help="print the commands, and submit nothing")
    add("--name", metavar="NAME", help="a name to find the array by")
    add("-p", "--priority", metavar="N", help="an integer; higher is claimed first (default 0)")
    add("-c", "--category", metavar="CATEGORY", help="the category, made where missing (default: none)")
    add("--dir", metavar="DIR", help="run the tasks in this directory (default: the one where this is typed)")
    add(
        "--scratch",
        action="store_true",
        default=None,
        help="run each in a fresh directory, which is removed afterwards",
    )
    add("--output", metavar="PATH", help="write each task's output, and its errors, to a file of its own, instead of printing "
        "it; %%a is the number of the task, %%A the id of the array")  # fmt: skip
    add("--error", metavar="PATH", help="write each task's errors to a file of its own")
    add("--env", metavar="NAME[=VALUE]", action="append", help="set a variable, or hand on its value; may be repeated")
    add("--env-all", action="store_true", default=None, help="hand on all variables that are set here")
    add("--time-limit", "--timeout", metavar="TIME", help="end a task when it runs longer (90, 30m, 2h)")
    add("--retries", metavar="N", help="run a task again up to N times when it fails")
    add("--retry-delay", metavar="TIME", help="wait before the first retry (30s, 5m); doubled each time")
    add("--chunk", metavar="N", help="how many tasks one worker claims together")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="one line of /bin/sh, in one word or several; options "
        "after it belong to it. Without it each argument is a command")  # fmt: skip

    def body(options: argparse.Namespace) -> int:
        try:
            return _map(options, parser, program_path, program)
        except JarError as error:
            complain(program, error)
            return _OTHER_ERROR

    try:
        return run(parser, argv, body)
    except SystemExit as exit:
        if exit.code == UsageError.exit_status:
            raise SystemExit(_OTHER_ERROR) from None
        raise


def _map(options: argparse.Namespace, parser: argparse.ArgumentParser, program_path: str | None, program: str) -> int:
    from jobjar.programs.submit_array import read_count

    at_once = None if options.jobs == "0" else read_count(parser, "-j", options.jobs)
    chunk = read_count(parser, "--chunk", options.chunk)
    if options.dir is not None and options.scratch:
        parser.error("give either --dir or --scratch")
    commands = _read_commands(options.command, program)
    if options.dry_run:
        for line in commands.lines():
            sys.stdout.buffer.write(line + b"\n")
        return 0
    if not commands.tasks:
        return 0
    submission = _describe(options, commands.typed)
    with named_jar(options, program_path) as jar:
        uid = _submit(jar, submission, commands, at_once, chunk)
        return _wait_and_print(jar, uid, options.output is None, options.keep_order, program)


def _read_commands(words: list[str], program: str) -> _Commands:
    """Read the command and its arguments. Raises UsageError."""
    words = words[1:] if words[:1] == ["--"] else words
    at = next((number for number, word in enumerate(words) if word in _MARKS), len(words))
    typed = " ".join(words[:at])
    if "\0" in typed:
        raise UsageError(reason="the command has a NUL; nothing was submitted")
    try:
        template = Template(os.fsencode(typed))
    except ValueError as error:
        raise UsageError(reason=f"{error}; nothing was submitted") from error
    sources = _read_sources(words[at:])
    if not sources:
        if sys.stdin.isatty():
            complain(program, "reading arguments from the terminal, a line each; Control-D ends them")
        sources = [_read_file(STANDARD_INPUT)]
    return _Commands(typed, count_combined(sources), sources, template)


def _read_sources(words: list[str]) -> list[Source]:
    """The sources of arguments in the words from the first mark on. Raises UsageError."""
    groups: list[tuple[str, list[str]]] = []
    for word in words:
        if word in _MARKS:
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    sources: list[Source] = []
    uses_standard_input = 0
    for mark, values in groups:
        is_linked = mark.endswith("+")
        if not mark.startswith("::::"):
            sources.append(Source(list(map(os.fsencode, values)), is_linked))
            continue
        if not values:
            raise UsageError(reason=f"{mark} names no file; nothing was submitted")
        uses_standard_input += values.count(STANDARD_INPUT)
        if uses_standard_input > 1:
            raise UsageError(reason="standard input (-) can be read once; nothing was submitted")
        sources += [_read_file(path, is_linked) for path in values]
    return sources


def _read_file(path: str, is_linked: bool = False) -> Source:
    lines = list(check_lines(split_lines(read_entries_file(path)), path))
    return Source(lines, is_linked)


_ATTRIBUTES = ("dir", "scratch", "output", "error", "env", "env_all", "time_limit", "retries", "retry_delay")


def _describe(options: argparse.Namespace, typed: str) -> Submission:
    from jobjar.job_file.names import parse_priority
    from jobjar.typed_job import describe_words

    if options.dir is not None and not os.path.isdir(options.dir):
        raise UsageError(reason=f"--dir: there is no directory {options.dir} here; nothing was submitted")
    attributes: dict[str, Any] = {name: getattr(options, name) for name in _ATTRIBUTES}
    priority = None if options.priority is None else parse_priority(options.priority)
    submission = describe_words([_LINE], priority, options.category, options.name, attributes)
    # People look for what they typed.
    given = {**submission.attributes.get("given", {}), "command": typed or "the arguments are commands"}
    return submission._replace(attributes={**submission.attributes, "given": given}, title=f"the command {typed!r}")


def _submit(jar: Jar, submission: Submission, commands: _Commands, at_once: int | None, chunk: int | None) -> str:
    from jobjar.arrays.definition import LINES
    from jobjar.arrays.indexes import Indexes
    from jobjar.arrays.submit import Plan, submit_array
    from jobjar.attempts.copied_output import names_its_output
    from jobjar.programs.shown_meter import open_meter

    texts = (os.fsencode(commands.typed), *(value for source in commands.sources for value in source.values))
    plan = Plan(
        submission,
        Indexes(1, commands.tasks),
        LINES,
        commands.lines(),
        at_once,
        chunk,
        any(map(names_its_output, texts)),
    )
    with open_meter() as meter:
        return submit_array(jar, plan, meter)


def _wait_and_print(jar: Jar, uid: str, with_output: bool, in_order: bool, program: str) -> int:
    """Wait for an array, print what each task wrote when it has ended, and return the exit status."""
    from jobjar.programs.submit_array import wait_for_array
    from jobjar.reports.arrays import count_unsuccessful, format_array
    from jobjar.reports.ended_output import EndedOutput

    output = EndedOutput(jar, uid, in_order)

    def print_new(is_last: bool = False) -> None:
        for piece in output.read_new(is_last) if with_output else ():
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()

    described = wait_for_array(jar, uid, program, print_new)
    print_new(is_last=True)
    unsuccessful = count_unsuccessful(described)
    if unsuccessful:
        complain(
            program,
            f"{format_array(described)} (`jobjar show {uid}` says more, `jobjar output {uid} --failed` their output)",
        )
    return min(unsuccessful, _MOST_COUNTED + 1)
