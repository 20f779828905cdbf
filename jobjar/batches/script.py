"""Make a described job's file: a script whose `#JJ` block says what a worker is to do.

People may edit the file. The worker reads it anew at each attempt (attributes.read_description). A script that is run as a
program explains itself on standard error, and exits with status 2.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from jobjar.job_file.attributes import HEADER_BYTES
from jobjar.job_file.description import LISTS

# A worker has to read the whole block. This leaves room for lines that people add.
MOST_BYTES = HEADER_BYTES - 4096
# Longer lists go over several lines, because the length of a value is limited, and so is the width of an editor.
_LIST_LINE = 120
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def make_script(pairs: Sequence[tuple[str, str]]) -> bytes:
    """The content of a described job's file: keys and values as people write them, one per line, in order.

    `attributes.read_description` reads from it what `description.describe` makes of the pairs. Raises ValueError where a key is
    malformed, where a value has a line end, a NUL or a character that UTF-8 cannot write, and where the file gets too long.
    """
    lines = ["#!/bin/sh", "#JJ described = yes"]
    said = dict(pairs)
    for key, value in pairs:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is not a key")
        if "\n" in value or "\0" in value:
            raise ValueError(f"{key}: it has a line end or a NUL")
        if key != "described":
            lines += [f"#JJ {key} = {part}".rstrip() for part in _parts(key, value.strip())]
    of_batch = " ".join(f"of {key} {said[key]}" for key in ("batch",) if key in said)
    with_seed = f" with seed {said['seed']}" if "seed" in said else ""
    what = " ".join(f"a described job of Job Jar {of_batch}".split()) + with_seed
    explanation = (
        f"This is {what}. The #JJ lines in it say what is to be done; "
        "a worker (start_worker) does that, when the job is in the unclaimed jar. Run by itself it does nothing."
    )
    lines += [
        "#",
        "# Each line above is a key of the job's description. They may be edited until a worker begins the job's next",
        "# attempt; a worker reads them, it does not run what is below.",
        "",
        f"printf '%s\\n' {shlex.quote(explanation)} >&2",
        "exit 2",
    ]
    try:
        text = ("\n".join(lines) + "\n").encode()
    except UnicodeEncodeError as error:
        raise ValueError("a value has a character that UTF-8 cannot write") from error
    if len(text) > MOST_BYTES:
        raise ValueError(f"the description is longer than {MOST_BYTES} bytes")
    return text


def _parts(key: str, value: str) -> list[str]:
    """Split a long list into the values of several lines."""
    if key not in LISTS or len(value) <= _LIST_LINE:
        return [value]
    try:
        words = shlex.split(value)
    except ValueError:
        return [value]  # its reader reports the error
    parts: list[str] = []
    for word in map(shlex.quote, words):
        if parts and len(parts[-1]) + len(word) < _LIST_LINE:
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts
