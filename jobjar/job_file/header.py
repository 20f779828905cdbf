"""The `#JJ` lines of a script: those that count, and those that only look as if they did.

`#JJ` lines count in the block of comments (`#`) and blank lines at the top of the script. A similar line elsewhere, or with a
wrong spelling, would be ignored silently, and perhaps a limit with it. So it is reported: a submission is refused, and a job
that was put there by hand gets a warning. `#JJ end` ends the search: any text may follow it.
This module reads the bytes that it is given, and writes nothing.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from jobjar.errors import BadScript

# The number of bytes of a file that are searched.
HEADER_BYTES = 65536
_LINE = re.compile(rb"#JJ(?:\s|$)")
_END = b"end"
# A line by which somebody seems to mean an attribute: any name with `=`, or the name of an attribute without it.
_NAMES = rb"retries|retry[_-]delay|time[_-]limit"
_ALIKE = (
    rb"^[ \t]*#(?:[ \t]*[Jj][Jj](?:[ \t:]+-*[A-Za-z_][A-Za-z0-9_-]*|(?i:" + _NAMES + rb"))[ \t]*=(?!=)"
    rb"|JJ[ \t:]+-*(?:" + _NAMES + rb")[ \t:]+\S)"
)
_NEAR = re.compile(rb"#[ \t]*[Jj][Jj]")
# The beginning of a here-document in shells, Perl, Ruby and PHP, with its delimiter.
_HERE_DOCUMENT = rb"(?<!<)<<[-~]?[ \t]*\\?([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1"
_MARKS = (
    (b"\xef\xbb\xbf", "a byte order mark (BOM)", r"take it away (sed -i '1s/^\xef\xbb\xbf//' FILE)"),
    (b"\xff\xfe", "the byte order mark of UTF-16", "save it as UTF-8 without one"),
    (b"\xfe\xff", "the byte order mark of UTF-16", "save it as UTF-8 without one"),
)
_BEGINNINGS_OF_MARKS = (b"\xef", b"\xff", b"\xfe")
_SHOWN = 60
_LONGEST_FIRST_LINE = 4096


class HeaderLine(NamedTuple):
    """A `#JJ` line that counts: where it is, and the text after `#JJ`."""

    where: str
    text: str


class Misplaced(NamedTuple):
    """A line that looks like a `#JJ` line and does not count: its number, why it does not count, and what to do."""

    number: int
    reason: str


@functools.cache
def _compile(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern at its first use: few files need it, and it takes a millisecond."""
    return re.compile(pattern, re.MULTILINE)


def read_header_lines(data: bytes, where: str) -> list[HeaderLine]:
    """Return the `#JJ` lines that count in a script, which begins with `data`. A binary file has none.

    Raises BadScript if a byte order mark hides the first line, which hides it from the kernel too, or if such a line is cut off.
    """
    _refuse_mark(data, where)
    if b"#JJ" not in data or not _is_text(data):
        return []
    found = []
    for number, line in enumerate(_lines(data), 1):
        if not _is_in_block(line):
            break
        if _LINE.match(line):
            text = line[3:].strip()
            if text == _END:
                break
            found.append(HeaderLine(f"{where}, line {number}", text.decode("utf-8", "replace")))
    else:
        _refuse_cut_off(data, where)
    return found


def _refuse_cut_off(data: bytes, where: str) -> None:
    """Refuse a script in whose block a `#JJ` line goes on behind the part that is searched: it would be ignored silently."""
    if len(data) >= HEADER_BYTES and _LINE.match(data[:HEADER_BYTES].rpartition(b"\n")[2]):
        number = data.count(b"\n", 0, HEADER_BYTES) + 1
        reason = f"this `#JJ` line goes on behind the first {HEADER_BYTES} bytes, which are all that is read; use shorter lines"
        raise BadScript(where=f"{where}, line {number}", reason=reason)


def find_misplaced(data: bytes) -> list[Misplaced]:
    """Find the lines of a script, which begins with `data`, that look like `#JJ` lines and do not count. A first line that ends
    with CR is found too, since no kernel finds its interpreter."""
    found = []
    if data.startswith(b"#!") and data[:_LONGEST_FIRST_LINE].partition(b"\n")[0].endswith(b"\r"):
        found.append(Misplaced(1, explain_carriage_return(data)))
    # Most scripts with these letters have them in names of variables. A quick search spares those the rest.
    if _NEAR.search(data) and _is_text(data):
        alike = _compile(_ALIKE)
        at = alike.search(data)
        while at is not None and _LINE.match(data, at.start()) and _is_in_block_at(data, at.start()):
            at = alike.search(data, at.end())
        if at is not None:
            found += _look_through(_lines(data))
    return found


def refuse_misplaced(data: bytes, where: str) -> None:
    """Raise BadScript if `find_misplaced` finds lines in a script."""
    found = find_misplaced(data)
    if found:
        more = f" ({len(found) - 1} more such lines follow)" if len(found) > 1 else ""
        raise BadScript(where=f"{where}, line {found[0].number}", reason=found[0].reason + more)


def explain_carriage_return(data: bytes) -> str:
    """Explain why a script whose first line ends with CR LF does not run, and what to do."""
    interpreter = data[:_LONGEST_FIRST_LINE].partition(b"\n")[0][2:].strip(b" \t").decode("utf-8", "replace")
    return (
        f"the #! line ends with a carriage return (CR), as Windows writes lines, so the kernel looks for {interpreter!r}; "
        r"take the CRs away (sed -i 's/\r$//' FILE)"
    )


def _refuse_mark(data: bytes, where: str) -> None:
    if data[:1] not in _BEGINNINGS_OF_MARKS:
        return
    for mark, name, what_to_do in _MARKS:
        if data.startswith(mark):
            reason = f"the file begins with {name}, so the kernel does not see a #! line in it; {what_to_do}"
            raise BadScript(where=f"{where}, line 1", reason=reason)


def _is_text(data: bytes) -> bool:
    first = data[:1]
    return (first >= b" " and first != b"\x7f") or first in (b"\t", b"\n", b"\r")


def _lines(data: bytes) -> list[bytes]:
    """Split the part that is searched into lines. A last line that is cut off is left out, as is everything from the first
    binary line on."""
    lines = data[:HEADER_BYTES].split(b"\n")
    if len(data) >= HEADER_BYTES:
        lines.pop()  # cut off: half a value would be another value
    binary = next((number for number, line in enumerate(lines) if b"\0" in line), len(lines))
    return lines[:binary]


def _is_in_block(line: bytes) -> bool:
    """Whether the block of comment lines at the top goes on with this line."""
    return line.startswith(b"#") or not line.strip()


def _is_in_block_at(data: bytes, start: int) -> bool:
    return all(map(_is_in_block, data[:start].split(b"\n")[:-1]))


def _look_through(lines: list[bytes]) -> list[Misplaced]:
    """`find_misplaced` line by line. Text for another file is skipped: here-documents, and the first lines of a script that this
    one writes."""
    found = []
    ended_by = 0
    words: list[bytes] = []
    is_of_another = False
    for number, line in enumerate(lines, 1):
        if words:
            if _ends_here_document(line, words[0]):
                words.pop(0)
            continue
        if _LINE.match(line) and line[3:].strip() == _END:
            break
        if not ended_by and not _is_in_block(line):
            ended_by = number
        if ended_by:
            is_comment = line.lstrip().startswith(b"#")
            begins_another = line.lstrip().startswith(b"#!") if is_comment else b"#!" in line
            is_of_another = begins_another or (is_of_another and (is_comment or not line.strip()))
            if not is_comment:
                words = [word for _, word in _compile(_HERE_DOCUMENT).findall(line) if _is_ended(lines, number, word)]
        if _compile(_ALIKE).match(line) and not is_of_another and not (not ended_by and _LINE.match(line)):
            found.append(Misplaced(number, _explain(line, ended_by, number)))
    return found


def _ends_here_document(line: bytes, word: bytes) -> bool:
    return line.strip().rstrip(b";)") == word


def _is_ended(lines: list[bytes], start: int, word: bytes) -> bool:
    """Whether the delimiter follows on a line of its own: `1 << n` begins no here-document. A here-document that does not end in
    the searched part does not count as one either, so that its lines are reported rather than lost."""
    return any(_ends_here_document(line, word) for line in lines[start:])


def _explain(line: bytes, ended_by: int, number: int) -> str:
    text = line.strip().decode("utf-8", "replace")
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    if ended_by == number:
        why = "it is indented, which ends the comment lines at the top. Write it at the beginning of the line"
    elif ended_by:
        why = f"line {ended_by} ends the comment lines at the top, and only `#JJ` lines among those do. Move it above that line"
    else:
        why = "it is not written `#JJ name = value`. Write it so"
    return f"{text!r} does not count, because {why}; or, if it is not meant for this job, put a line `#JJ end` above it"
