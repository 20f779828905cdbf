"""Submit an array: the batch that it is, its script and entries, and its chunks, wholly or not at all.

It is one change of a new batch (batches/change.py), whose name is the array's id. After a kill before the commit recovery removes
all of it; after a later kill recovery makes the chunks claimable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jobjar.arrays.chunk_size import choose_size, split_evenly
from jobjar.arrays.definition import describe, write_files
from jobjar.arrays.indexes import Indexes
from jobjar.attempts.copied_output import names_its_output
from jobjar.attempts.limits import BATCH, set_limit
from jobjar.batches.change import commit, making, new_change, stage_jobs, take_name
from jobjar.batches.state import disk_now, first_keys
from jobjar.errors import BadAttribute, BatchExists, NotExecutable
from jobjar.jar import Jar
from jobjar.job_file.attributes import HEADER_BYTES, merge_attributes, read_header
from jobjar.job_file.given import format_begin
from jobjar.job_file.header import refuse_misplaced
from jobjar.job_file.names import check_identifier, new_id
from jobjar.job_file.prerequisites import AFTER_EACH, KINDS, TASKS, Meant, lines_of_chunk
from jobjar.job_file.request import lines_of_request
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.regular import read_given
from jobjar.stages.submit import Submission

_LONGEST_NOTES = 200
NOTHING: Meant = {}


class Plan(NamedTuple):
    """An array to submit. `entries` are those of its tasks, each encoded, and `kind` is theirs (arrays/definition.py); an array
    of indexes has none. `at_once`: how many may run at once, over all nodes. `chunk`: how many tasks a chunk has. `fails_fast`:
    the first task that fails for good stops the others. `pipes_output`: its entries name a task's standard output
    (attempts/copied_output.py), if the script does not."""

    submission: Submission
    indexes: Indexes
    kind: str = ""
    entries: Iterable[bytes] | None = None
    at_once: int | None = None
    chunk: int | None = None
    pipes_output: bool = False
    fails_fast: bool = False


def submit_array(jar: Jar, plan: Plan, meter: Meter = SILENT) -> str:
    """Submit an array; returns its id. Once this returns, it outlives a crash of this node.

    Raises BadAttribute, BadIdentifier, NotExecutable, BadPriority, SubmitFailed (nothing was submitted), BatchUnfinished (it is
    submitted, and recovery does the rest).
    """
    script, attributes = _read(plan.submission)
    given = attributes.get("given", {})
    category = plan.submission.category or given.pop("category", "")
    priority = given.pop("priority", 0) if plan.submission.priority is None else plan.submission.priority
    given.pop("priority", None), given.pop("category", None)
    indexes = plan.indexes
    awaited: Meant = NOTHING
    if any(kind in given for kind in KINDS):
        from jobjar.selecting.prerequisite_words import settle_prerequisites_of_array

        range_ = indexes.first, indexes.last, indexes.step
        awaited = settle_prerequisites_of_array(jar, given, range_, plan.submission.what)
    if not given:
        attributes.pop("given", None)
    name = plan.submission.identifier or given.get("name")
    if name:
        check_identifier(name)
    uid = new_id()
    change = new_change([uid])
    chunks = list(split_evenly(plan.indexes, choose_size(plan.indexes.count, plan.chunk)))
    with making(jar, change, f"array {uid}", meter):
        if not take_name(jar, uid, change):
            raise BatchExists(name=uid)
        mode = 0o750 if jar.is_for_group else 0o700
        write_files(jar.layout.batch(uid), script, mode, plan.entries)
        meter.begin("writing the chunks", "chunks", len(chunks))
        known = {
            **describe(
                plan.indexes, plan.kind, attributes, plan.pipes_output or names_its_output(script[:HEADER_BYTES])
            ),
            "name": name or "",
            "category": category,
            "priority": priority,
            **({"after_each": [one[TASKS] for one in awaited[AFTER_EACH]]} if AFTER_EACH in awaited else {}),
        }
        lines = _lines_of_chunks(given)
        parts = ((some.first, some.last) for some in chunks)
        stage_jobs(
            jar, change, meter.counted(make_chunk(known, uid, part, lines=lines, awaited=awaited) for part in parts)
        )
        if plan.at_once is not None:
            set_limit(jar, BATCH, uid, plan.at_once)
        now = disk_now(jar)
        notes = str(given.get("command") or plan.submission.what)[:_LONGEST_NOTES]
        state = {
            "batch": uid,
            "change": change.id,
            "submitter": change.by,
            "submitted_at": now,
            "changed_at": now,
            "keys": first_keys(plan.fails_fast, [("notes", notes)]),
            "seeds": None,
            "has_blocks": False,
            "jobs": len(chunks),
            "is_aborted": False,
            "restarted_until": 0.0,
            "array": known,
        }
        commit(jar, change, state)
        meter.begin("submitting them", "chunks", len(chunks))
    return uid


def _read(submission: Submission) -> tuple[bytes, dict[str, Any]]:
    """The script that each task runs, and what each was given. Raises BadAttribute, NotExecutable."""
    if submission.script is not None:
        script = submission.script
    elif submission.path is not None:
        try:
            script = read_given(submission.path)
        except OSError as error:
            raise NotExecutable(path=submission.path, reason=error.strerror) from error
    else:
        script = f"#!/bin/sh -f\n{submission.command}\n".encode("utf-8", "surrogateescape")
    what = submission.what
    header = read_header(script[:HEADER_BYTES], what)
    refuse_misplaced(script[:HEADER_BYTES], what)
    attributes: dict[str, Any] = merge_attributes(header, submission.attributes)
    if attributes.get("kind"):
        raise BadAttribute(where=what, reason="an array has tasks that run a script, not described jobs", known="seeds")
    if "given" in attributes:
        from jobjar.job_file.given import find_submitter, settle

        attributes = settle(attributes, what, find_submitter(), is_array=True)
    return script, attributes


def _lines_of_chunks(given: Mapping[str, Any]) -> str:
    """The `#JJ` lines of an array's first chunks: what keeps them from being claimed at once. Later ones, of shared and of
    retried tasks, have none of it."""
    lines = "#JJ hold = yes\n" if given.get("hold") else ""
    return lines + (f"#JJ begin = {format_begin(given['begin_at'])}\n" if "begin_at" in given else "")


def chunk_script(uid: str, life: int = 0, lines: str = "") -> bytes:
    """The content of the file of any chunk of an array. `life`: how often its tasks were opened again."""
    return (
        f"#!/bin/sh\n#JJ array = {uid}{f' {life}' if life else ''}\n{lines}"
        "# Some tasks of an array, by the range in the name of this file. A worker runs them in its place.\n"
        f'echo "This file stands for tasks of the array {uid}, which a Job Jar worker runs; see: jobjar show {uid}" >&2\nexit 2\n'
    ).encode()


def make_chunk(
    known: Mapping[str, Any],
    uid: str,
    part: tuple[int, int],
    life: int = 0,
    lines: str = "",
    awaited: Meant = NOTHING,
) -> Submission:
    """The job that is a chunk of an array. `known` is the field `array` of its batch.json, `part` the first and the last
    index, `lines` further `#JJ` lines, `awaited` what it waits for."""
    lines += lines_of_chunk(awaited, part)
    identifier = "{}+{}-{}".format(known.get("name", ""), *part)
    lines += lines_of_request(known.get("given") or {})
    category, priority = known.get("category", ""), known.get("priority", 0)
    return Submission(None, None, priority, category, identifier, {}, chunk_script(uid, life, lines), is_chunk=True)
