"""Which tests are quick, by one rule: those that start no program.

To start Python takes longer than most of what a test asks. So the tests of the inner loop (`make test-quick`) do all their work
in the process of the tests. Nobody marks them: `starts_program` follows the code of a test, of its fixtures, and of the helpers
in tests/ that these call, and looks for what starts a program. Where it takes a test for quick that does start Python after all,
`refuse_programs` fails that test. So the inner loop stays as quick as it is.
"""

from __future__ import annotations

import dis
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.rig import Rig

_STARTERS = {"subprocess", "Popen", "multiprocessing", "run_forked"}
_BIN = Path(sys.executable).parent
_known: dict[CodeType, bool] = {}
# What ends a rig asks for the `status` of processes, and starts none.
_ENDERS = {"processes", "end_everything"}
# The methods of Rig that start a program. A test that has a rig calls them by these names; on other objects, and in fixtures,
# a name may also be that of something else: then a quick test is left out of the inner loop, which harms nobody.
_methods: set[str] = set()
_quick_test = ""


def starts_program(item: pytest.Function) -> bool:
    """Whether a test may start a program, by its code, its fixtures, and what of tests/ they call."""
    if not _methods:
        _find_methods()
    fixtures = item._fixtureinfo.name2fixturedefs
    functions = [item.function, *(found.func for name in fixtures for found in fixtures[name])]
    return any(_reaches(function) for function in functions)


def refuse_programs(test: str) -> None:
    """From now on, starting Python fails the test of this name; "" allows it again."""
    global _quick_test
    _quick_test = test


def watch_programs() -> None:
    """Have `refuse_programs` do what it says, in this process, until it ends."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if _quick_test and event == "subprocess.Popen":
        words = [os.fsdecode(word) for word in (arguments[0], *arguments[1])]
        assert not any(Path(word).parent == _BIN for word in words), (
            f"{_quick_test} was taken for a quick test, and starts a program ({' '.join(words)}). "
            "Mark it `slow`, or have tests/quick.py see it"
        )


def _find_methods() -> None:
    """Fill `_methods`: those that start something, and those that call one of these."""
    found = True
    while found:
        _known.clear()
        found = False
        for name, method in vars(Rig).items():
            if isinstance(method, FunctionType) and name not in _methods | _ENDERS and _reaches(method):
                _methods.add(name)
                found = True
    _known.clear()


def _reaches(function: Any) -> bool:
    """Whether a function names what starts a program, or calls a function of tests/ that does."""
    function = inspect.unwrap(function) if callable(function) else function
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    if code not in _known:
        _known[code] = False  # while it is looked at: it may call itself
        kinds = {name: getattr(kind, "__name__", str(kind)) for name, kind in function.__annotations__.items()}
        no_rigs = {name for name, kind in kinds.items() if not kind.endswith("Rig")}
        _known[code] = any(
            _is_start(function.__globals__[name])
            if is_global and name in function.__globals__
            else name in _STARTERS or (name in _methods and not is_global)
            for name, is_global in _names(code, no_rigs)
        )
    return _known[code]


def _is_start(named: Any) -> bool:
    """Whether what a global name stands for starts a program: the module that does, or a function or class of tests/."""
    if getattr(named, "__name__", "") in _STARTERS:
        return True
    if named is Rig or not str(getattr(named, "__module__", "")).startswith("tests."):
        return False
    return any(_reaches(function) for function in (vars(named).values() if isinstance(named, type) else [named]))


def _names(code: CodeType, no_rigs: set[str]) -> Iterator[tuple[str, bool]]:
    """The names in a piece of code and in the functions within it, and whether each is global, not one of an object. Those of
    the objects `no_rigs` are left out."""
    before = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME"):
            yield str(instruction.argval), True
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and before not in no_rigs:
            yield str(instruction.argval), False
        before = instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant, no_rigs)
