"""Submit batches of described jobs: all of them, or none.

It is one change of the batches (change.py): made wholly or not at all, also after a kill.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NamedTuple

from jobjar.batches.change import (
    Change,
    commit,
    is_taken,
    making,
    new_change,
    prepare,
    stage_jobs,
    take_name,
)
from jobjar.batches.plan import FAIL_FAST, BatchText, PlannedJob, count_jobs, plan_jobs
from jobjar.batches.state import disk_now, first_keys
from jobjar.batches.submit_file import parse_submit_files
from jobjar.errors import BadSubmitFile, BatchExists
from jobjar.jar import Jar
from jobjar.meter import SILENT, Meter
from jobjar.shared_disk.regular import read_given
from jobjar.stages.submit import Submission


class SubmittedBatch(NamedTuple):
    """A batch, and the number of the jobs that were submitted."""

    name: str
    jobs: int


def read_submit_files(
    jar: Jar, paths: Iterable[str], parameters: Mapping[str, str], standard_input: IO[bytes] | None = None
) -> list[BatchText]:
    """The batches that the files at `paths` describe (`-`: standard input), with the parameters put in. Their names are free in
    this jar. Raises BadSubmitFile with all problems."""
    texts, problems = [], []
    for path in paths:
        where = "standard input" if path == "-" else path
        try:
            data = standard_input.read() if path == "-" and standard_input else read_given(path)
            texts.append((data.decode("utf-8-sig"), where))  # an editor's byte order mark means nothing
        except OSError as error:
            problems.append(f"{where or 'an empty name'}: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            problems.append(f"{where}, line {line}: it is not UTF-8")
    if problems:
        raise BadSubmitFile(problems="\n".join(problems))
    return parse_submit_files(texts, parameters, lambda name: is_taken(jar, name))


def submit_batches(jar: Jar, texts: Sequence[BatchText], meter: Meter = SILENT) -> list[SubmittedBatch]:
    """Submit all batches, or none of them. `meter` gets the progress.

    Raises BatchExists, BatchBusy, SubmitFailed (nothing was submitted), BatchUnfinished (all are submitted, and recovery does
    the rest).
    """
    if not texts:
        return []
    change = new_change([text.name for text in texts])
    count = sum(map(count_jobs, texts))
    with making(jar, change, f"batch {texts[0].name}", meter):
        for name in change.batches:
            if is_taken(jar, name) or not take_name(jar, name, change):
                raise BatchExists(name=name)
        jobs = itertools.chain.from_iterable(map(plan_jobs, texts))
        meter.begin("writing the jobs", "jobs", count)
        stage_jobs(jar, change, map(as_submission, meter.counted(jobs)))
        now = disk_now(jar)
        states = [_first_state(text, change, now) for text in texts]
        for state in states[1:]:
            prepare(jar, state["batch"], state)
        commit(jar, change, states[0])
        meter.begin("submitting them", "jobs", count)
    return [SubmittedBatch(state["batch"], state["jobs"]) for state in states]


def as_submission(job: PlannedJob) -> Submission:
    return Submission(None, None, job.priority, job.category, job.identifier, {}, job.script)


def _first_state(text: BatchText, change: Change, now: float) -> dict[str, Any]:
    return {
        "batch": text.name,
        "change": change.id,
        "submitter": change.by,
        "submitted_at": now,
        "changed_at": now,
        "keys": first_keys(text.fails_fast, [pair for pair in text.pairs if pair[0] not in ("seeds", FAIL_FAST)]),
        "seeds": None if text.seeds is None else str(text.seeds),
        "has_blocks": bool(text.jobs),
        "jobs": count_jobs(text),
        "is_aborted": False,
        "restarted_until": 0.0,
    }
