"""Cut an action short, or let others act in the middle of it, at the n-th change that it makes to the disk.

What is killed writes nothing any more: after the first call that raises, every other does too, so that no handler of the
code under test can do what a killed process could not.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from jobjar.shared_disk import moves

_CHANGES = ("rename", "link", "unlink", "mkdir", "rmdir", "symlink", "write", "utime", "open")


class Killed(BaseException):
    """The process is no more. Not an Exception: nothing that handles errors handles this."""


class Fault(NamedTuple):
    """`kind`: killed (before the n-th change), torn (killed in it: half of what is written arrives), meanwhile (others
    act before it)."""

    kind: str
    at: int


@contextlib.contextmanager
def fault_in(fault: Fault | None, act: Callable[[], None] | None = None) -> Iterator[None]:
    """Have `fault` happen in the body. Raises Killed out of it."""
    if fault is None:
        yield
        return
    thread = threading.get_ident()
    count = 0
    is_dead = is_acting = False

    def wrapped(call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def calling(*arguments: Any, **options: Any) -> Any:
            nonlocal count, is_dead, is_acting
            if threading.get_ident() != thread or is_acting:
                return call(*arguments, **options)
            if name == "open" and not arguments[1] & os.O_EXCL:
                return call(*arguments, **options)
            if is_dead:
                raise Killed(name)
            count += 1
            if count == fault.at + 1:
                if fault.kind == "between_pieces":
                    is_acting = True
                    try:
                        if act is not None:
                            act()
                    finally:
                        is_acting = False
                else:
                    is_dead = True
                    if fault.kind == "torn" and name == "write":
                        call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    raise Killed(name)
            return call(*arguments, **options)

        return calling

    with pytest.MonkeyPatch.context() as patch:
        for name in _CHANGES:
            patch.setattr(os, name, wrapped(getattr(os, name), name))
        rename = moves._load_renameat2()
        if rename is not None:
            patch.setattr(moves, "_renameat2", wrapped(rename, "renameat2"))
        yield
