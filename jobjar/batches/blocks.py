"""Scan the blocks of a submit file in Jug's syntax, with the line of each value. The scanner knows no keys.

    # comments go to the end of the line
    batch {
        name = "count-$(level)"
        run_command = "count \"$(file)\" > output/n"
    }
    job
        name = "first"
        priority = 5

The word `batch` or `job` opens a block. The block ends at the next block, or at its `}` where it has braces. A job may stand
inside the braces of its batch. A value is a text in double quotes on one line, or one word without quotes. In quotes, `\"`, `\\`
and `\\$` stand for their second character; any other backslash stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

BATCH, JOB = "batch", "job"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r'[^\s"{}#]+')


class Value(NamedTuple):
    """One `key = value`. `text` is None where the value is malformed, or a parameter in it is missing."""

    key: str
    text: str | None
    line: int


class Block(NamedTuple):
    """A block as it stands in a file. `kind` is batch, job, or '' for a word that is neither."""

    kind: str
    line: int
    values: list[Value]


# Puts parameters into a value: (text, line, whether `\"` and `\\` are escapes) -> text; None where a parameter is missing.
Expand = Callable[[str, int, bool], "str | None"]
# Takes a problem: (line, message).
Complain = Callable[[int, str], None]


class _Scanner:
    def __init__(self, expand: Expand, complain: Complain) -> None:
        self.expand = expand
        self.complain = complain
        self.blocks: list[Block] = []
        self.current: Block | None = None
        # The blocks whose braces are open, and the lines of these braces.
        self.open: list[tuple[Block, int]] = []
        self.awaits_brace = False

    def scan_line(self, line: str, number: int) -> None:
        position = 0
        while True:
            position += len(line[position:]) - len(line[position:].lstrip())
            rest = line[position:]
            if not rest or rest.startswith("#"):
                return
            if rest[0] in "{}":
                self._take_brace(rest[0], number)
                position += 1
                continue
            name = _NAME.match(rest)
            if not name:
                self.complain(number, f'{_short(rest)} cannot be understood; a line is key = "value"')
                return
            equals = _EQUALS.match(rest, name.end())
            if not equals:
                taken = self._begin_block(name.group(), rest[name.end() :], number)
                position += name.end()
                if not taken:
                    return
                continue
            end = self._take_value(name.group(), rest, equals.end(), number)
            if end is None:
                return
            position += end

    def _take_brace(self, brace: str, number: int) -> None:
        if brace == "{":
            if not self.awaits_brace or self.current is None:
                self.complain(number, "{ stands where no block begins")
                return
            self.open.append((self.current, number))
            self.awaits_brace = False
        elif not self.open:
            self.complain(number, "} closes nothing")
        else:
            self.open.pop()
            self.awaits_brace = False
            self.current = self.open[-1][0] if self.open else None

    def _begin_block(self, word: str, rest: str, number: int) -> bool:
        """Begin the block that `word` opens. Returns whether the rest of the line is to be scanned."""
        if word not in (BATCH, JOB):
            if rest.strip().startswith("{") or not rest.strip() or rest.strip().startswith("#"):
                self.complain(number, f"there is no block {word!r}; the blocks are batch and job")
                word = ""
            else:
                self.complain(number, f'{_short(word + rest)} cannot be understood; a line is key = "value"')
                return False
        elif self.open and (word == BATCH or self.open[-1][0].kind == JOB):
            self.complain(
                number, f"{word} begins inside of the block whose {{ is in line {self.open[-1][1]}; }} is missing"
            )
            self.open.clear()
        self.current = Block(word, number, [])
        self.blocks.append(self.current)
        self.awaits_brace = True
        return True

    def _take_value(self, key: str, rest: str, start: int, number: int) -> int | None:
        """Take the value that begins at `start`. Returns its end, None where the rest of the line cannot be scanned."""
        self.awaits_brace = False
        if rest[start : start + 1] == '"':
            found = _QUOTED.match(rest, start)
            if not found:
                self.complain(number, f"{key}: the quote is not closed in its line")
                self._add(Value(key, None, number))
                return None
            text = self.expand(found.group(1), number, True)
        else:
            found = _WORD.match(rest, start)
            if not found:
                self.complain(number, f"{key} has no value")
                return None
            text = self.expand(found.group(), number, False)
        self._add(Value(key, text, number))
        return found.end()

    def _add(self, value: Value) -> None:
        if self.current is None:
            self.complain(value.line, f"{value.key} stands in no block; begin one with batch or job")
        else:
            self.current.values.append(value)


def scan_blocks(text: str, expand: Expand, complain: Complain) -> list[Block]:
    """The blocks of a text, in order. Problems go to `complain`; the parts that can be understood are returned all the same."""
    scanner = _Scanner(expand, complain)
    for number, line in enumerate(text.split("\n"), 1):
        scanner.scan_line(line.rstrip("\r"), number)
    for _, number in scanner.open:
        complain(number, "this { is not closed")
    return scanner.blocks


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}…")
