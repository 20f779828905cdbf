"""The code's rooms: who may import whom, and where SQL is spoken."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import jobjar

PACKAGE = Path(jobjar.__file__).parent
# The rooms from the ground up: a module imports from its own room and from those before it, never from one after it.
# Directories of jobjar/, and the modules that lie beside them.
ROOMS = [
    *("errors", "units", "layout", "version", "text", "host", "meter", "causes"),
    *("job_file", "liveness", "shared_disk", "access", "settings", "journal", "grouped"),
    "ledger",
    *("jar", "roster", "control", "hearing", "processes"),
    *("fetching", "packages", "attempts", "publishing"),
    *("selecting", "stages"),
    *("typed_job", "described", "batches", "arrays"),
    *("recovery", "nightly", "steering", "reports", "pilots", "doctor", "self_contained", "create"),
    "web",
    "worker",
    *("library", "library_batches", "library_submit", "library_looking", "library_steering", "library_waiting"),
    *("executor", "joblib", ""),  # "" is jobjar itself
    "programs",
]
# Directories of tests for what spans rooms. The others have the name of the room that they test.
SPANS = {"crash", "race", "model", "faults", "hosts", "disk", "formats"}
SQL = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM ")


def read_modules() -> dict[str, ast.Module]:
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if parts[1] not in ("scripts", "documents"):
            modules[name] = ast.parse(path.read_text(encoding="utf-8"))
    return modules


MODULES = read_modules()


def nodes(names: Iterable[str]) -> Iterator[tuple[str, ast.AST]]:
    """All that stands in these modules, each with the name of its module."""
    return ((name, node) for name in names for node in ast.walk(MODULES[name]))


@cache
def find_imports(name: str) -> set[str]:
    """The modules of this package that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return {target for target in found if target in MODULES}


def room(name: str) -> str:
    found = [*name.split("."), ""][1]
    return "programs" if found == "__main__" else found  # `python -m jobjar` is a program


def rank(name: str) -> int:
    assert room(name) in ROOMS, f"{name} is in no room of tests/test_imports.py: say where it belongs"
    return ROOMS.index(room(name))


def test_a_module_imports_only_what_comes_before_it() -> None:
    for name in MODULES:
        for target in find_imports(name):
            assert rank(target) <= rank(name), f"{name} imports {target}, which comes after it"


def test_a_room_says_in_a_sentence_what_it_is_for() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert text and text.splitlines()[0].endswith("."), path


def test_each_room_that_is_a_directory_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    packages = config["options"]["packages"].split()
    assert sorted(packages) == sorted(
        {"jobjar", *(f"jobjar.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py"))}
    )


def test_tests_mirror_the_rooms() -> None:
    tests = Path(__file__).parent
    directories = {path.parent.name for path in tests.glob("*/test_*.py")}
    assert directories - SPANS <= set(ROOMS)
    for path in tests.glob("test_*.py"):
        owners = [
            name for name in ROOMS if (PACKAGE / name / f"{path.stem.removeprefix('test_')}.py").exists() and name
        ]
        assert owners == [], f"{path.name} tests a module of the room {owners[0]}: it belongs into its directory"


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " imports ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(find_imports(name)):
                follow(target, (*way, name))
            done.add(name)

    for name in sorted(MODULES):
        follow(name, ())


def test_a_stage_imports_no_other_stage() -> None:
    for name in MODULES:
        targets = {target for target in find_imports(name) if room(target) == "stages"}
        assert room(name) != "stages" or not targets, name


def test_only_programs_import_programs() -> None:
    for name in MODULES:
        targets = {target for target in find_imports(name) if room(target) == "programs"}
        assert room(name) == "programs" or not targets, name


def test_only_programs_print_exit_or_read_the_command_line() -> None:
    for name, node in nodes(name for name in MODULES if room(name) != "programs"):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "input"), f"{name}, line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in ("argv", "exit"), f"{name}, line {node.lineno}"


def test_sql_is_spoken_in_the_ledger_only() -> None:
    spoken = {
        name
        for name, node in nodes(MODULES)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip().startswith(SQL)
    }
    assert {room(name) for name in spoken} == {"ledger"}


# Lists of small things of one kind, which one looks up in one place.
LISTS = ("jobjar.errors", "jobjar.settings.table")


def test_a_module_says_what_it_is_for_and_is_of_readable_size() -> None:
    for name, tree in MODULES.items():
        if tree.body:
            assert ast.get_docstring(tree), name
        path = PACKAGE.parent / Path(*name.split("."))
        file = path.with_suffix(".py") if not path.is_dir() else path / "__init__.py"
        most = 600 if name in LISTS else 400
        assert len(file.read_text(encoding="utf-8").splitlines()) <= most, f"{name} wants to be two modules"


def test_no_error_is_caught_without_a_name() -> None:
    for name, node in nodes(MODULES):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{name}, line {node.lineno}"


def test_one_module_takes_locks_and_the_doctor_tries_them() -> None:
    takers = {
        name
        for name, node in nodes(MODULES)
        if (isinstance(node, ast.Attribute) and node.attr in ("flock", "lockf"))
        or (isinstance(node, (ast.Import, ast.ImportFrom)) and "portalocker" in ast.unparse(node))
    }
    assert takers == {"jobjar.shared_disk.locks", "jobjar.doctor.peer"}


def test_what_keeps_a_process_from_its_ledger_is_caught_by_one_name() -> None:
    both = {"LedgerBusy", "LedgerUnavailable"}
    for name, node in nodes(MODULES):
        if isinstance(node, (ast.Tuple, ast.Call)):
            named = {part.id for part in ast.iter_child_nodes(node) if isinstance(part, ast.Name)}
            assert not both <= named, f"{name}, line {node.lineno}: LedgerError is both"


def test_only_one_room_removes_trees() -> None:
    """What a job left mounted in its directory would be removed by any other way: see jobjar/shared_disk/trees.py."""
    for name, node in nodes(name for name in MODULES if name != "jobjar.shared_disk.trees"):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("rmtree", "removedirs", "fwalk"), f"{name}, line {node.lineno}"
        if isinstance(node, ast.keyword):
            assert node.arg != "topdown", f"{name}, line {node.value.lineno}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "rm -r" not in node.value, f"{name}, line {node.lineno}"
