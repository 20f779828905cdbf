"""Plan the jobs of a batch, and the text of each job's file.

A batch without job blocks has one job, or one job per seed. Each job block is one job, or one job per seed of its own. Jobs
inherit the keys of their batch. Lists of a batch and its job are joined; any other key of a job replaces the batch's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jobjar.batches.script import make_script
from jobjar.errors import BadIdentifier, JarError
from jobjar.job_file.attributes import read_description
from jobjar.job_file.description import LISTS, check_names
from jobjar.job_file.names import check_identifier, parse_priority
from jobjar.job_file.seeds import MOST_SEEDS, Seeds, parse_seeds
from jobjar.settings.parsers import parse_flag

Pairs = Sequence[tuple[str, str]]
# Whether a batch stops at its first failure.
FAIL_FAST = "fail_fast"
# Keys that are not in a job's file: its name or its place holds them, or they belong to the batch.
_NOT_IN_FILE = ("priority", "execution_class", "seeds")
_OF_BATCH = ("name", "notes", "seeds", FAIL_FAST)


class JobText(NamedTuple):
    """A job block: its checked keys and values, as text. `where` names file and line."""

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

    @property
    def fails_fast(self) -> bool:
        return parse_flag(dict(self.pairs).get(FAIL_FAST, "no"))

    def failing_fast(self) -> BatchText:
        """The same batch, to stop at its first failure."""
        return self._replace(pairs=(*(pair for pair in self.pairs if pair[0] != FAIL_FAST), (FAIL_FAST, "yes")))


class PlannedJob(NamedTuple):
    """A job to be submitted: the content of its file, and the parts of its name and its place."""

    script: bytes
    identifier: str
    priority: int
    category: str


def check_batch_name(name: str) -> str:
    """Return the name of a batch, or of a job in one. A batch's name becomes that of a directory. Raises BadIdentifier."""
    if not name or name[0] in ".-":
        raise BadIdentifier(value=name, reason=f"it starts with {name[0]!r}" if name else "it is empty")
    return check_identifier(name)


def seeds_of(pairs: Pairs) -> Seeds | None:
    text = dict(pairs).get("seeds")
    return None if text is None else parse_seeds(text)


def count_jobs(batch: BatchText) -> int:
    """Count the jobs of a batch."""
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
    """The jobs of a batch without job blocks: one for each of these seeds, or one job without a seed."""
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
    """Plan one job. Raises ValueError where its file cannot be made, BadIdentifier where its name cannot."""
    own = dict(said)
    head = [("batch", batch), *([("name", name)] if name else []), *([] if seed is None else [("seed", str(seed))])]
    script = make_script([*head, *(pair for pair in said if pair[0] not in _NOT_IN_FILE)])
    priority, category = parse_priority(own.get("priority", "0")), own.get("execution_class", "")
    return PlannedJob(script, identify(batch, name, seed), priority, category)


def identify(batch: str, name: str | None, seed: int | None) -> str:
    """The part of a job's file name by which people find it, such as `wc-17`. Raises BadIdentifier."""
    return check_identifier("-".join([batch, *([name] if name else []), *([] if seed is None else [str(seed)])]))


def check_plan(batch: BatchText) -> list[str]:
    """The problems of a batch whose single keys and values are right, each with file and line."""
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
    """One job of each block, with the block's longest seed: if its file can be written, all the others can."""
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
