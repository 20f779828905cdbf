"""`#JJ` lines that would be lost are named; text that only happens to have such lines in it is not."""

from __future__ import annotations

import pytest

from jobjar.errors import BadScript
from jobjar.job_file.header import HEADER_BYTES, find_misplaced, read_header_lines, refuse_misplaced

SH = b"#!/bin/sh\n"


@pytest.mark.parametrize(
    ("script", "number", "says"),
    [
        (SH + b"set -e\n#JJ retries = 2\n", 3, "line 2 ends the comment lines"),
        (SH + b"set -e\n#JJ retries 2\n", 3, "line 2 ends"),
        (SH + b"set -e\n#JJ --retries=2\n", 3, "line 2 ends"),
        (SH + b"  #JJ retries = 2\n", 2, "it is indented"),
        (SH + b"# JJ retries = 2\n", 2, "not written `#JJ name = value`"),
        (SH + b"#jj retries = 2\n", 2, "not written"),
        (SH + b"# jj time-limit=1h\n", 2, "not written"),
        (SH + b"#JJretries = 2\n", 2, "not written"),
        (SH + b"#JJ: retries = 2\n", 2, "not written"),
        (SH + b"# JJ colour = red\n", 2, "not written"),
        (b'#!/usr/bin/env python3\n"""What it does.\n"""\n#JJ time_limit = 1h\n', 4, "line 2 ends"),
        (b"echo\n#JJ retries = 2\n", 2, "line 1 ends"),
        (SH + b"\n\necho\n" + b"x\n" * 30_000 + b"#JJ retries = 2\n", 30_005, "line 4 ends"),
        (SH + b"cat > x <<EOF\ntext\nEOF\n#JJ retries = 2\n", 5, "line 2 ends"),
        (SH + b"x=$((1 << n))\n#JJ retries = 2\n", 3, "line 2 ends"),
    ],
)
def test_a_line_that_would_be_lost_is_named(script: bytes, number: int, says: str) -> None:
    [found] = find_misplaced(script)
    assert found.number == number
    assert says in found.reason and "`#JJ end`" in found.reason
    with pytest.raises(BadScript, match=f"^job, line {number}: "):
        refuse_misplaced(script, "job")


@pytest.mark.parametrize(
    "script",
    [
        SH + b"#JJ retries = 2\n\n#JJ time_limit = 1h\nset -e\necho $JJ_JOB\n",
        # Seeds, which write other jobs.
        SH + b"cat > job <<EOF\n#!/bin/sh\n#JJ retries = 2\nEOF\nsubmit_job -f job\n",
        SH + b"cat <<'X' <<-\"Y\" | sh\n#JJ retries = 2\nX\n\t#JJ retries = 2\n\tY\necho\n",
        SH + b"{ cat <<-EOF\n\t#JJ retries = 2\n\tEOF\n} > job\n",
        b'#!/usr/bin/env python3\nimport jobjar\nJOB = """#!/bin/sh\n# text\n\n#JJ retries = 2\necho\n"""\n',
        b'#!/usr/bin/env python3\nJOB = """\\\n#!/bin/sh\n#JJ retries = 2\n"""\n',
        SH + b"echo '#!/bin/sh\n#JJ retries = 2\necho' > job\n",
        SH + b'printf "#JJ retries = 2\\n" >> job\n',
        b"#!/usr/bin/perl\nprint F <<~EOT;\n  #JJ retries = 2\n  EOT\n",
        SH + b"#JJ end\n#JJ colour\necho\n#JJ retries = 2\n",
        SH + b"echo\n#JJ end\n#JJ retries = 2\n",
        # Comments that are none of ours.
        SH + b"echo\n#JJ_RETRIES=3\n#JJ_HOME = /jar\n# JJ wrote this\n  #JJ look at this\n# jjones = x\n",
        SH + b"##JJ retries = 2\n# #JJ retries = 2\n",
        SH + b"[ 1 ] # see JJ retries = 2\n# JJ a == b\n",
        b"\x7fELF\x02\x01\x01\0\0\n#JJ retries = 2\n",
        SH + b"exec tail -n +3 $0 | tar x\n\0\x01\n#JJ retries = 2\n",
        SH + b"#" * HEADER_BYTES + b"\n# JJ retries = 2\n",
        b"",
    ],
)
def test_what_is_no_attribute_of_the_script_is_not_named(script: bytes) -> None:
    assert find_misplaced(script) == []
    refuse_misplaced(script, "job")


def test_several_lines_are_counted_and_a_here_document_without_an_end_hides_none() -> None:
    script = SH + b"cat <<EOF\n#JJ retries = 2\n#JJ time_limit = 1h\n"
    assert [line.number for line in find_misplaced(script)] == [3, 4]
    with pytest.raises(BadScript, match="1 more such line"):
        refuse_misplaced(script, "job")


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_a_byte_order_mark_is_refused(mark: bytes) -> None:
    with pytest.raises(BadScript, match="byte order mark"):
        read_header_lines(mark + SH, "job")


def test_a_first_line_of_windows_is_refused_and_the_reason_names_the_carriage_return() -> None:
    [found] = find_misplaced(b"#!/bin/sh\r\necho\r\n")
    assert found.number == 1 and "CR" in found.reason and r"'/bin/sh\r'" in found.reason
    assert find_misplaced(b"echo\r\n") == find_misplaced(b"#!/bin/sh\necho\r\n") == []


def test_a_line_that_goes_on_behind_what_is_read_is_refused_and_not_dropped() -> None:
    long = b"#!/bin/sh\n#JJ retries = 1\n#JJ after = " + b"a" * HEADER_BYTES
    with pytest.raises(BadScript, match="x, line 3"):
        read_header_lines(long[:HEADER_BYTES], "x")
    for end in (b"# a comment " + b"a" * HEADER_BYTES, b"true\n#JJ after = " + b"a" * HEADER_BYTES):
        assert len(read_header_lines((b"#!/bin/sh\n#JJ retries = 1\n" + end)[:HEADER_BYTES], "x")) == 1
    assert len(read_header_lines(b"#!/bin/sh\n#JJ end\n#JJ after = " + b"a" * HEADER_BYTES, "x")) == 0
