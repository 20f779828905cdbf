"""Where programs begin: names are UTF-8 whatever the locale says, and no output fails on a character.

A name is the bytes that a disk has. Python takes them for what the locale says, and where that is not UTF-8 one name would be
two: `ä` to one node, `Ã¤` to the next. Only the start of Python decides that, so a program starts again, in UTF-8 mode.
Reads and writes nothing else.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

from jobjar.text import printable

_AS_BYTES = "jobjar.as_bytes"
_ESCAPED = "jobjar.escaped"


def begin(is_program: bool) -> None:
    """Make this process write UTF-8. `is_program` means that the process was started for this alone, with its words in sys.argv.
    Such a process starts again if Python decodes names in another encoding; the call then does not return."""
    is_utf8 = sys.getfilesystemencoding() == "utf-8"
    # A user who says -X utf8=0 means it; jar.py reports what that costs.
    if is_program and not is_utf8 and "utf8" not in sys._xoptions and sys.executable:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    codecs.register_error(_AS_BYTES, _as_bytes)
    codecs.register_error(_ESCAPED, _escaped)
    for stream, errors in ((sys.stdout, _AS_BYTES), (sys.stderr, _ESCAPED)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Print names as the bytes that they are, for scripts."""
    assert isinstance(error, UnicodeEncodeError)
    try:
        return error.object[error.start : error.end].encode("utf-8", "surrogateescape"), error.end
    except UnicodeEncodeError:
        return _escaped(error)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return printable(error.object[error.start : error.end]), error.end
