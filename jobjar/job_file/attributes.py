"""A job's attributes, set by `#JJ name = value` lines (header.py), options of programs and keyword arguments.

Lines with keys of description.py make it a described job. Only those of these keys
that journals hold are parsed to attributes here. What else a job may be given is in given.py, and is one attribute here, `given`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobjar.errors import BadAttribute, BadScript, JarError
from jobjar.job_file.header import HEADER_BYTES as HEADER_BYTES, read_header_lines
from jobjar.units import parse_duration, parse_retries

if TYPE_CHECKING:
    from jobjar.job_file.description import Description

# The line that makes a file a chunk: it names the array, whose tasks a worker runs in the file's place.
ARRAY = "array"
_ID = re.compile(r"[0-9a-z]{12}")
_LIFE = re.compile("[0-9]{0,9}")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


_NOT_RUN = (
    "{name} makes this a described job: what its #JJ lines say is run, and not the script itself, and they do not say what; "
    "add `#JJ run_command = ...`, or take {name} out"
)


def _parse_retries(value: Any) -> int:
    return parse_retries(str(value))


# name as people write it -> (name in journals and ledgers, parser)
ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "retries": ("retries", _parse_retries),
    "retry_delay": ("retry_delay_s", parse_duration),
    "time_limit": ("time_limit_s", parse_duration),
}


def parse_attributes(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Parse attributes. The names become those that journals use. A value of None counts as not given.

    Raises BadAttribute, with `where`, for an unknown name or a bad value.
    """
    parsed: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in ATTRIBUTES:
            from jobjar.job_file.given import GIVEN, merge_given, parse_given

            if name not in GIVEN:
                raise BadAttribute(where=where, reason=f"there is no attribute {name!r}", known=_known())
            fields = parse_given(name, value, where, (*ATTRIBUTES, *GIVEN))
            parsed["given"] = merge_given(parsed.get("given", {}), fields)
            continue
        key, parse = ATTRIBUTES[name]
        try:
            parsed[key] = parse(value)
        except ValueError as error:
            raise BadAttribute(where=where, reason=f"{name}: {error}", known=_known()) from error
    return parsed


def read_lines(data: bytes, where: str) -> list[tuple[str, str, str]]:
    """Read the `#JJ` lines of a script, which begins with `data`: (where the line is, name, value as text) of each. Raises
    BadAttribute with the line's number."""
    found_lines = []
    for line in read_header_lines(data, where):
        found = _ASSIGNMENT.fullmatch(line.text)
        if not found:
            reason = "is not of the form `#JJ name = value`"
            raise BadAttribute(where=line.where, reason=reason, known=_known(is_line=True))
        found_lines.append((line.where, found.group(1), found.group(2)))
    return found_lines


def read_header(data: bytes, where: str) -> dict[str, Any]:
    """Read the attributes in a script's `#JJ` lines, by the names that journals use. A described job also gets `kind` and its
    default retries.

    Raises BadAttribute with the line's number. It raises BadScript if keys make the script a described job without `described`,
    and none of them gives a command: the script itself would not run, and its author may not know that.
    """
    parsed: dict[str, Any] = {}
    keys: dict[str, str] = {}
    shared: list[tuple[str, str, str]] = []
    for here, name, value in read_lines(data, where):
        if name in ATTRIBUTES or _is_only_given(name):
            parsed = merge_attributes(parsed, parse_attributes({name: value}, here))
            continue
        if name == ARRAY:
            uid, _, life = value.partition(" ")
            if not _ID.fullmatch(uid) or not _LIFE.fullmatch(life):
                raise BadAttribute(
                    where=here, reason=f"array: {value!r} is no id of an array", known=_known(is_line=True)
                )
            # How often its tasks were opened again takes the field of seeds, which no chunk has.
            parsed |= {"kind": "chunk", "batch": uid, **({"seed": int(life)} if life else {})}
            continue
        from jobjar.job_file.given import SHARED

        if name in SHARED:
            shared.append((here, name, value))
        else:
            from jobjar.job_file.description import KEYS

            if name not in KEYS:
                raise BadAttribute(where=here, reason=f"there is no attribute {name!r}", known=_known(is_line=True))
            keys[name] = here
            parsed["kind"] = "described"
    if not keys:
        for here, name, value in shared:
            parsed = merge_attributes(parsed, parse_attributes({name: value}, here))
    else:
        from jobjar.job_file.description import RETRIES, RETRY_DELAY_S, journaled_fields, says_what_to_run

        description = read_description(data, where)
        if "described" not in keys and not says_what_to_run(description):
            name, here = next(iter(keys.items()))
            raise BadScript(where=here, reason=_NOT_RUN.format(name=name))
        parsed = {"retries": RETRIES, "retry_delay_s": RETRY_DELAY_S, **parsed}
        parsed.update(journaled_fields(description))
    return parsed


def merge_attributes(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """Join attributes by the names that journals use; what comes later wins."""
    merged = {**first, **then}
    if "given" in first and "given" in then:
        from jobjar.job_file.given import merge_given

        merged["given"] = merge_given(first["given"], then["given"])
    return merged


def settle_attributes(attributes: dict[str, Any], where: str, status: os.stat_result) -> dict[str, Any]:
    """Settle what the file of a job says that was put into a jar by hand. Its priority and category are those of its name and
    its place, whatever its lines say. Raises BadAttribute."""
    if "given" not in attributes:
        return attributes
    from jobjar.job_file.given import Submitter, settle

    said = {name: value for name, value in attributes["given"].items() if name not in ("priority", "category")}
    return settle({**attributes, "given": said}, where, Submitter(None, None, status.st_mtime))


def read_description(data: bytes, where: str) -> Description:
    """Read the description of a described job from the `#JJ` lines of its file, which begins with `data`. Raises BadAttribute
    with the line's number."""
    from jobjar.job_file.description import describe

    pairs: list[tuple[str, str]] = []
    for here, name, value in read_lines(data, where):
        if name in ATTRIBUTES or _is_only_given(name):
            continue
        try:
            describe([(name, value)])
        except (KeyError, ValueError, JarError) as error:
            reason = f"there is no attribute {name!r}" if isinstance(error, KeyError) else str(error)
            raise BadAttribute(where=here, reason=reason, known=_known(is_line=True)) from error
        pairs.append((name, value))
    return describe(pairs)


def _known(is_line: bool = False) -> str:
    """The names of all attributes, for messages; `is_line`: those of `#JJ` lines, which may describe a job."""
    from jobjar.job_file.given import GIVEN

    names = [*ATTRIBUTES, *GIVEN]
    if is_line:
        from jobjar.job_file.description import KEYS

        names += [name for name in KEYS if name not in names]
    return ", ".join(names)


def _is_only_given(name: str) -> bool:
    from jobjar.job_file.given import GIVEN, SHARED

    return name in GIVEN and name not in SHARED
