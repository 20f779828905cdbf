"""Names: those allowed for jobs, categories and identifiers, and the information in a job's name.

A job's file name is `<anything>[.<priority>]`. Names made here are
`<UTC time>-<id>-<node>-<pid>-<counter>-<login>[-<identifier>].<priority>`. They contain the job's id, so that every node knows
it from the name alone.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import time
from collections.abc import Collection, Iterator

from jobjar.errors import BadCategory, BadIdentifier, BadPriority
from jobjar.host import login, node_name
from jobjar.text import is_text

MAX_PRIORITY = 999_999_999
MAX_NAME_BYTES = 255
_PLAIN = re.compile(r"[A-Za-z0-9._+@%=-]+")
_PRIORITY = re.compile(r"-?[0-9]{1,18}")
# What follows the id shows a chunk of an array (`make_name`).
_MADE_HERE = re.compile(r"[0-9]{8}T[0-9]{6}Z-([0-9a-z]{12})[-+]")
_ID_AT, _ID_LENGTH = 17, 12
_RANGE = re.compile(r"\+[0-9]{1,16}-[0-9]{1,16}$")
# The affixes by which editors and package managers name a file that they keep.
_BACKUP = (
    r"(?i)(.+?)(?:\.?~[0-9]*~|~"
    r"|\.(?:bak|backup|old|orig|save|saved|rej|swp|swo|tmp|rpmsave|rpmnew|rpmorig|dpkg-[a-z]+|ucf-[a-z]+))"
)
_AUTOSAVED = r"#(.+)#"
# The temporary file of GNU `sed -i`.
_TEMPORARY = re.compile(r"sed[A-Za-z0-9]{6}")
_NUMBERED = re.compile(r"~[0-9]+(?=$|\.-?[0-9]{1,18}$)")
_ID_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_counter = itertools.count(1)
# A process gives its jobs consecutive ids, in runs of at most 2 ** _RUN_BITS that begin at a random id. Ledgers keep rows by
# id, so a fold of jobs that come together writes a few pages instead of one or two for each job.
_RUN_BITS = 15
_run: Iterator[int] = iter(())


def new_id() -> str:
    """Return a new id: 12 letters and digits, 60 random bits."""
    return _spell(_random_bits())


def new_job_id() -> str:
    """Return a new job id of the same form as `new_id`. Usually it is the one after this process's last job id."""
    global _run
    number = next(_run, None)
    if number is None:
        number = _random_bits()
        _run = iter(range(number + 1, ((number >> _RUN_BITS) + 1) << _RUN_BITS))
    return _spell(number)


def _forget_run() -> None:
    global _run
    _run = iter(())


# Otherwise a forked child would use the same run of ids as its parent.
os.register_at_fork(after_in_child=_forget_run)


def _random_bits() -> int:
    return int.from_bytes(os.urandom(8), "big") >> 4


def _spell(number: int) -> str:
    return "".join(_ID_LETTERS[number >> shift & 31] for shift in range(55, -1, -5))


def make_name(priority: int = 0, identifier: str | None = None, is_chunk: bool = False) -> str:
    """Return a new name that no other call on any node returns. Raises BadPriority or BadIdentifier.

    In the name of an array's chunk another letter follows the id. Release 0.1.0 finds no id there. So it reads the file at each
    claim, and holds it for the `#JJ` line that it does not know."""
    check_priority(priority)
    parts = [
        time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        new_job_id(),
        node_name()[:64],
        str(os.getpid()),
        str(next(_counter)),
        login()[:32],
    ]
    if identifier:
        parts.append(check_identifier(identifier))
    day, uid, *rest = parts
    return f"{day}-{uid}{'+' if is_chunk else '-'}{'-'.join(rest)}.{priority}"


# A claim calls this and `is_own_name` several times for one name.
@functools.lru_cache(maxsize=256)
def id_in_name(name: str) -> str | None:
    """Return the job id in a name that `make_name` made; None for any other name."""
    found = _MADE_HERE.match(name)
    return found.group(1) if found else None


def places_by_shared_id(places: Collection[str]) -> dict[str, list[str]]:
    """The places of the names that have one id in common, in their order, by that id; none for an id that one place has."""
    # Where an id would be, most names have one of their own.
    if len({place[(at := place.rfind("/") + 1 + _ID_AT) : at + _ID_LENGTH] for place in places}) == len(places):
        return {}
    by_id: dict[str, list[str]] = {}
    for place in sorted(places):
        found = _MADE_HERE.match(place, place.rfind("/") + 1)
        if found is not None:
            by_id.setdefault(found.group(1), []).append(place)
    return {uid: shared for uid, shared in by_id.items() if len(shared) > 1}


def identifier_in_name(name: str, submitter: str | None) -> str | None:
    """Return the identifier in a name that `make_name` made for a job of `submitter`: '' if it has none, None for other names."""
    if id_in_name(name) is None or submitter is None:
        return None
    stem = _stem(name)[30:]
    found = re.match(rf".*?-[0-9]+-[0-9]+-{re.escape(submitter[:32])}(?:-(.*))?$", stem)
    return None if found is None else found.group(1) or ""


def carried_id(name: str) -> str | None:
    """Return the job id in a name that contains a name from `make_name`, with anything before or after it; None for any other."""
    found = _MADE_HERE.search(name)
    return found.group(1) if found else None


@functools.lru_cache(maxsize=256)
def is_own_name(name: str, uid: str) -> bool:
    """Whether a name looks as if `make_name` made it for this job: it has a priority, and nothing follows that."""
    return uid in name and has_priority(name) and id_in_name(name) == uid


def is_same_name(name: str, other: str) -> bool:
    """Whether two names differ at most in the priority, in the number of a taken name (`~2`), and, if they were made for one job,
    in the range at their ends: that of a chunk changes (arrays/indexes.py)."""
    stem, other_stem = _stem(name), _stem(other)
    if stem == other_stem:
        return True
    uid = id_in_name(name)
    return uid is not None and uid in other and _RANGE.sub("+", stem) == _RANGE.sub("+", other_stem)


def _stem(name: str) -> str:
    name = unnumbered_name(name)
    return name.rpartition(".")[0] if has_priority(name) else name


def has_priority(name: str) -> bool:
    """Whether a name has an integer extension."""
    stem, dot, extension = name.rpartition(".")
    return bool(stem and dot and _PRIORITY.fullmatch(extension))


def with_priority(name: str, priority: int) -> str:
    """Return the name with this priority instead of its own, and without the number of a taken name."""
    return f"{_stem(name)}.{priority}"


def originals_of_backup(name: str) -> list[str]:
    """Return the names of the files that a file of this name may be a backup of; [] for most names."""
    patterns = (_BACKUP, _AUTOSAVED)
    return [found.group(1) for pattern in patterns if (found := re.fullmatch(pattern, name)) is not None]


def is_temporary_name(name: str) -> bool:
    """Whether this may be the name of a temporary file of `sed -i`."""
    return _TEMPORARY.fullmatch(name) is not None


def priority_in_name(name: str) -> int:
    """Return the priority in a job's name: its extension if that is an integer, otherwise 0 (guide)."""
    stem, dot, extension = name.rpartition(".")
    return _priority_of(extension) if stem and dot else 0


@functools.lru_cache(maxsize=1024)
def _priority_of(extension: str) -> int:
    return int(extension) if _PRIORITY.fullmatch(extension) else 0


def numbered_name(name: str, number: int) -> str:
    """Add `~number` to a name, before an integer extension so that the priority stays: `x~2.15`."""
    stem, dot, extension = name.rpartition(".")
    if stem and dot and _PRIORITY.fullmatch(extension):
        return f"{stem}~{number}.{extension}"
    return f"{name}~{number}"


def unnumbered_name(name: str) -> str:
    """Undo `numbered_name`."""
    return _NUMBERED.sub("", name)


def parse_priority(text: str) -> int:
    """Parse a priority. Raises BadPriority."""
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise BadPriority(value=text)
    return check_priority(int(text))


def check_priority(priority: int) -> int:
    """Return `priority`, or raise BadPriority."""
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > MAX_PRIORITY:
        raise BadPriority(value=priority)
    return priority


def check_category(category: str) -> str:
    """Return `category`, or raise BadCategory."""
    if not category:
        raise BadCategory(value=category, reason="it is empty")
    if category[0] in ".-":
        raise BadCategory(value=category, reason=f"it starts with {category[0]!r}")
    if not _PLAIN.fullmatch(category):
        raise BadCategory(value=category, reason="it has other characters")
    if len(category) > 128:
        raise BadCategory(value=category, reason="it is longer than 128 characters")
    return category


def check_identifier(identifier: str) -> str:
    """Return `identifier`, or raise BadIdentifier."""
    if not _PLAIN.fullmatch(identifier):
        raise BadIdentifier(value=identifier, reason="it has other characters")
    if len(identifier) > 80:
        raise BadIdentifier(value=identifier, reason="it is too long")
    return identifier


def oddity_in_name(name: str) -> str | None:
    """Explain why a file of this name is never run; None if it may be."""
    if not name:
        return "it is empty"
    if name.startswith("."):
        return "it starts with a dot"
    if "/" in name:
        return "it has a slash"
    if "\n" in name or "\0" in name or "\r" in name:
        return "it has a line end or a NUL"
    if not is_text(name):
        return "it is not UTF-8"
    if len(name.encode()) > MAX_NAME_BYTES - 8:
        return "it is longer than 247 bytes"
    return None
