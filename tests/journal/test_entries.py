"""jobjar/journal/entries.py makes every entry, and DESIGN.md's table of entries has each kind and each of its fields."""

from __future__ import annotations

import ast
import gzip
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.journal import entries
from jobjar.journal.entries import About
from jobjar.journal.read import Entry

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(jobjar.__file__).parent
ABOUT = About("u1", 2, "rain.7", "w1")
IDENTITY = {
    "worker": "rain.7",
    "worker_id": "w1",
    "node": "rain",
    "pid": 7,
    "boot_id": "b",
    "process_started": 1.5,
    "pid_namespace": "4",
    "user": "ann",
    "categories": [""],
    "version": "1",
    "started_at": 9.5,
    "heartbeat_time_s": 5.0,
}
ATTRIBUTES = {
    "retries": 1,
    "retry_delay_s": 2.0,
    "time_limit_s": 3.0,
    "kind": "described",
    "batch": "b",
    "seed": 4,
    "given": {},
}
MORE_OF_MOVE: Any = {
    "worker_uid": "w1",
    "attempt": 2,
    "category": "",
    "not_before": 5.0,
    "held_reason": "why",
    "priority": 3,
    "after": 1.0,
    "found": {"retries": 1},
}
MORE_OF_END: Any = {
    "exit_status": 0,
    "signal": None,
    "wall_time_s": 0.5,
    "user_cpu_s": 0.1,
    "system_cpu_s": 0.1,
    "max_rss_kib": 9,
    "output_file": None,
    "message": "why",
    "pid": 8,
    "pid_started": 1.5,
}
BEGUN = entries.phase_entry(ABOUT, "run", 1.00000049)
STORED = ("source_name", "storage_name", "storage_hfn", "storage_url", "storage_size", "storage_md5")
# An entry of each function, with all its fields.
MADE: list[Entry] = [
    entries.submitted_entry("20261120T144118Z-w27f7xx1yk3a-rain-1.0", "C", "ann", 1.5, ATTRIBUTES, "mark"),
    entries.moved_entry("u1", 1, "limbo/x", "unclaimed/x", 1.5, "submitted", "ann", **MORE_OF_MOVE),
    entries.started_entry(ABOUT, 8, 1.5),
    entries.ended_entry(ABOUT, 1.00000049, True, "failed", 0, **MORE_OF_END),
    BEGUN,
    entries.ended_phase_entry(BEGUN, 2.5, 0, "why"),
    entries.variables_entry(ABOUT, {"a": "1"}, 1.5, {"a": 2}),
    entries.stored_entry(ABOUT, dict.fromkeys(STORED, "x")),
    entries.warned_entry(ABOUT, ["w"]),
    entries.warned_at_claim_entry(ABOUT, ["w"]),
    entries.warned_late_entry(ABOUT, "w"),
    entries.files_entry(ABOUT, {"output": "/o", "error": "/e"}),
    entries.tasks_entry(ABOUT, "a1", 1500, 0, [[1, 0, 3, 9, 5, 4, 900, 7]], "x.out", 1),
    entries.worker_began_entry(IDENTITY, "w1"),
    entries.worker_ended_entry("rain.7", "w1", "rain", 7, 2.5, "stopped"),
    entries.batch_entry(
        "b",
        submitter="ann",
        submitted_at=1.5,
        description="",
        changed_at=1.5,
        jobs=1,
        notes=None,
        is_aborted=False,
        restarted_until=0.0,
        array={"first": 1, "last": 9, "step": 1},
    ),
    entries.throttle_entry("b", 1.00000049, 2.5, 3),
    entries.pilot_queue_entry(
        "night",
        changed_at=1.00000049,
        is_gone=False,
        system="slurm",
        plan="{}",
        paused_at=1.5,
        paused_by="ann",
        paused_why="why",
        failures=1,
        said="why",
        removed_at=2.5,
    ),
    entries.pilot_entry(
        queue="night",
        number=1,
        name="jj1",
        revision=2,
        state="ended",
        intended_at=1.5,
        since=2.5,
        submitted_at=1.5,
        started_at=2.0,
        ended_at=2.5,
        system_id="7",
        word="COMPLETED",
        reason="None",
        on_node="n1",
        worker="n1.7",
        worker_id="w1",
        end_reason="finished",
        message="why",
    ),
]
# The fields of each of these, in the order in which they are written: a reader may be a person, and bytes of journals compare.
ORDER = [
    "entry job name category submitter submitted_at file retries retry_delay_s time_limit_s kind batch seed given",
    "entry job number from to moved_at reason by worker_uid attempt category not_before held_reason "
    "priority after found",
    "entry job attempt worker worker_uid pid pid_started",
    "entry job attempt worker worker_uid ended_at final not_before outcome exit_status signal wall_time_s "
    "user_cpu_s system_cpu_s max_rss_kib output_file message pid pid_started",
    "entry job attempt worker worker_uid phase began_at",
    "entry job attempt worker worker_uid phase began_at ended_at exit_status message",
    "entry job attempt worker worker_uid variables told_at ordinals",
    "entry job attempt worker worker_uid source_name storage_name storage_hfn storage_url storage_size storage_md5",
    "entry job attempt worker worker_uid warnings",
    "entry job attempt worker worker_uid first warnings",
    "entry job attempt worker worker_uid warnings first",
    "entry job attempt worker worker_uid files",
    "entry job attempt worker worker_uid array at_ms offset ended output life",
    "worker worker_id node pid boot_id process_started pid_namespace user categories version started_at "
    "heartbeat_time_s entry worker_uid",
    "entry worker worker_uid node pid ended_at end_reason",
    "entry batch submitter submitted_at description changed_at jobs notes is_aborted restarted_until array",
    "entry batch told_at until failures",
    "entry queue changed_at is_gone system plan paused_at paused_by paused_why failures said removed_at",
    "entry queue number name revision state intended_at since submitted_at started_at ended_at system_id word reason on_node "
    "worker worker_id end_reason message",
]
# What the table says in code besides fields: values, and the fields of a field.
NO_FIELDS = {
    "moved": {"hand", "submitter", "submitted_at", "attributes", "begin"},
    "files": {"output", "error"},
    "batch": {"lives"},
}
OF_ATTEMPT = {"job", "attempt", "worker", "worker_uid"}


def read_table() -> dict[str, set[str]]:
    """The fields of each kind, as DESIGN.md has them."""
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    section = text[text.index("### Entries") : text.index("### Folding")]
    table = {}
    for kind, told in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE):
        words = set(re.findall(r"`([a-z][a-z_0-9]+)`", told)) - NO_FIELDS.get(kind, set())
        table[kind] = words | (OF_ATTEMPT if told.startswith("for an attempt") else set())
    return table


def made_fields() -> dict[str, set[str]]:
    fields: dict[str, set[str]] = {}
    for entry in MADE:
        fields.setdefault(entry["entry"], set()).update(set(entry) - {"entry"})
    return fields


def test_the_table_in_design_has_each_kind_and_the_fields_that_its_functions_write() -> None:
    assert read_table() == made_fields()


def test_each_function_that_makes_an_entry_is_tried_here() -> None:
    functions = {
        node.name
        for node in ast.parse(Path(entries.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_entry")
    }
    called = set(re.findall(r"entries\.(\w+_entry)\(", Path(__file__).read_text(encoding="utf-8")))
    assert called == functions


def test_entries_are_made_in_one_module() -> None:
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        and any(isinstance(key, ast.Constant) and key.value == "entry" for key in node.keys)
    }
    assert makers == {"journal/entries.py"}


def test_the_table_explains_every_field_that_a_release_wrote() -> None:
    table = read_table()
    kinds = set()
    for path in (ROOT / "tests/formats").glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if "/journals/" in member.name and member.isfile() else None
                data = b"" if file is None else file.read()
                text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
                for line in filter(None, text.split(b"\n")):
                    entry = json.loads(line)
                    kinds.add(entry["entry"])
                    assert set(entry) - {"entry"} <= table[entry["entry"]], entry
    assert kinds >= {"submitted", "moved", "started", "ended", "worker"}


def test_fields_are_written_in_the_order_in_which_the_first_release_wrote_them() -> None:
    assert [" ".join(entry) for entry in MADE] == ORDER


@pytest.mark.parametrize("entry", MADE, ids=lambda entry: str(entry["entry"]))
def test_times_are_whole_microseconds(entry: Entry) -> None:
    for name, value in entry.items():
        if name in ("ended_at", "began_at", "told_at", "until"):
            assert value == round(value, 6)
