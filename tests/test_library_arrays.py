"""The library submits arrays, waits for them, and looks at their tasks (library_submit.py, reports/array_outcomes.py)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.errors import BadAttribute, BadCommand, NotExecutable, UsageError
from tests.rig import Rig


def test_arrays_from_python(rig: Rig, own_library: Any, tmp_path: Path) -> None:
    script = '#!/bin/sh\nprintf \'%s %s;\' "$JJ_ARRAY_INDEX" "$*"\n'
    ranged = jobjar.submit_array(script=script, arguments=["more words"], indexes=range(2, 9, 3), chunk=2, limit=1)
    counted = jobjar.submit_array("test $1 != 3", indexes=5, name="five", retries=1, retry_delay=0)
    texts = jobjar.submit_array('printf "<%s>" "$1"', entries=["a b", b"\xff", "new\nline"], tag="x", scratch=True)
    values = jobjar.submit_array('echo "$JJ_ENTRY"', entries=[{"x": 1}, "text", None], output=f"{tmp_path}/%A.%a")
    asked = jobjar.submit_array("true", indexes="1-9:4%2", hold=True, begin="+1h", time_limit="1m", warn="USR1@10s")
    assert jobjar.job(asked).state == "limbo" and jobjar.job(ranged).state == "unclaimed"
    worker = rig.start_worker()
    outcomes = jobjar.wait([ranged, counted, texts, values])
    assert outcomes == {ranged: "succeeded", counted: "failed", texts: "succeeded", values: "succeeded"}
    assert jobjar.output(ranged) == b"2 2 more words;5 5 more words;8 8 more words;"
    assert jobjar.output(texts) == b"<a b><\xff><new\nline>" and jobjar.output(f"{texts}[2-3]") == b"<\xff><new\nline>"
    assert jobjar.output(values) == b'{"x": 1}\n"text"\nnull\n'
    assert (tmp_path / f"{values}.2").read_text() == '"text"\n'
    failed, array = jobjar.job(f"{counted}[3]"), jobjar.job(counted)
    assert (failed.state, failed.outcome, failed.exit_status, len(failed.attempts)) == ("completed", "failed", 1, 2)
    assert failed.worker and failed.ended_at and failed.started_at and failed.ended_at >= failed.started_at
    assert (array.id, array.state, array.outcome) == (counted, "completed", "failed")
    assert jobjar.cancel(asked) is not None and jobjar.wait(asked) == {asked: "cancelled"}
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.parametrize(
    ("error", "reason", "given"),
    [
        (UsageError, "give either indexes or entries", {"command": "true"}),
        (UsageError, "give either indexes or entries", {"command": "true", "indexes": 3, "entries": ["a"]}),
        (UsageError, "has no indexes that ascend", {"command": "true", "indexes": range(5, 1, -1)}),
        (UsageError, "has no indexes that ascend", {"command": "true", "indexes": 0}),
        (UsageError, "ends before it begins", {"command": "true", "indexes": "5-1"}),
        (UsageError, "there are no entries", {"command": "true", "entries": []}),
        (UsageError, "a list", {"command": "true", "entries": "text"}),
        (UsageError, "line 2 has a NUL", {"command": "true", "entries": ["a", "b\0"]}),
        (UsageError, "value 2 cannot be JSON", {"command": "true", "entries": ["a", b"b", 1]}),
        (UsageError, "chunk: 0 is not", {"command": "true", "indexes": 3, "chunk": 0}),
        (UsageError, "limit once", {"command": "true", "indexes": "1-3%1", "limit": 2}),
        (UsageError, "cannot be given colour", {"command": "true", "indexes": 3, "colour": "red"}),
        (UsageError, "one of command, file and script", {"indexes": 3}),
        (BadCommand, "it is empty", {"command": " ", "indexes": 3}),
        (BadAttribute, "one file for all tasks", {"command": "true", "indexes": 3, "output": "x"}),
        (NotExecutable, "none", {"file": "/none", "indexes": 3}),
    ],
)
def test_what_cannot_be_is_an_error_by_name(
    rig: Rig, own_library: Any, error: type[Exception], reason: str, given: dict[str, Any]
) -> None:
    with pytest.raises(error, match=re.escape(reason)):
        jobjar.submit_array(**given)
    assert os.listdir(rig.home / "batches") == []
