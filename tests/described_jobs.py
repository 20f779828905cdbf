"""Described jobs for tests: scripts that say in their `#JJ` lines what is to be done, and what a worker made of them."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from jobjar.journal.read import open_to_read, read_journal
from jobjar.ledger.fold import journal_paths
from tests.rig import Rig

EXPLANATION = 'echo "described: a worker runs this (start_worker)" >&2\nexit 2\n'


def script(**said: object) -> str:
    """The text of a described job; a list is a key that stands several times."""
    lines = ["#!/bin/sh", "#JJ described = yes"]
    for key, value in said.items():
        lines += [f"#JJ {key} = {one}" for one in (value if isinstance(value, list) else [value])]
    return "\n".join(lines) + "\n" + EXPLANATION


def describe(rig: Rig, name: str, category: str = "", **said: object) -> str:
    """Put a described job into the unclaimed jar by hand; returns its name. Delays are short where nothing else is said."""
    rig.drop(name, script(**{"retry_delay": "0", **said}), category)
    return name


def entries(rig: Rig, kind: str, job: str | None = None) -> list[dict[str, Any]]:
    """The journaled entries of a kind, in order; of one job."""
    uid = rig.show(job)["id"] if job is not None else None
    jar = rig.open()
    found = []
    for path in journal_paths(jar.layout):
        with open_to_read(path) as journal:
            found += [line.entry for line in read_journal(journal, 0) if line.entry is not None]
    return [entry for entry in found if entry["entry"] == kind and (uid is None or entry["job"] == uid)]


def phases(rig: Rig, job: str) -> list[tuple[str, int | None, str | None]]:
    """The phases of a job's attempts that ended: name, exit status, message."""
    ended = [entry for entry in entries(rig, "phase", job) if "ended_at" in entry]
    return [(entry["phase"], entry.get("exit_status"), entry.get("message")) for entry in ended]


def said(rig: Rig, job: str) -> str:
    """What a job's attempts wrote, in order."""
    texts = []
    for attempt in rig.show(job)["attempts"]:
        if attempt["output_path"] is not None:
            texts.append(Path(attempt["output_path"]).read_text())
    return "".join(texts)


def underway(rig: Rig) -> list[str]:
    """What is left below underway/."""
    return sorted(str(path.relative_to(rig.home / "underway")) for path in (rig.home / "underway").rglob("*"))


def make_package(path: Path, **files: str) -> Path:
    """A package as a directory; names are `bin/x` written `bin__x`."""
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_sh", ".sh")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return path


def pack(package: Path) -> Path:
    """The package as `<its name>.tgz` beside it."""
    archive = package.with_suffix(".tgz")
    with tarfile.open(archive, "w:gz") as file:
        for inner in sorted(package.iterdir()):
            file.add(inner, inner.name)
    return archive


def outcome(rig: Rig, name: str) -> tuple[str, str | None, int | None, int]:
    """A job's state, outcome, exit status and number of attempts."""
    shown = rig.show(name)
    return shown["state"], shown["outcome"], shown["exit_status"], len(shown["attempts"])
