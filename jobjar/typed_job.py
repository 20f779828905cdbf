"""Describe a job as people type it: in the directory where it was typed, its words as they were quoted there.

`jobjar submit` and the library's `submit` use this; stages/submit.py submits what it returns. What a command was given stands in
its own file as `#JJ` lines too. So the file says by itself where it runs, a copy of it that a hand submits is the same job again,
and its `submitted` entry need not be synced. Reads the environment and the directory; writes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jobjar.errors import BadAttribute, BadCommand
from jobjar.job_file.attributes import parse_attributes
from jobjar.job_file.given import find_submitter, format_begin, settle
from jobjar.job_file.names import check_category
from jobjar.job_file.request import request_lines
from jobjar.stages.submit import Submission, describe_file
from jobjar.units import name_retries

_SHELL = "#!/bin/sh"
# Words that only the shell itself knows. Any other first word takes the shell's place, so that signals reach it.
_OF_THE_SHELL = (
    " . : ! { } [[ alias bg break builtin case cd command continue declare dirs disown do done elif else enable esac eval exec "
    "exit export fc fg fi for function getopts hash help history if jobs let local logout popd pushd read readonly return select "
    "set shift shopt source suspend then time times trap type typeset ulimit umask unalias unset until wait while "
)
# What is a text in journals and in `#JJ` lines alike, and what is a time: names in lines, names in journals.
_LINES = ("dir", "output", "error", "retry_on", "no_retry_on")
_TIMES = {"time_limit": "time_limit_s", "retry_delay": "retry_delay_s"}
# Longer values than people type stand in the journal alone, such as a whole environment.
_LONGEST_LINES = 8192


def describe_words(
    words: Sequence[str],
    priority: int | None = None,
    category: str | None = None,
    identifier: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Submission:
    """A submission of a command. One word is a line for the shell; several are a program and its words, as they are.

    Raises BadCommand, BadAttribute; priority, category and identifier are checked as in `describe_command`.
    """
    if not words or not any(word.strip() for word in words):
        raise BadCommand(reason="it is empty")
    if any("\0" in word for word in words):
        raise BadCommand(reason="it has a NUL")
    typed = words[0] if len(words) == 1 else shlex.join(words)
    line = typed if len(words) == 1 or f" {words[0]} " in _OF_THE_SHELL else f"exec {typed}"
    title = f"the command {typed!r}"
    values = settle(_typed(attributes, typed), title, find_submitter(), is_array=None)
    head, says_all = _write_lines(values)
    script = "\n".join([_SHELL, *head, line, ""]).encode("utf-8", "surrogateescape")
    return Submission(
        None, None, priority, _check(category), identifier, values, script=script, says_all=says_all, title=title
    )


def describe_script(
    script: bytes,
    arguments: Sequence[str] = (),
    priority: int | None = None,
    category: str | None = None,
    identifier: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Submission:
    """A submission of the text of a script. Raises BadCommand, BadAttribute."""
    if not script.strip():
        raise BadCommand(reason="the script is empty")
    values = _typed_with("-", arguments, attributes)
    return Submission(None, None, priority, _check(category), identifier, values, script=script, title="the script")


def describe_copy(
    path: str,
    arguments: Sequence[str] = (),
    priority: int | None = None,
    category: str | None = None,
    identifier: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Submission:
    """A submission of a copy of an executable file. Raises NotExecutable, BadAttribute."""
    submission = describe_file(path, priority, category, identifier)
    return submission._replace(attributes=_typed_with(path, arguments, attributes))


def _typed_with(first: str, arguments: Sequence[str], attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return _typed({**(attributes or {}), "arguments": list(arguments) or None}, shlex.join([first, *arguments]))


def _check(category: str | None) -> str:
    return check_category(category) if category else ""


def _typed(attributes: Mapping[str, Any] | None, command: str) -> dict[str, Any]:
    """The attributes by the names that journals use, with the command as it was typed and the directory where that was."""
    values = parse_attributes(attributes or {}, "submission")
    given = {"command": command, **values.get("given", {})}
    if "dir" not in given and not given.get("scratch"):
        given["usual_dir"] = find_submitter().directory
        if given["usual_dir"] is None:
            reason = "the directory that you are in was removed; go elsewhere, or give dir or scratch"
            raise BadAttribute(where="submission", reason=reason, known="dir, scratch")
    return {**values, "given": given}


def _write_lines(values: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The `#JJ` lines that say these values, and whether they say all."""
    given = values["given"]
    lines = [(name, given[name]) for name in _LINES if name in given]
    lines += [(name, f"{values[key]:f}") for name, key in _TIMES.items() if key in values]
    if "retries" in values:
        lines.append(("retries", str(name_retries(values["retries"]))))
    if "job_runtime_s" in given:
        lines.append(("job_runtime", f"{given['job_runtime_s']:f}"))
    if "warn_signal" in given:
        lines.append(("warn", f"{given['warn_signal']}@{given['warn_before_s']:f}"))
    if "begin_at" in given:
        lines.append(("begin", format_begin(given["begin_at"])))
    lines += request_lines(given)
    lines += [("tag", tag) for tag in given.get("tags", ())]
    lines += [("env", shlex.quote(f"{name}={value}")) for name, value in given.get("env", {}).items()]
    fit = [(name, value) for name, value in lines if _fits(value)]
    if sum(len(name) + len(value) for name, value in fit) > _LONGEST_LINES:
        fit = [(name, value) for name, value in fit if name != "env"]
    return [f"#JJ {name} = {value}" for name, value in fit], len(fit) == len(lines)


def _fits(value: str) -> bool:
    """Whether a `#JJ` line can say a value, so that reading it gives the same."""
    return value == value.strip() and value.isprintable() and not value.startswith("~")
