"""Find a claimed job's id, attributes and description in its file and in the ledger.

Reads the file; writes nothing: stages/claim.py journals what was found.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from jobjar.attempts.attempt import DESCRIBED
from jobjar.attempts.oddities import find_oddities
from jobjar.host import login_of
from jobjar.job_file.attributes import (
    HEADER_BYTES,
    read_description,
    read_header,
    read_lines,
    settle_attributes,
)
from jobjar.job_file.names import id_in_name, new_id
from jobjar.journal.read import Entry
from jobjar.ledger.ask_claiming import Candidate, uid_is_taken
from jobjar.ledger.driver import Connection
from jobjar.shared_disk.file_mark import mark_prefix
from jobjar.shared_disk.files import read_file

if TYPE_CHECKING:
    from jobjar.job_file.description import Description
    from jobjar.job_file.given import Given


def identify(
    connection: Connection | None, candidate: Candidate, path: str, status: os.stat_result
) -> tuple[str, Entry | None, list[str], bytes | None]:
    """The job's id; what was `found`, for the entry of its claim; oddities in its file; the file's beginning. The file is
    not read if a `submitted` entry says all: what was found and the beginning are None then. Raises BadAttribute.

    `connection` is needed for a job without an id."""
    own_id = id_in_name(candidate.name)
    # A hand-made job's file is read at each claim. For example, somebody may have corrected one that was held.
    if own_id is not None and candidate.move_number > 0 and candidate.uid == own_id and candidate.was_submitted:
        return own_id, None, [], None
    uid = candidate.uid
    if uid is None:
        assert connection is not None
        uid = own_id if own_id and not uid_is_taken(connection, own_id) else new_id()
    data = read_file(path, size=HEADER_BYTES)
    attributes = read_header(data, candidate.place)
    known = _known_attributes(candidate)
    # The attributes of a submission override those in the file. For a hand-made job the file decides.
    if uid == own_id and candidate.was_submitted:
        attributes = {**attributes, **known, **_submitted_given(candidate)}
    else:
        attributes = {**known, **attributes}
    attributes = settle_attributes(attributes, candidate.place, status)
    return (
        uid,
        {
            "submitter": candidate.submitter or login_of(status.st_uid),
            "submitted_at": _submitted_at(candidate),
            "category": candidate.category,
            **({"file": mark_prefix(status)} if uid != own_id else {}),
            **attributes,
        },
        find_oddities(data),
        data,
    )


def read_description_in(
    candidate: Candidate, data: bytes, found: Entry, status: os.stat_result
) -> tuple[Entry, Description | None, list[str]]:
    """The attributes that a described job's file has now, its description, and its oddities. `data` is the file's beginning.
    So an edit by hand counts from the next attempt on. Raises BadAttribute."""
    said = {"kind": "", "batch": None, "seed": None, **read_header(data, candidate.place)}
    names = {name for _, name, _ in read_lines(data, candidate.place)}
    # If the file has no such line, the submission's value overrides the default.
    for name, key in (("retries", "retries"), ("retry_delay", "retry_delay_s"), ("time_limit", "time_limit_s")):
        if name not in names and (value := found.get(key, getattr(candidate, key))) is not None:
            said[key] = value
    said = settle_attributes({**said, **_submitted_given(candidate)}, candidate.place, status)
    description = read_description(data, candidate.place) if said["kind"] == DESCRIBED else None
    return said, description, find_oddities(data)


def given_of(candidate: Candidate, in_file: Entry) -> Given | None:
    """What a job was given, by its file if that was read, or else by its submission; None for most jobs. Raises BadAttribute."""
    fields = in_file.get("given")
    if fields is None:
        if candidate.given is None or in_file:
            return None
        fields = json.loads(candidate.given)
    from jobjar.job_file.given import Given, read_given

    given = read_given(fields, candidate.place)
    return None if given == Given() else given  # its command as it was typed, or tags: nothing to do for a worker


def _submitted_given(candidate: Candidate) -> Entry:
    is_said = candidate.given is not None and candidate.was_submitted
    return {"given": json.loads(candidate.given or "{}")} if is_said else {}


def _known_attributes(candidate: Candidate) -> Entry:
    given = {name: getattr(candidate, name) for name in ("retries", "retry_delay_s", "time_limit_s")}
    return {name: value for name, value in given.items() if value is not None}


def _submitted_at(candidate: Candidate) -> float:
    """When a job was submitted. If no entry has that, the time when it came to its place."""
    return candidate.moved_at if candidate.submitted_at is None else candidate.submitted_at


def found_when_held(candidate: Candidate, status: os.stat_result) -> Entry:
    """What was `found` of a held job, for the entry of its move to limbo."""
    return {
        "submitter": candidate.submitter or login_of(status.st_uid),
        "submitted_at": _submitted_at(candidate),
        "category": candidate.category,
        **_known_attributes(candidate),
        **({"kind": candidate.kind} if candidate.kind else {}),
        **{name: value for name in ("batch", "seed") if (value := getattr(candidate, name)) is not None},
    }
