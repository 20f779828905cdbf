"""Whatever is written into a file of a jar: what reads it has an end, raises only what it says, and the rest is as it was."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from jobjar.attempts.limits import read_limit
from jobjar.batches.blocks import Block
from jobjar.batches.state import read_batch
from jobjar.batches.toml_blocks import read_toml_blocks
from jobjar.batches.unfinished import settle_all
from jobjar.create import create_jar
from jobjar.errors import ConfigError, JarError
from jobjar.jar import Jar, open_jar
from jobjar.journal.append import Journal
from jobjar.ledger.apply import KINDS
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.rebuild import dump_ledger
from jobjar.publishing.underway import find_state, parse_state
from jobjar.reports.jobs import describe_job
from jobjar.reports.refresh import refresh_ledger
from jobjar.roster import list_workers
from jobjar.selecting.named import find_job
from jobjar.settings.layers import read_config_file
from jobjar.shared_disk.contents import CLAIMER, MESSAGE, Unreadable, parse_document
from tests.ledger.test_fold import CLAIM, SUBMITTED, new_ledger

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "../../x",
            "/etc/passwd",
            "a/b",
            "x\0y",
            "\ud800",
            "noon",
            "1e300",
            "NaN",
            "日本",
            1e300,
            10**400,
        ]
    ),
    st.text(max_size=8),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

WORKER = {
    "worker": "snow.7",
    "worker_id": "abc",
    "node": "snow",
    "pid": 7,
    "boot_id": "b",
    "process_started": 5.0,
    "user": "ann",
    "categories": ["LINUX"],
    "started_at": 1000.5,
    "heartbeat_time_s": 30,
    "is_storage": False,
    "version": "0.1.0",
    "pid_namespace": "4026531836",
    "given_up_at": 5.0,
    "given_up_by": "ann",
    "pauses_until": 5.0,
    "failures_in_a_row": 2,
    "last_failed": "0123456789ab",
}
PROCESS = {"node": "snow", "pid": 7, "started": 5.0, "boot_id": "b", "pid_namespace": "4026531836"}
CHANGE = {**PROCESS, "id": "c", "by": "ann", "batches": ["wc"]}
BATCH = {
    "batch": "wc",
    "change": "c",
    "keys": [["run_command", "true"]],
    "seeds": None,
    "has_blocks": False,
    "jobs": 1,
    "is_aborted": False,
    "changed_at": 5.0,
    "restarted_until": 0.0,
    "submitter": "ann",
    "submitted_at": 5.0,
}
STATE = {
    "phase": "store",
    "job": "j",
    "name": "x",
    "attempt": 1,
    "worker": "snow.7",
    "worker_uid": "w",
    "category": "",
    "outcome": "succeeded",
    "exit_status": 0,
    "files": [],
    "output_path": "",
}
ENTRIES: list[dict[str, Any]] = [
    {**SUBMITTED, "file": "7.5.1000.1a2b3c4d"},
    {**SUBMITTED, "job": "sound", "given": {"dir": "/data", "env": {"A": "1"}, "tags": ["x"], "begin_at": 5.0}},
    {"entry": "files", "job": "j", "attempt": 1, "worker_uid": "u", "files": {"output": "/data/x", "error": "/data/y"}},
    CLAIM,
    {"entry": "tasks", "job": "j", "attempt": 1, "worker": "w.1", "worker_uid": "u", "array": "a", "at_ms": 5000, "offset": 0,
     "output": "x.out", "life": 1, "ended": [[1, 0, 3, 10, 5, 5, 900, 7], [2, 1, 4, 9, 5, 5, 900, 0, 1, 1, "why"]]},
    {"entry": "ended", "job": "j", "attempt": 1, "worker": "w.1", "worker_uid": "u", "ended_at": 5.0, "outcome": "failed",
     "output_file": "x", "pid": 5, "wall_time_s": 0.5},
    {"entry": "started", "job": "j", "attempt": 1, "worker": "w.1", "worker_uid": "u", "pid": 5, "pid_started": 7},
    {**WORKER, "entry": "worker", "worker_uid": "u"},
    {"entry": "variables", "job": "j", "attempt": 1, "worker_uid": "u", "variables": {"a": "5"}, "told_at": 5.0},
    {"entry": "stored", "job": "j", "attempt": 1, "worker_uid": "u", "source_name": "a/b", "storage_size": 5},
    {"entry": "phase", "job": "j", "attempt": 1, "worker_uid": "u", "phase": "run", "began_at": 5.0},
    {"entry": "warned", "job": "j", "attempt": 1, "worker_uid": "u", "warnings": ["odd"], "first": -1000},
    {"entry": "batch", "batch": "wc", "description": "", "changed_at": 5.0, "jobs": 5},
    {"entry": "throttle", "batch": "wc", "told_at": 5.0, "until": 7.0, "failures": 1},
    {"entry": "pilot_queue", "queue": "night", "changed_at": 5.0, "is_gone": False, "system": "slurm",
     "plan": "{}", "failures": 1},
    {"entry": "pilot", "name": "night.1", "revision": 2, "queue": "night", "number": 1, "state": "waiting", "intended_at": 5.0,
     "since": 6.0, "system_id": "17", "reason": "Priority"},
]  # fmt: skip


@st.composite
def damaged(draw: Any, good: dict[str, Any]) -> bytes:
    """A document with some fields changed or gone, or cut short, or with bytes changed, or none at all."""
    how = draw(st.sampled_from(["fields", "fields", "fields", "cut", "bytes", "noise"]))
    if how == "noise":
        return bytes(draw(st.binary(max_size=60)))
    said = dict(good)
    for name in draw(st.lists(st.sampled_from(sorted(good)), max_size=3)):
        if draw(st.booleans()):
            said[name] = draw(VALUES)
        else:
            said.pop(name, None)
    data = bytearray(json.dumps(said).encode())
    if how == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    if how == "bytes":
        for _ in range(draw(st.integers(1, 3))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def quick(test: Callable[..., None]) -> Callable[..., None]:
    """A handful of examples, always the same ones."""
    profile = settings(
        max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    decorated: Callable[..., None] = profile(test)
    return decorated


def long(test: Callable[..., None]) -> Callable[..., None]:
    profile = settings(max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    decorated: Callable[..., None] = pytest.mark.faults(profile(test))
    return decorated


@contextlib.contextmanager
def new_jar() -> Any:
    with tempfile.TemporaryDirectory() as directory:
        create_jar(f"{directory}/jar")
        jar = open_jar(environment={"JJ_HOME": f"{directory}/jar"})
        try:
            yield jar
        finally:
            jar.close()


def put(jar: Jar, place: str, data: bytes) -> None:
    path = Path(jar.layout.home) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read_documents(data: st.DataObject) -> None:
    with new_jar() as jar:
        put(jar, "workers/snow.7/worker.json", data.draw(damaged(WORKER)))
        put(jar, "batches/wc/batch.json", data.draw(damaged(BATCH)))
        put(jar, "batches/wc/change/c.json", data.draw(damaged(CHANGE)))
        put(jar, "underway/j/1.w/state.json", data.draw(damaged(STATE)))
        put(jar, "limits/category.A/count", data.draw(st.binary(max_size=12)))
        put(jar, "config.ini", data.draw(st.binary(max_size=40) | st.just(b"[Job Jar]\nJJ_RETRIES: " + b"9" * 40)))
        list_workers(jar.layout)
        settle_all(jar, lambda line: None)
        with contextlib.suppress(JarError):
            read_batch(jar, "wc")
        find_state(jar.layout, "j")
        assert read_limit(jar.layout, "category.A").left in range(10_000_000_000)
        with contextlib.suppress(ConfigError):
            read_config_file(jar.layout.config_file)
        for document in (CLAIMER, MESSAGE):
            with contextlib.suppress(Unreadable):
                parse_document(data.draw(damaged(PROCESS)), document)
        parse_state(data.draw(damaged(STATE)))


@quick
@given(st.data())
def test_whatever_a_document_says_its_reader_has_an_end(data: st.DataObject) -> None:
    read_documents(data)


@long
@given(st.data())
def test_whatever_a_document_says_its_reader_has_an_end_for_long(data: st.DataObject) -> None:
    read_documents(data)


def fold_odd_entries(data: st.DataObject) -> None:
    with new_jar() as jar:
        journal = Journal(f"{jar.layout.journals}/snow.1a2b3c4d.jsonl")
        journal.append([{**SUBMITTED, "job": "sound", "name": "sound"}])
        journal.close()
        lines = [data.draw(damaged(data.draw(st.sampled_from(ENTRIES)))) for _ in range(data.draw(st.integers(1, 12)))]
        with open(journal.path, "ab") as file:
            file.write(b"\n" + b"\n".join(lines))
        journal.append([{**CLAIM, "job": "sound", "to": "workers/w.1/jobs/sound"}])
        journal.close()
        connection = new_ledger()
        connection.execute("BEGIN")
        fold_journals(connection, jar.layout)
        assert connection.execute("SELECT count(*) FROM job WHERE uid = 'sound'").fetchone() == (1,)
        for (place,) in connection.execute("SELECT place FROM job"):
            assert ".." not in place.split("/")
        for (output,) in connection.execute("SELECT output_file FROM attempt WHERE output_file IS NOT NULL"):
            assert "/" not in output and output not in ("", ".", "..")
        # Twice is as once.
        before = dump_ledger(connection)
        connection.execute("DELETE FROM journal_position")
        fold_journals(connection, jar.layout)
        assert dump_ledger(connection) == before
        connection.close()
        refresh_ledger(jar)
        describe_job(jar, find_job(jar, "sound"))


@quick
@given(st.data())
def test_whatever_a_journal_says_sound_entries_are_folded_and_paths_stay_in_the_jar(data: st.DataObject) -> None:
    fold_odd_entries(data)


@long
@given(st.data())
def test_whatever_a_journal_says_sound_entries_are_folded_for_long(data: st.DataObject) -> None:
    fold_odd_entries(data)


def test_there_is_an_entry_of_each_kind_among_those_that_are_damaged() -> None:
    assert {str(entry["entry"]) for entry in ENTRIES} | {"moved"} >= set(KINDS)


@quick
@given(
    st.text(alphabet="[]{}=\"'ab1#\n. ", max_size=60)
    | st.just("a=" + "[" * 20_000)
    | st.just("[[batch]]\na = " + "[" * 5000)
)
def test_whatever_a_toml_file_says_it_is_read_or_refused(text: str) -> None:
    def expand(raw: str, line: int, is_quoted: bool) -> str | None:
        return raw

    blocks: list[Block] = read_toml_blocks(text, expand, lambda line, reason: None)
    assert isinstance(blocks, list)


def damage_ledger(data: st.DataObject) -> None:
    """Bytes of a ledger's file changed anywhere: it is used, or made anew; never a traceback."""
    from jobjar.ledger.rebuild import fill_ledger

    with new_jar() as jar:
        journal = Journal(f"{jar.layout.journals}/snow.1a2b3c4d.jsonl")
        journal.append([SUBMITTED, CLAIM])
        journal.close()
        fill_ledger(jar.ledger)
        jar.close()
        path = Path(jar.ledger_home.database)
        content = bytearray(path.read_bytes())
        start = data.draw(st.sampled_from([0, 0, 100]))
        for _ in range(data.draw(st.integers(1, 3))):
            position = data.draw(st.integers(start, min(len(content), 8192) - 1))
            content[position] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        said: list[str] = []
        with contextlib.suppress(JarError):
            jar.ledger.repaired(lambda: fill_ledger(jar.ledger), fill_ledger, said.append)
        jar.close()


@quick
@given(st.data())
def test_whatever_bytes_of_a_ledger_are_damaged_there_is_a_ledger_or_a_named_error(data: st.DataObject) -> None:
    damage_ledger(data)


@long
@given(st.data())
def test_whatever_bytes_of_a_ledger_are_damaged_for_long(data: st.DataObject) -> None:
    damage_ledger(data)


@pytest.mark.parametrize("offset", [16, 18, 19, 20, 24, 44, 56, 95, 100, 101, 105, 108])
def test_a_damaged_byte_of_the_header_is_a_named_error_or_mended(offset: int) -> None:
    with new_jar() as jar:
        from jobjar.ledger.rebuild import fill_ledger

        fill_ledger(jar.ledger)
        jar.close()
        with open(jar.ledger_home.database, "r+b") as file:
            os.pwrite(file.fileno(), b"\xfe", offset)
        with contextlib.suppress(JarError):
            jar.ledger.repaired(lambda: fill_ledger(jar.ledger), fill_ledger, lambda line: None)
