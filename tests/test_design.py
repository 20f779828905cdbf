"""DESIGN.md and CONTRIBUTING.md name files and symbols of the code that exist; the table of rooms has each room once.

The forms that a name may have are told in CONTRIBUTING.md, "Rules".
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jobjar"
PAGES = ("DESIGN.md", "CONTRIBUTING.md")
_FILE = re.compile(r"[\w/.-]+\.py")
_IN_FILE = re.compile(r"`(\w+)`\s+in\s+`([\w/-]+\.py)`")
_DOTTED = re.compile(r"([\w/-]+)\.(\w+)")
# Endings of files. Those of modules have a test of their own.
_OTHER_FILES = {
    "cfg",
    "cron",
    "db",
    "ini",
    "json",
    "jsonl",
    "log",
    "md",
    "py",
    "sh",
    "so",
    "sql",
    "svg",
    "toml",
    "vars",
}
# Words with a dot that are neither: names of jobs and workers, columns, what the standard library has.
_NO_CODE = {"node.pid", "job.id", "x.orig", "NAME.bak", "output/.next", "os.chdir"}
# Directories of jobjar/ that lie elsewhere: links to scripts/, docs/, schema/ and crontabs/.
_LINKED = {path.name for path in PACKAGE.iterdir() if path.is_symlink()}


def read_spans(page: str) -> list[str]:
    """What a page has in backticks."""
    text = re.sub(r"(?ms)^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"))
    return re.findall(r"`([^`]+)`", text)


def find_module(path: str) -> Path | None:
    """The file that a page means by a path, below jobjar/ or the top of the tree."""
    return next((top / path for top in (PACKAGE, ROOT) if (top / path).is_file()), None)


def defined_names(file: Path) -> set[str]:
    """All names that a module gives to something: functions, classes, variables, fields."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_each_file_that_a_page_names_exists(page: str) -> None:
    named = {span for span in read_spans(page) if _FILE.fullmatch(span)}
    assert named
    missing = sorted(name for name in named if not find_module(name))
    assert not missing, f"{page} names files that are neither below jobjar/ nor at the top: {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES)
def test_each_symbol_that_a_page_names_is_in_its_file(page: str) -> None:
    named = set(_IN_FILE.findall((ROOT / page).read_text(encoding="utf-8")))
    unknown = []
    for span in read_spans(page):
        found = _DOTTED.fullmatch(span.partition("(")[0])
        if not found or found[2] in _OTHER_FILES:
            continue
        path, symbol = found.groups()
        if find_module(f"{path}.py"):
            named.add((symbol, f"{path}.py"))
        elif span not in _NO_CODE:
            unknown.append(span)
    assert named
    assert not unknown, f"{page}: no such module; say `symbol` in `room/file.py`: {', '.join(unknown)}"
    for symbol, path in sorted(named):
        file = find_module(path)
        assert file, f"{page} names `{path}`"
        assert symbol in defined_names(file), f"{page} says that `{symbol}` is in `{path}`"


def test_the_table_of_rooms_has_each_directory_and_module_once() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Rooms\n")[2].partition("\n## ")[0]
    cells = " ".join(re.findall(r"(?m)^\| (`.*?) \|", table))
    listed = Counter(re.findall(r"`([\w/]+)`", cells))
    there = {
        f"{path.name}/" if path.is_dir() else path.stem
        for path in PACKAGE.iterdir()
        if path.name not in _LINKED and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    assert set(listed) == there - {"__init__"}
    assert max(listed.values()) == 1, listed


def test_questions_are_peewee_s_or_the_page_says_why_not() -> None:
    reasons = (ROOT / "DESIGN.md").read_text(encoding="utf-8").partition("\n## 14.")[2].partition("\n## ")[0]
    reasons = reasons.partition("These kinds of questions are SQL")[2]
    modules = sorted((PACKAGE / "ledger").glob("ask_*.py"))
    texts = {module.name: module.read_text(encoding="utf-8") for module in modules}
    by_driver = {name for name, text in texts.items() if "jobjar.ledger.models" not in text}
    assert len(by_driver) < len(texts)
    assert [name for name in sorted(by_driver) if f"`ledger/{name}`" not in reasons] == []


def test_each_model_is_used_by_the_code() -> None:
    path = PACKAGE / "ledger" / "models.py"
    classes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    bases = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
    code = "".join(other.read_text(encoding="utf-8") for other in PACKAGE.rglob("*.py") if other != path)
    assert [node.name for node in classes if node.name not in bases and not re.search(rf"\b{node.name}\b", code)] == []
