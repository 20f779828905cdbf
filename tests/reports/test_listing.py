"""What a list says of a job by its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.reports.listing import read_command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("#!/bin/sh\n#JJ dir = /x\nexec wc -l 'a b'\n", "wc -l 'a b'"),
        ("#!/bin/sh -f\nexecute it\n", "execute it"),
        ("#!/bin/sh\n#JJ run_command = make\nexit 2\n", "make"),
        ("#!/bin/sh\n#JJ   run_command=make -j 2 \nexit 2\n", "make -j 2"),
        ("#!/bin/sh\n#JJ\trun_command\t=\tmake\nexit 2\n", "make"),
        ("echo no script\n", ""),
    ],
)
def test_a_command_is_shown_as_it_was_written(tmp_path: Path, text: str, command: str) -> None:
    (tmp_path / "job").write_text(text)
    assert read_command(str(tmp_path / "job")) == command
