"""The patterns in the paths of output files that people give a job or the tasks of an array. Reads and writes nothing."""

from __future__ import annotations

import os
import re

_PATTERN = re.compile(r"%(.?)")
_MEANINGS = {"j": "id", "n": "name", "c": "category", "t": "attempt", "a": "index of a task", "A": "id of an array"}
_OF_TASKS = ("%a", "%A")
# What is below it is no file that one task would keep from another.
DEVICES = "/dev/"


def check_pattern(path: str) -> None:
    """Raise ValueError if a path has a pattern that there is not."""
    for letter in _PATTERN.findall(path):
        if letter != "%" and letter not in _MEANINGS:
            known = ", ".join(f"%{letter} ({meaning})" for letter, meaning in _MEANINGS.items())
            raise ValueError(f"{path!r}: there is no pattern {'%' + letter!r}; there are {known}, %%")


def explain_misfit(path: str, is_array: bool) -> str | None:
    """Why a path is none for the tasks of an array, or none for a single job; None if it is one."""
    patterns = {found.group() for found in _PATTERN.finditer(path)}
    if not is_array:
        wrong = [pattern for pattern in _OF_TASKS if pattern in patterns]
        return (
            f"{path!r} has {wrong[0]}, which is for the tasks of an array, and this is a single job" if wrong else None
        )
    if "%a" in patterns or path.startswith(DEVICES):
        return None
    stem, extension = os.path.splitext(path)
    return f"{path!r} is one file for all tasks; name one for each by its index %a, for example {stem + '.%a' + extension!r}"


def fill_pattern(path: str, uid: str, name: str, category: str, attempt: int, index: int | None = None) -> str:
    """Fill in the path of an output file. Of a task, which has an index, `uid` is the id of its array."""
    values = {"j": uid, "n": name, "c": category, "t": str(attempt), "%": "%"}
    if index is not None:
        values |= {"a": str(index), "A": uid}
    return _PATTERN.sub(lambda found: values.get(found.group(1), found.group()), path)
