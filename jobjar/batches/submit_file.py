"""Parse submit files: people describe batches and their jobs in them. A file is checked whole, and all problems are reported.

There are two syntaxes: Jug's (blocks.py) and TOML (toml_blocks.py). `$(name)` in a value stands for the parameter `name=value`
of the command line; `\\$(name)` stands for these characters. The text of a parameter is not expanded again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from jobjar.batches.blocks import BATCH, Block, Value, scan_blocks
from jobjar.batches.plan import FAIL_FAST, BatchText, JobText, check_batch_name, check_plan
from jobjar.batches.toml_blocks import is_toml, read_toml_blocks
from jobjar.errors import BadSubmitFile, JarError
from jobjar.fetching.origins import local_path
from jobjar.job_file.attributes import ATTRIBUTES
from jobjar.job_file.description import KEYS, LISTS
from jobjar.job_file.given import GIVEN
from jobjar.job_file.names import check_category, parse_priority
from jobjar.job_file.seeds import parse_seeds
from jobjar.settings.parsers import parse_flag

__all__ = ["BatchText", "JobText", "parse_submit_file", "parse_submit_files"]

_PARAMETER = r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)"
_IN_QUOTES = re.compile(rf'\\(["\\$])|{_PARAMETER}')
_BARE = re.compile(rf"\\(\$)(?=\()|{_PARAMETER}")
# Keys beside those of a description. They go into the job's name, its place and its attributes.
OWN_KEYS: dict[str, Callable[[str], Any]] = {
    "execution_class": check_category,
    "priority": parse_priority,
    "seeds": parse_seeds,
    FAIL_FAST: parse_flag,
    **{name: parse for name, (_, parse) in ATTRIBUTES.items()},
    **{name: GIVEN[name] for name in ("cores", "memory", "gpus", "resource")},
}
# Keys in a job's file that Job Jar writes itself, so that a submit file cannot have them.
_WRITTEN_HERE = ("described", "batch", "seed")
BATCH_KEYS = tuple(key for key in (*KEYS, *OWN_KEYS) if key not in _WRITTEN_HERE)
_SOURCES = ("software", "workware", "input_files")
# What failures come to concerns a batch as a whole.
JOB_KEYS = tuple(key for key in BATCH_KEYS if key not in ("failure_throttle", FAIL_FAST))


class _Reader:
    """Reads files, and collects their batches, uses of parameters, names of batches, and problems."""

    def __init__(self, parameters: Mapping[str, str], is_taken: Callable[[str], bool]) -> None:
        self.parameters = parameters
        self.is_taken = is_taken
        self.used: set[str] = set()
        self.missing: dict[str, list[str]] = {}
        self.named: dict[str, str] = {}
        self.problems: list[str] = []
        self.batches: list[BatchText] = []

    def read(self, text: str, where: str) -> None:
        def here(line: int) -> str:
            return f"{where}, line {line}"

        def complain(line: int, message: str) -> None:
            self.problems.append(f"{here(line)}: {message}")

        def expand(raw: str, line: int, is_quoted: bool) -> str | None:
            return self._expand(raw, here(line), is_quoted)

        read_blocks = read_toml_blocks if is_toml(text, where) else scan_blocks
        blocks = read_blocks(text, expand, complain)
        if not any(block.kind == BATCH for block in blocks):
            self.problems.append(f"{where}: there is no batch in it")
        batch: Block | None = None
        jobs: list[Block] = []
        for block in blocks:
            if block.kind == BATCH:
                self._take_batch(batch, jobs, here)
                batch, jobs = block, []
            elif block.kind and batch is None:
                complain(block.line, "a job belongs to the batch before it, and there is none")
            elif block.kind:
                jobs.append(block)
        self._take_batch(batch, jobs, here)

    def _expand(self, raw: str, where: str, is_quoted: bool) -> str | None:
        is_whole = True

        def put_in(found: re.Match[str]) -> str:
            nonlocal is_whole
            escaped, name = found.groups()
            if escaped:
                return str(escaped)
            self.used.add(name)
            if name in self.parameters:
                return self.parameters[name]
            is_whole = False
            if where not in self.missing.setdefault(name, []):
                self.missing[name].append(where)
            return ""

        text = (_IN_QUOTES if is_quoted else _BARE).sub(put_in, raw)
        return text if is_whole else None

    def _take_batch(self, batch: Block | None, jobs: list[Block], here: Callable[[int], str]) -> None:
        if batch is None:
            return
        before = len(self.problems), sum(map(len, self.missing.values()))
        pairs = self._check_block(batch, BATCH_KEYS, here)
        name = dict(pairs).get("name")
        if name is None and "name" not in (value.key for value in batch.values):
            self.problems.append(f'{here(batch.line)}: the batch has no name; give one with name = "…"')
        elif name:
            self._check_name(name, here(_line_of(batch, "name")))
        texts = tuple(JobText(tuple(self._check_block(job, JOB_KEYS, here)), here(job.line)) for job in jobs)
        text = BatchText(tuple(pairs), texts, here(batch.line))
        if name and before == (len(self.problems), sum(map(len, self.missing.values()))):
            self.problems += check_plan(text)
            self.batches.append(text)

    def _check_name(self, name: str, where: str) -> None:
        if name in self.named:
            self.problems.append(f"{where}: a batch {name} is described already in {self.named[name]}")
        elif name and self.is_taken(name):
            self.problems.append(f"{where}: there is a batch {name} in the jar already; give this one another name")
        self.named.setdefault(name, where)

    def _check_block(self, block: Block, known: tuple[str, ...], here: Callable[[int], str]) -> list[tuple[str, str]]:
        """The correct keys and values of a block. A problem is noted for each of the others."""
        pairs = []
        first: dict[str, int] = {}
        for key, text, line in block.values:
            if key not in known:
                self.problems.append(f"{here(line)}: {_reason_against_key(key, block.kind, known)}")
                continue
            if key in first and key not in LISTS:
                self.problems.append(f"{here(line)}: {key} is given already in line {first[key]}")
                continue
            first.setdefault(key, line)
            if text is None:
                continue
            reason = _reason_against(key, text.strip())
            if reason is None:
                pairs.append((key, text.strip()))
            else:
                self.problems.append(f"{here(line)}: {key}: {reason}")
        return pairs

    def finish(self) -> None:
        """Raise BadSubmitFile with all problems, if there are any."""
        for name, uses in self.missing.items():
            self.problems.append(f"{'; '.join(uses)}: there is no parameter {name}; give it as {name}=VALUE")
        self.problems += [
            f"the parameter {name}={value} is used nowhere"
            for name, value in self.parameters.items()
            if name not in self.used
        ]
        if self.problems:
            raise BadSubmitFile(problems="\n".join(self.problems))


def _line_of(block: Block, key: str) -> int:
    return next((value.line for value in block.values if value.key == key), block.line)


def _reason_against_key(key: str, kind: str, known: tuple[str, ...]) -> str:
    if key in BATCH_KEYS:
        return f"{key} belongs to the batch, not to a job"
    near = get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"the keys of a {kind} are {', '.join(sorted(known))}"
    return f"there is no key {key}; {hint}"


def _reason_against(key: str, text: str) -> str | None:
    """The reason against a value; None where the value is correct."""
    if "\n" in text or "\0" in text:
        return "it has a line end or a NUL"
    parse = check_batch_name if key == "name" else OWN_KEYS.get(key) or KEYS[key][1]
    try:
        parsed: Any = parse(text)
        if key in _SOURCES:
            for source in parsed:
                local_path(source.location)  # a location that no worker could fetch from is reported now
    except (ValueError, JarError) as error:
        return str(error)
    return None


def check_value(key: str, text: str, line: int = 0) -> Value:
    """Check one `key=value` of a command line, as in a file. Raises ValueError with the reason."""
    reason = _reason_against(key, text.strip())
    if reason is not None:
        raise ValueError(reason)
    return Value(key, text.strip(), line)


def parse_submit_file(text: str, where: str, parameters: Mapping[str, str]) -> list[BatchText]:
    """The batches that a submit file describes, in order. `where` names the file in messages. A file is TOML if its name ends
    in .toml, or if it begins with a table. Raises BadSubmitFile with all problems, each with its line."""
    return parse_submit_files([(text, where)], parameters)


def parse_submit_files(
    files: Iterable[tuple[str, str]],
    parameters: Mapping[str, str],
    is_taken: Callable[[str], bool] = lambda name: False,
) -> list[BatchText]:
    """Parse several files, each given as (text, where), like one (`parse_submit_file`). The names of batches have to differ,
    and may not be taken (`is_taken`). Each parameter has to be used in at least one file."""
    reader = _Reader(parameters, is_taken)
    for text, where in files:
        reader.read(text, where)
    reader.finish()
    return reader.batches
