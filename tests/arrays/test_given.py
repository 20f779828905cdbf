"""What the tasks of an array are given: entries, variables, files of their own; holding, a beginning, warnings, which failures
are tried again (arrays/entries.py, world.py, run_chunk.py; attempts/own_output.py)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobjar.arrays.entries import LONGEST_BYTES, encode_json, read_json, split_lines
from jobjar.errors import UsageError
from tests.programs.spaces import SpaceRig
from tests.rig import BIN, Rig, wait_until

pytestmark = pytest.mark.timeout(120)

VARIABLES = "$JJ_ARRAY_ID $JJ_ARRAY_INDEX $JJ_ARRAY_FIRST $JJ_ARRAY_LAST $JJ_ARRAY_STEP $JJ_ARRAY_SIZE"


def submit(rig: Rig, *words: str, given: bytes | None = None) -> str:
    done = subprocess.run(
        [BIN / "jobjar", "submit", *words], env=rig.environment, input=given, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def wait_for(rig: Rig, *arrays: str, status: int = 0) -> None:
    for array in arrays:
        result = rig.run_forked("jobjar", "wait", "--timeout", "60s", array, check=False)
        assert result.returncode == status, result.stderr


def output_of(rig: Rig, array: str) -> bytes:
    words = [str(BIN / "jobjar"), "output", "--all", array]
    return subprocess.run(words, env=rig.environment, capture_output=True, check=True, timeout=60).stdout


def task(rig: Rig, array: str, index: int) -> dict[str, Any]:
    return rig.show(f"{array}[{index}]")


def test_entries_are_what_the_file_has_byte_for_byte(rig: Rig, tmp_path: Path) -> None:
    odd = [
        b"",
        b"'q' \"r\" \\ $HOME `id` *",
        b"\xff\xfe\x80",
        b" lead and trail ",
        b"\t\x01\x7f",
        b"x" * LONGEST_BYTES,
        b"no end",
    ]
    (tmp_path / "odd").write_bytes(b"\n".join(odd))
    told = f'printf "%s %s\\n" "{VARIABLES}" "$(printf %s "$1" | od -An -c | cksum)"; [ "$1" = "$JJ_ENTRY" ]'
    by_line = submit(rig, "--each-line", str(tmp_path / "odd"), "--limit", "2", told)
    from_input = submit(rig, "--each-line", "-", 'printf "<%s>" "$1"', given=b"a\r\n\r\nb c\r\n")
    mixed = submit(rig, "--each-line", "-", 'printf "<%s>" "$1"', given=b"a\r\nb\n")
    values = [{"a": "x\ny", "b": [None, 1.5, "ü"]}, "", "\ud800", "nul\0", 12345678901234567890]
    by_json = submit(rig, "--each-json", "-", 'printf "%s\\n" "$1"', given=json.dumps(values).encode())
    json_lines = submit(rig, "--each-json", "-", 'printf "%s\\n" "$1"', given=b'{"a":\t1}\n\n  [2]  \r\n3')
    script = b'#!/bin/sh\nprintf "%s|" "$@"\n'
    with_words = submit(rig, "--array", "3-9:3%1", "-", "two words", given=script)
    worker = rig.start_worker()
    wait_for(rig, by_line, from_input, mixed, by_json, json_lines, with_words)
    size = len(odd)
    expected = []
    for index, entry in enumerate(odd, 1):
        dumped = subprocess.run(["od", "-An", "-c"], input=entry, stdout=subprocess.PIPE, check=True).stdout
        # The shell strips newlines at the end of `$(…)`, and cksum is fed by the pipe, not by that.
        summed = subprocess.run(["cksum"], input=dumped, stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        expected.append(f"{by_line} {index} 1 {size} 1 {size} {summed}")
    assert output_of(rig, by_line).decode().splitlines() == expected
    assert output_of(rig, from_input) == b"<a><><b c>" and output_of(rig, mixed) == b"<a\r><b>"
    assert [json.loads(line) for line in output_of(rig, by_json).splitlines()] == values
    assert output_of(rig, json_lines) == b'{"a": 1}\n[2]\n3\n'
    assert output_of(rig, with_words) == b"3|two words|6|two words|9|two words|"
    rig.stop_worker(worker)
    rig.assert_clean()


def test_what_no_task_can_be_given_is_refused_with_its_line_and_nothing_is_submitted(rig: Rig, tmp_path: Path) -> None:
    files = {
        "nul": b"a\nb\0c\n",
        "long": b"a\nb\n" + b"x" * (LONGEST_BYTES + 1),
        "empty": b"",
        "json": b'{"a": 1}\n{"a": \n',
        "none": b" \n",
        "long json": json.dumps(["x", "y" * LONGEST_BYTES]).encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    at = {name: str(tmp_path / name) for name in files}
    for reason, words in (
        ("line 2 has a NUL", ["--each-line", at["nul"], "true"]),
        (f"line 3 has {LONGEST_BYTES + 1:,} bytes", ["--each-line", at["long"], "true"]),
        ("has no entries", ["--each-line", at["empty"], "true"]),
        ("has no entries", ["--each-json", at["none"], "true"]),
        ("line 2 is no JSON", ["--each-json", at["json"], "true"]),
        ("value 2 has", ["--each-json", at["long json"], "true"]),
        ("Is a directory", ["--each-line", str(tmp_path), "true"]),
        ("not both", ["--each-line", "-", "-"]),
        ("give one of", ["--each-line", "-", "--each-json", "-", "true"]),
        ("are about an array", ["--limit", "2", "true"]),
        ("the limit once", ["--array", "1-3%2", "--limit", "2", "true"]),
        ("--limit: '0'", ["--array", "1-3", "--limit", "0", "true"]),
        (
            "by its index %a, for example '" + str(tmp_path / "out.%a.txt"),
            ["--array", "1-3", "--output", str(tmp_path / "out.txt"), "true"],
        ),
        ("error: ", ["--array", "1-3", "--error", "%j.err", "true"]),
        ("is for the tasks of an array", ["--output", "%a.txt", "true"]),
        ("is for the tasks of an array", ["--error", "%A", "-f", "/bin/true"]),
        ("there is no pattern", ["--array", "1-3", "--output", "%a%q", "true"]),
        ("before the job", ["--array", "1-3", "--warn", "USR1@60s", "--time-limit", "9s", "true"]),
        ("give retries too", ["--array", "1-3", "--retry-on", "75", "true"]),
    ):
        result = rig.run("jobjar", "submit", *words, check=False)
        assert result.returncode == 2 and reason in result.stderr and not result.stdout, (words, result.stderr)
    assert rig.names("unclaimed") == [] and os.listdir(rig.home / "batches") == []
    assert [name for name in os.listdir(rig.home / "limbo") if not name.startswith(".")] == []


def test_lines_and_json_without_a_jar() -> None:
    assert split_lines(b"\n") == [b""] and split_lines(b"") == [] and split_lines(b"a\r\nb") == [b"a", b"b"]
    assert split_lines(b"\r\n\r\n") == [b"", b""] and split_lines(b"a\r\n\nb\r\n") == [b"a\r", b"", b"b\r"]
    assert read_json(b"7", "x") == [b"7"] and read_json(b"[]", "x") == [] and read_json(b"[[]]", "x") == [b"[]"]
    with pytest.raises(UsageError, match="value 1 cannot be JSON"):
        encode_json([object()], "x")


def test_tasks_write_to_files_of_their_own_and_never_over_what_is_there(rig: Rig, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er"
    out.mkdir(parents=True)
    (out / "fit-3.out").write_text("precious\n")
    pattern = f"{out}/%n-%a.out"
    say = f'echo "out $1"; echo "err $1" >&2; test $1 != 2 || test -e {tmp_path}/mended'
    array = submit(rig, "--array", "1-3", "--name", "fit", "--chunk", "3", "--retries", "1", "--output", pattern, say)
    both = submit(
        rig,
        "--array",
        "5-6",
        "--dir",
        str(out),
        "--output",
        "%A/%a.%t.o%%",
        "--error",
        "%A/%a.e",
        "echo o; echo e > /dev/stderr",
    )
    nowhere = submit(rig, "--array", "1-2", "--output", "/dev/null", say)
    errors = submit(rig, "--array", "1-2", "--error", f"{out}/%j_%a.err", "--scratch", say)
    (tmp_path / "file").touch()
    never = submit(rig, "--array", "1-2", "--output", f"{tmp_path}/file/%a", f"touch {tmp_path}/ran")
    worker = rig.start_worker()
    wait_for(rig, both)
    wait_for(rig, array, nowhere, errors, never, status=1)
    assert (out / "fit-1.out").read_text() == "out 1\nerr 1\n" and (out / "fit-3.out").read_text() == "precious\n"
    assert (out / "fit-3~2.out").read_text() == "out 3\nerr 3\n"
    third = task(rig, array, 3)
    assert third["output_path"] == str(out / "fit-3~2.out") and "was there already" in third["message"]
    second = task(rig, array, 2)
    assert [second["output_path"], *(end["output_path"] for end in second["earlier"])] == [
        str(out / name) for name in ("fit-2~2.out", "fit-2.out")
    ]
    assert task(rig, array, 1)["output_path"] == str(out / "fit-1.out") and task(rig, array, 1)["message"] is None
    assert output_of(rig, array) == b"".join(b"out %d\nerr %d\n" % (index, index) for index in (1, 2, 3))
    assert [(out / both / name).read_text() for name in ("5.1.o%", "5.e", "6.1.o%", "6.e")] == ["o\n", "e\n"] * 2
    assert task(rig, both, 6)["error_path"] == str(out / both / "6.e")
    assert output_of(rig, nowhere) == b"" and output_of(rig, errors) == b"out 1\nout 2\n"
    assert (out / f"{errors}_2.err").read_text() == "err 2\n"
    refused = task(rig, never, 2)
    assert refused["exit_status"] == 126 and f"{tmp_path}/file/2" in refused["message"]
    assert not (tmp_path / "ran").exists()
    # Run again, a task has another file again.
    (tmp_path / "mended").touch()
    rig.run("jobjar", "retry", "--failed", array)
    wait_for(rig, array)
    assert task(rig, array, 2)["output_path"] == str(out / "fit-2~3.out")
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.root
def test_a_full_disk_of_a_task_s_own_file_does_not_count_against_the_task(tmp_path: Path) -> None:
    space = SpaceRig(tmp_path / "jar")
    try:
        full = tmp_path / "full"
        full.mkdir()
        space.root_shell(f"mount -t tmpfs -o nr_inodes=1 tmpfs '{full}'")
        array = space.run(
            "jobjar", "submit", "--array", "1-2", "--chunk", "2", "--output", f"{full}/%a", "echo $1"
        ).stdout.strip()
        [chunk] = space.names("unclaimed")
        space.start_worker()
        wait_until(lambda: any(attempt["message"] for attempt in space.show(chunk)["attempts"]), "a refusal")
        attempt = space.show(chunk)["attempts"][0]
        assert attempt["outcome"] == "interrupted" and f"{full}/1: No space left" in attempt["message"]
        space.root_shell(f"mount -o remount,nr_inodes=9 '{full}'")
        wait_until(lambda: space.show(array)["succeeded"] == 2, "both tasks")
        assert (space.seen(full) / "2").read_text() == "2\n"
    finally:
        space.end_everything()


def test_an_array_is_held_or_begins_later_and_that_counts_once(rig: Rig) -> None:
    held = submit(rig, "--hold", "--array", "1-4", "--chunk", "2", "exit $1")
    assert rig.show(held)["state"] == "held" and rig.names("unclaimed") == []
    rig.run("jobjar", "rebuild")
    assert rig.show(held)["state"] == "held"
    later = submit(rig, "--begin", "+1h", "--array", "1-4", "--chunk", "4", "true")
    soon = submit(rig, "--begin", "+1s", "--array", "1-4", "--chunk", "4", "true")
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    wait_for(rig, soon)
    assert rig.show(later)["state"] == "waiting" and rig.show(held)["state"] == "held"
    [chunk] = [name for name in rig.names("unclaimed") if name.endswith("+1-4.0")]
    assert rig.show(chunk)["not_before"] > rig.show(chunk)["submitted_at"] + 3000
    assert "released 1 array" in rig.run("jobjar", "release", held).stdout
    wait_for(rig, held, status=1)
    assert rig.show(held)["failed"] == 4
    rig.run("jobjar", "retry", "--failed", held)
    wait_for(rig, held, status=1)
    assert "cancelled 1 array" in rig.run("jobjar", "cancel", later).stdout
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_task_is_warned_before_its_limit_and_tried_again_after_the_failures_that_count(
    rig: Rig, tmp_path: Path
) -> None:
    trap = f"trap 'echo warned; exit 75' USR1; echo $1 >> {tmp_path}/ran; [ $1 != 2 ] || exit 3; while :; do sleep 0.05; done"
    array = submit(
        rig,
        *("--array", "1-2", "--chunk", "2", "--time-limit", "60s", "--warn", "USR1@59.7s", "--retries", "2"),
        *("--retry-on", "75", "--tag", "mine", "--job-runtime", "1m", "--env", "A=b", trap),
    )
    worker = rig.start_worker(JJ_POLL_TIME="0.2")
    wait_for(rig, array, status=1)
    assert (tmp_path / "ran").read_text().split() == ["1", "2", "1", "1"]
    first, second = task(rig, array, 1), task(rig, array, 2)
    assert (first["exit_status"], len(first["earlier"])) == (75, 2) and (second["exit_status"], second["earlier"]) == (
        3,
        [],
    )
    assert rig.run_forked("jobjar", "output", f"{array}[1]").stdout == "warned\n"
    rig.stop_worker(worker)


def test_submit_waits_for_an_array(rig: Rig) -> None:
    worker = rig.start_worker()
    good = rig.run("jobjar", "submit", "--wait", "--array", "1-3", "true")
    assert "all 3 tasks have succeeded" in good.stderr and rig.show(good.stdout.strip())["succeeded"] == 3
    bad = rig.run("jobjar", "submit", "--wait", "--array", "1-3", "test $1 = 2", check=False)
    assert bad.returncode == 1 and "2 of them failed" in bad.stderr
    wait_until(lambda: rig.names("claimed") == [], "its last chunk")
    rig.stop_worker(worker)
