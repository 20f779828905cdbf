"""Text for people. Names may have any bytes; those that are not plain text are shown escaped."""

from __future__ import annotations

import re

# Control characters except the newline: C0, DEL, C1 (ECMA-48). And surrogates, which stand for bytes that are not UTF-8
# (PEP 383).
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape text for a terminal or a log. A character that would move the cursor or ring a bell is shown like `\\x1b`, and so
    is a byte of a name that is not UTF-8. Newlines stay. The result can be encoded."""
    return _CONTROL.sub(_escape, text)


def printable_name(name: str) -> str:
    """Escape a name as `printable` does, and its newlines too."""
    return printable(name).replace("\n", "\\n")


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_text(name: str) -> bool:
    """Whether a name is UTF-8 on disk. No file of a jar has another name: journals and ledgers could not hold it."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(word: str) -> str:
    """Prepare a user's word for a search in a ledger. A word that is not UTF-8 is escaped by `printable`, and matches nothing."""
    return word if is_text(word) else printable(word)
