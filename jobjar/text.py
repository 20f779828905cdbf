"""Text for people: names may hold any bytes, and are shown escaped where they are not plain text."""

from __future__ import annotations

import re

# Control characters but the newline: C0, DEL, C1 (ECMA-48); and surrogates, which stand for bytes that are no UTF-8 (PEP 383).
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Text for a terminal or a log: what would move the cursor or ring a bell is shown as `\\x1b`, and so is a byte of a name
    that is not UTF-8. Lines stay lines. What this returns can be encoded."""
    return _CONTROL.sub(_escape, text)


def printable_name(name: str) -> str:
    """A name for people, as `printable` has it, in one line."""
    return printable(name).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_text(name: str) -> bool:
    """Whether a name is UTF-8 on disk. Nothing of a jar has another: neither a journal nor a ledger could."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(word: str) -> str:
    """A word of a person's to be looked for in a ledger: one that is not text is spelt as `printable` does, and means nothing."""
    return word if is_text(word) else printable(word)
