"""Write what `make docs` makes the site from: the pages of the project, and a reference that is read from the code.

python release/make_docs.py DIR     prints nothing; DIR is made anew
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from pathlib import Path

import jobjar
from docs.make_manuals import read_parser
from jobjar.create import PROGRAMS
from jobjar.journal import entries
from jobjar.programs.jobjar import GROUPS
from jobjar.settings.table import TABLE

ROOT = Path(__file__).parent.parent
# What a page is called on the site, where that differs from its file's name.
RENAMED = {
    "DESIGN.md": "design.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
}
# Pages that release/docs/index.md names by itself.
_NAMED = {"tutorial", "migration", "faults", "security"}
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def write_site(site: Path) -> None:
    """Write all that Sphinx needs into a directory, which is made anew."""
    shutil.rmtree(site, ignore_errors=True)
    (site / "reference").mkdir(parents=True)
    pages = {path.name: path for path in (ROOT / "docs").glob("*.md")}
    pages |= {name: ROOT / name for name in RENAMED if name != "README.md"}
    known = {RENAMED.get(name, name) for name in pages} | {"index.md", "jar.svg"}
    for name, path in pages.items():
        text = path.read_text(encoding="utf-8")
        (site / RENAMED.get(name, name)).write_text(_relink(text, known), encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.svg"):
        shutil.copy(picture, site)
    shutil.copy(ROOT / "release" / "docs" / "conf.py", site)
    others = sorted(set(pages) - set(RENAMED) - {f"{name}.md" for name in _NAMED})
    index = (ROOT / "release" / "docs" / "index.md").read_text(encoding="utf-8")
    (site / "index.md").write_text(index.replace("@PAGES@", "\n".join(name.removesuffix(".md") for name in others)))
    for name, text in {
        "programs": _describe_programs(),
        "settings": _describe_settings(),
        "library": _describe_library(),
        "entries": _describe_entries(),
        "schema": _describe_schema(),
    }.items():
        (site / "reference" / f"{name}.md").write_text(text, encoding="utf-8")


def _relink(text: str, known: set[str]) -> str:
    """Have links lead to pages of the site. What is no page of it is named without a link."""

    def replace(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        if not target or "://" in target:
            return found[0]
        name = target.rpartition("/")[2]
        name = RENAMED.get(name, name)
        return f"{picture}[{words}]({name}{anchor or ''})" if name in known else words

    return _LINK.sub(replace, text)


def _describe_programs() -> str:
    os.environ["COLUMNS"] = "84"
    lines = ["# Programs", "", "What each says with `--help`. Each has a manual page too.", ""]
    verbs = [verb for group in GROUPS.values() for verb in group]
    for program in [name for name in PROGRAMS if name != "jobjar"] + [
        f"jobjar {verb}" for verb in verbs if verb not in PROGRAMS
    ]:
        lines += [f"## `{program}`", "", "```text", read_parser(program).format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _describe_settings() -> str:
    lines = [
        "# Settings",
        "",
        "[How they are set](../guide.md#configuration). `jobjar config` prints their values.",
        "",
    ]
    for setting in TABLE:
        default = f"`{setting.default}`" if setting.default else "none"
        lines += [f"## {setting.name}", "", setting.help, "", f"Default: {default}. Set in: {setting.layers}.", ""]
    return "\n".join(lines)


def _describe_library() -> str:
    lines = [
        "# Python library",
        "",
        "`import jobjar`. All of it is typed. [The guide](../guide.md#from-python) has examples.",
        "",
    ]
    for name in sorted(set(jobjar.__all__) - {"__version__"}):
        kind = "class" if inspect.isclass(getattr(jobjar, name)) else "function"
        members = "\n   :members:" if kind == "class" else ""
        lines += [f"## {name}", "", "```{eval-rst}", f".. auto{kind}:: jobjar.{name}{members}", "```", ""]
    return "\n".join(lines)


def _describe_entries() -> str:
    lines = [
        "# Journal entries",
        "",
        "Each function makes one kind of entry. [What an entry means](../design.md#entries).",
        "",
    ]
    for name, function in inspect.getmembers(entries, inspect.isfunction):
        if name.endswith("_entry") and function.__module__ == entries.__name__:
            fields = ", ".join(f"`{each}`" for each in inspect.signature(function).parameters)
            lines += [
                f"## {name.removesuffix('_entry')}",
                "",
                inspect.getdoc(function) or "",
                "",
                f"Made of: {fields}.",
                "",
            ]
    return "\n".join(lines)


def _describe_schema() -> str:
    lines = ["# Ledger", "", "The tables, views and indexes, a file for each change. They are SQLite's.", ""]
    for path in sorted((ROOT / "schema").glob("*.sql")):
        lines += [f"## {path.stem}", "", "```sql", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    write_site(Path(sys.argv[1]))
