"""Read the blocks of a submit file in TOML. The keys are those of Jug's syntax; values may be lists, numbers, and a table for
the environment.

    [batch]                      # or [[batch]], several times
    name = "count"
    input_files = ["/data/a", "/data/b"]
    environment = { LEVEL = 3, TITLE = "two words" }
    [[batch.job]]                # or [[job]], where there is one batch
    name = "first"

tomllib gives no line numbers, so a key is searched for among the lines of its table.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from typing import Any

from jobjar.batches.blocks import BATCH, JOB, Block, Complain, Expand, Value
from jobjar.job_file.description import LISTS

_HEADER = re.compile(r"\s*\[\[?\s*([A-Za-z_.\s]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*[\"']?([A-Za-z_][A-Za-z0-9_-]*)[\"']?\s*(?:\.|=)")


class _Lines:
    """The lines of tables and keys. The n-th header with a name belongs to the n-th table of that name."""

    def __init__(self, text: str) -> None:
        # By the header's name, for each such table: its line, and the lines of its keys.
        self._tables: dict[str, list[tuple[int, dict[str, int]]]] = {}
        keys: dict[str, int] = {}
        for number, line in enumerate(text.split("\n"), 1):
            header = _HEADER.fullmatch(line.rstrip("\r"))
            key = _KEY.match(line)
            if header:
                name = "".join(header.group(1).split())
                # [batch.environment] is a key of the table before it.
                parent = name.rpartition(".")[0]
                if name not in (BATCH, JOB, f"{BATCH}.{JOB}") and parent in self._tables:
                    self._tables[parent][-1][1].setdefault(name.rpartition(".")[2], number)
                    keys = {}
                else:
                    keys = {}
                    self._tables.setdefault(name, []).append((number, keys))
            elif key:
                keys.setdefault(key.group(1), number)

    def of_table(self, name: str, index: int) -> int:
        tables = self._tables.get(name, [])
        return tables[index][0] if index < len(tables) else 1

    def of_key(self, name: str, index: int, key: str) -> int:
        tables = self._tables.get(name, [])
        return tables[index][1].get(key, tables[index][0]) if index < len(tables) else 1


def is_toml(text: str, where: str) -> bool:
    """Whether a submit file is TOML: its name ends in .toml, or its text begins with a table."""
    if where.endswith(".toml"):
        return True
    lines = (line.strip() for line in text.split("\n"))
    return next((line.startswith("[") for line in lines if line and not line.startswith("#")), False)


def read_toml_blocks(text: str, expand: Expand, complain: Complain) -> list[Block]:
    """The blocks of a text, each batch before its jobs. Problems go to `complain`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line ([0-9]+), column [0-9]+\)", str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        complain(line, re.sub(r" \(at .*\)$", "", f"it is no TOML: {error}"))
        return []
    except RecursionError:
        complain(1, "it is nested too deep")
        return []
    lines = _Lines(text)
    for name in document:
        if name not in (BATCH, JOB):
            line = lines.of_table(name, 0) if isinstance(document[name], dict | list) else 1
            complain(line, f"there is no block {name!r}; the blocks are batch and job")
    batches, loose_jobs = _tables(document, BATCH, complain), _tables(document, JOB, complain)
    if loose_jobs and len(batches) != 1:
        complain(lines.of_table(JOB, 0), "whose job is this? With more than one batch, or none, write [[batch.job]]")
    blocks = []
    inner_jobs = 0
    for index, batch in enumerate(batches):
        jobs = _tables(batch, JOB, complain)
        rest = {key: value for key, value in batch.items() if key != JOB}
        blocks.append(_make_block(BATCH, rest, BATCH, index, lines, expand, complain))
        for job in jobs:
            blocks.append(_make_block(JOB, job, f"{BATCH}.{JOB}", inner_jobs, lines, expand, complain))
            inner_jobs += 1
    for index, job in enumerate(loose_jobs):
        blocks.append(_make_block(JOB, job, JOB, index, lines, expand, complain))
    return blocks


def _tables(document: Mapping[str, Any], name: str, complain: Complain) -> list[dict[str, Any]]:
    found = document.get(name, [])
    tables = found if isinstance(found, list) else [found]
    if not all(isinstance(table, dict) for table in tables):
        complain(1, f"{name} is not a table: write [{name}] or [[{name}]]")
        return []
    return tables


def _make_block(
    kind: str, table: dict[str, Any], name: str, index: int, lines: _Lines, expand: Expand, complain: Complain
) -> Block:
    values = []
    for key, value in table.items():
        line = lines.of_key(name, index, key)
        try:
            text = _as_text(key, value, lambda raw, line=line: expand(raw, line, False))
        except ValueError as error:
            complain(line, f"{key}: {error}")
            text = None
        values.append(Value(key, text, line))
    return Block(kind, lines.of_table(name, index), values)


def _as_text(key: str, value: Any, expand: Any) -> str | None:
    """A value in the form of a description's line; None where a parameter is missing. Raises ValueError."""
    if isinstance(value, dict) and key == "environment":
        parts = [_scalar(inner, expand) for inner in value.values()]
        pairs = zip(value, parts, strict=True)
        return None if None in parts else " ".join(shlex.quote(f"{name}={text}") for name, text in pairs)
    if isinstance(value, list) and key in (*LISTS, "seeds"):
        parts = [_scalar(inner, expand) for inner in value]
        if None in parts:
            return None
        texts = [str(part) for part in parts]
        return ",".join(texts) if key == "seeds" else shlex.join(texts)
    return _scalar(value, expand)


def _scalar(value: Any, expand: Any) -> str | None:
    if isinstance(value, str):
        text: str | None = expand(value)
        return text
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{type(value).__name__} is no value for it; write a string or a number")
