"""Every cause of standing still has a name in causes.py, a row in DESIGN.md, a module that decides it, and a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobjar.causes import GOES_ON, Cause, Standing, count_standing, split_line

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jobjar"
COUNTS = (PACKAGE / "reports/standing_counts.py").read_text(encoding="utf-8")
# The counts ask the function that decides these, and do not name them. `went_back` is counted in `returned`.
BY_FUNCTION = {
    *(Cause.ABORTED, Cause.THROTTLED, Cause.LIMIT, Cause.STOPPING, Cause.PAUSED, Cause.LEFT_RUNNING, Cause.SILENT),
    *(Cause.NO_TIME_LEFT, Cause.DISK, Cause.FAILED_BATCH, Cause.LEDGER, Cause.WENT_BACK, Cause.LOST_PREREQUISITE),
    *(Cause.NO_PILOT_FITS, Cause.PILOTS_PAUSED, Cause.PILOTS_WAIT),
    Cause.TOO_LARGE,
}


class Row(NamedTuple):
    cause: str
    said: str
    to_do: str
    module: str
    test: str


def read_rows() -> Iterator[Row]:
    text = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    section = text.partition("\n### Standing still\n")[2].partition("\n### ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield Row(*(cell.strip().strip("`") for cell in line.strip("|").split("|")))


ROWS = list(read_rows())
TESTS = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]


def test_the_table_in_design_has_each_cause_once_and_no_other() -> None:
    assert [row.cause for row in ROWS] == [cause.value for cause in Cause]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.cause))
def test_a_cause_is_decided_where_the_table_says_and_its_test_names_it(row: Row) -> None:
    assert row.said
    decides = (PACKAGE / row.module).read_text(encoding="utf-8")
    assert re.search(rf"\bCause\.{Cause(row.cause).name}\b", decides)
    [text] = [text for text in TESTS if f"\ndef {row.test}(" in text]
    body = re.split(r"\n(?=def |@|class )", text.partition(f"\ndef {row.test}(")[2])[0]
    assert f'"{row.cause}"' in body, f"{row.test} does not name {row.cause}"


def test_each_cause_that_stands_still_is_counted() -> None:
    named = {cause for cause in Cause if f"Cause.{cause.name}" in COUNTS}
    assert named | BY_FUNCTION == set(Cause) - GOES_ON


def test_a_line_says_why_and_what_to_do() -> None:
    standing = split_line(Cause.DISK, "the disk of /jar is full; free space on that disk; or another")
    assert standing == Standing(Cause.DISK, "the disk of /jar is full", "free space on that disk; or another")
    assert split_line(Cause.DISK, standing.line) == standing and Standing(Cause.NEXT, "nothing").line == "nothing"
    assert count_standing(standing, 2, "2 jobs").line == f"2 jobs: {standing.line}"
