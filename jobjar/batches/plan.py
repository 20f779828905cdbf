"""Which jobs a batch comes to, and what the file of each says.

A batch without job blocks is one job, or with seeds one job a seed. With job blocks each of these is one job, or with
seeds of its own one job a seed. What a batch says holds for its jobs; lists add up, anything else a job may say anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.batches.script import make_script
from jobjar.batches.seeds import MOST_SEEDS, Seeds, parse_seeds
from jobjar.errors import BadIdentifier, JarError
from jobjar.job_file.attributes import read_description
from jobjar.job_file.description import LISTS, check_names
from jobjar.job_file.names import check_identifier, parse_priority

Pairs = Sequence[tuple[str, str]]
# What is not in a job's file: it is in its name or its place, or it is the batch's own.
_NOT_IN_FILE = ("priority", "execution_class", "seeds")
_OF_BATCH = ("name", "notes", "seeds")


class JobText(NamedTuple):
    """A job block: keys and values as text, checked; `where` names file and line."""

    pairs: tuple[tuple[str, str], ...]
    where: str


class BatchText(NamedTuple):
    """A batch block and its jobs."""

    pairs: tuple[tuple[str, str], ...]
    jobs: tuple[JobText, ...]
    where: str

    @property
    def name(self) -> str:
        return dict(self.pairs)["name"]

    @property
    def seeds(self) -> Seeds | None:
        return seeds_of(self.pairs)


class PlannedJob(NamedTuple):
    """A job to be: its file, and what its name and its place are to say."""

    script: bytes
    identifier: str
    priority: int
    category: str


def check_batch_name(name: str) -> str:
    """Return the name of a batch, or of a job in one; it becomes a directory's. Raises BadIdentifier."""
    if not name or name[0] in ".-":
        raise BadIdentifier(value=name, reason=f"it starts with {name[0]!r}" if name else "it is empty")
    return check_identifier(name)


def seeds_of(pairs: Pairs) -> Seeds | None:
    text = dict(pairs).get("seeds")
    return None if text is None else parse_seeds(text)


def count_jobs(batch: BatchText) -> int:
    """How many jobs a batch has."""
    if not batch.jobs:
        return batch.seeds.count if batch.seeds else 1
    return sum(seeds.count if (seeds := seeds_of(job.pairs)) else 1 for job in batch.jobs)


def plan_jobs(batch: BatchText) -> Iterator[PlannedJob]:
    """The jobs of a batch in order, one at a time: there may be millions."""
    if not batch.jobs:
        yield from plan_seeds(batch.pairs, batch.seeds)
    for number, job in enumerate(batch.jobs, 1):
        yield from _plan_block(batch, job, number)


def plan_seeds(pairs: Pairs, seeds: Seeds | None) -> Iterator[PlannedJob]:
    """The jobs of a batch without job blocks: of these seeds, or the one that it is."""
    name = dict(pairs)["name"]
    said = [pair for pair in pairs if pair[0] not in _OF_BATCH]
    if seeds is None:
        yield plan_job(name, "", None, said)
        return
    for seed in seeds:
        yield plan_job(name, "", seed, said)


def _plan_block(batch: BatchText, job: JobText, number: int) -> Iterator[PlannedJob]:
    own = dict(job.pairs)
    inherited = [
        (key, value) for key, value in batch.pairs if key not in _OF_BATCH and (key in LISTS or key not in own)
    ]
    said = [*inherited, *((key, value) for key, value in job.pairs if key not in ("seeds", "name"))]
    name = own.get("name") or (str(number) if len(batch.jobs) > 1 else "")
    for seed in parse_seeds(own["seeds"]) if "seeds" in own else (None,):
        yield plan_job(batch.name, name, seed, said)


def plan_job(batch: str, name: str, seed: int | None, said: Pairs) -> PlannedJob:
    """One job. Raises ValueError, BadIdentifier where its file or its name cannot be."""
    own = dict(said)
    head = [("batch", batch), *([("name", name)] if name else []), *([] if seed is None else [("seed", str(seed))])]
    script = make_script([*head, *(pair for pair in said if pair[0] not in _NOT_IN_FILE)])
    priority, category = parse_priority(own.get("priority", "0")), own.get("execution_class", "")
    return PlannedJob(script, identify(batch, name, seed), priority, category)


def identify(batch: str, name: str | None, seed: int | None) -> str:
    """What the name of a job's file has of the job, so that people find it: `wc-17`. Raises BadIdentifier."""
    return check_identifier("-".join([batch, *([name] if name else []), *([] if seed is None else [str(seed)])]))


def check_plan(batch: BatchText) -> list[str]:
    """What is wrong with a batch whose keys and values are right each by itself, with file and line."""
    problems = []
    if batch.seeds and batch.jobs:
        problems.append(
            f"{batch.where}: a batch has either seeds or job blocks (a job block may have seeds of its own)"
        )
    if (count := count_jobs(batch)) > MOST_SEEDS:
        problems.append(f"{batch.where}: {count} jobs are more than {MOST_SEEDS}")
    names: dict[str, str] = {}
    for job in batch.jobs:
        name = dict(job.pairs).get("name")
        if name is not None and names.setdefault(name, job.where) != job.where:
            problems.append(f"{job.where}: a job {name} of this batch is described already in {names[name]}")
    for where, first in _first_of_each(batch):
        try:
            check_names(read_description(next(first).script, where).input_files)
        except (ValueError, JarError) as error:
            problems.append(f"{where}: {error}")
    return problems


def _first_of_each(batch: BatchText) -> Iterator[tuple[str, Iterator[PlannedJob]]]:
    """A job of each block, that with the longest seed: what can be written of it can be of all."""
    if not batch.jobs:
        longest = None if batch.seeds is None else Seeds(((batch.seeds.ranges[-1][1],) * 2,))
        yield batch.where, plan_seeds(batch.pairs, longest)
    for number, job in enumerate(batch.jobs, 1):
        seeds = seeds_of(job.pairs)
        pairs = job.pairs
        if seeds is not None:
            last = str(seeds.ranges[-1][1])
            pairs = tuple((key, last if key == "seeds" else value) for key, value in job.pairs)
        yield job.where, _plan_block(batch, JobText(pairs, job.where), number)
