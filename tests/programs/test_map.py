"""`jobjar map`: GNU Parallel's way of typing many commands (arrays/replacing.py, programs/map.py)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from jobjar.arrays.replacing import Source, Template, combine, count_combined, quote
from tests.rig import BIN, Rig, wait_until
from tests.terminal import OnTerminal

pytestmark = pytest.mark.timeout(120)

PATHS = [
    "a/b.tar.gz",
    "/x",
    "plain",
    ".hid",
    "d.e/f",
    "a/",
    "sp ace/x y.z",
    "/a.b",
    "dir.d/f.",
    "a/.b",
    "a/b/",
    "/",
    "//x",
    "a//b",
]
ODD = [
    "a b",
    "it's",
    'x"y',
    "",
    "$HOME",
    "A~B",
    "ünï",
    "a=b",
    "a,b",
    "@:%+",
    "a\tb",
    "-n",
    "''",
    "a'b'c",
    "*",
    "\\",
    "a\nb",
    "#",
    "!",
]
# Words as they are typed, and what is run.
CASES = {
    ("echo", "{}", ":::", "a b", "c"): ["echo 'a b'", "echo c"],
    ("echo", ":::", "a", "b", ":::", "c"): ["echo a c", "echo b c"],
    ("echo", "{1}", "{2}", ":::", "a", "b", ":::", "c", "d"): ["echo a c", "echo a d", "echo b c", "echo b d"],
    ("echo", "{2}", ":::", "a", "b", ":::", "c"): ["echo c", "echo c"],
    ("echo", "{3}x", ":::", "a", ":::", "c"): ["echo x"],
    ("echo", "{-1} {1.} {2/} {1//} {1/.}", ":::", "x/a.b", ":::", "y/c.d"): ["echo y/c.d x/a c.d x a"],
    ("echo", "{#}", ":::", "A", "B"): ["echo 1", "echo 2"],
    ('echo "{}"', ":::", "a b"): ["echo \"'a b'\""],
    ("echo", "{foo}", "{a,b}", "{", "}", "{}{}", ":::", "x"): ["echo {foo} {a,b} { } xx"],
    (":::", "echo a; echo b", "true"): ["echo a; echo b", "true"],
    ("echo", ":::"): [],
    ("echo", ":::", "a", ":::"): ["echo a ''"],
    ("echo", ":::", "a", "b", ":::+", "c", "d", "e"): ["echo a c", "echo b d"],
    ("echo", ":::", "a", "b", ":::+", "c", ":::", "x", "y"): ["echo a c x", "echo a c y"],
    ("echo", "{.}", "{/}", ":::", "p/a.b", ":::", "q/c.d"): ["echo p/a q/c a.b c.d"],
    ("mv", "{}", "{.}.jpeg", "&&", "echo", "{/.}", ":::", "my pic.jpg"): [
        "mv 'my pic.jpg' 'my pic'.jpeg && echo 'my pic'"
    ],
}


def dry_run(*words: str, given: bytes = b"", program: tuple[str, ...] = (str(BIN / "jobjar"), "map")) -> bytes:
    command = [*program, "--dry-run", *words]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def commands(words: tuple[str, ...]) -> list[str]:
    """What the program makes of words, without starting it."""
    from jobjar.programs.map import _read_commands

    return [os.fsdecode(line) for line in _read_commands(list(words), "jobjar map").lines()]


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_what_is_typed_is_run_as_gnu_parallel_runs_it(words: tuple[str, ...]) -> None:
    assert commands(words) == CASES[words]


def test_each_value_is_one_word_of_the_shell_whatever_is_in_it() -> None:
    line = b"printf '%s\\0' " + b" ".join(quote(os.fsencode(value)) for value in ODD)
    printed = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, check=True).stdout
    assert printed == b"".join(os.fsencode(value) + b"\0" for value in ODD)


def test_parts_of_paths() -> None:
    parts = [commands(("{.}|{/}|{//}|{/.}", ":::", path))[0] for path in PATHS]
    assert [part.replace("'", "") for part in parts] == [
        *("a/b.tar|b.tar.gz|a|b.tar", "/x|x|/|x", "plain|plain|.|plain", "|.hid|.|", "d.e/f|f|d.e|f", "a/||.|"),
        *(
            "sp ace/x y|x y.z|sp ace|x y",
            "/a|a.b|/|a",
            "dir.d/f|f.|dir.d|f",
            "a/|.b|a|",
            "a/b/||a|",
            "/||/|",
            "//x|x|/|x",
        ),
        "a//b|b|a|b",
    ]


@pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU Parallel is not installed")
def test_gnu_parallel_makes_the_same_of_it(tmp_path: Path) -> None:
    parallel = ("parallel", "--will-cite", "-k")
    cases = [(case, b"") for case in CASES]
    cases += [(("echo", "{} {.} {/} {//} {/.} {#}", ":::", *PATHS), b"")]
    for words, given in [*cases, (("echo", "x{}"), b"a\n\nb c"), ((), b"echo a\nfalse\n")]:
        ours, theirs = dry_run(*words, given=given), dry_run(*words, given=given, program=parallel)
        assert sorted(ours.split(b"\n")) == sorted(theirs.split(b"\n")), words  # it may print them out of order
    odd = ["printf", "'%s\\0'", ":::", *(value for value in ODD if "\n" not in value)]
    lines = [dry_run(*odd), dry_run(*odd, program=parallel)]
    run = [subprocess.run(["sh"], input=line, stdout=subprocess.PIPE, check=True).stdout for line in lines]
    assert sorted(run[0].split(b"\0")) == sorted(run[1].split(b"\0"))


def test_a_million_arguments_are_no_list_of_commands() -> None:
    numbers = Source([b"%d" % number for number in range(1000)])
    assert count_combined([numbers, numbers]) == 1_000_000
    template, pairs = Template(b"echo {}"), combine([numbers, numbers])
    assert template.fill(next(pairs), 1) == b"echo 0 0" and template.fill(next(pairs), 2) == b"echo 0 1"


def test_the_output_comes_in_order_and_the_exit_status_counts_the_failures(rig: Rig, tmp_path: Path) -> None:
    worker = rig.start_worker()
    lines = tmp_path / "lines"
    lines.write_bytes(b"two words\r\n\r\n\xff\xfe $HOME\r\n")
    words = ["-j", "2", "-k", "printf '<%s>\\n' {} {#} \"$1\"; pwd", "::::", str(lines)]
    done = subprocess.run(
        [BIN / "jobjar", "map", *words], env=rig.environment, cwd=tmp_path, capture_output=True, timeout=60
    )
    entries = [b"two words", b"", b"\xff\xfe $HOME"]
    where = os.fsencode(tmp_path)
    expected = b"".join(b"<%s>\n<%d>\n<>\n%s\n" % (entry, number, where) for number, entry in enumerate(entries, 1))
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")
    some = rig.run("jobjar", "map", "-k", "echo {}; exit {}", ":::", "0", "1", "2", "0", check=False)
    assert some.returncode == 2 and some.stdout == "0\n1\n2\n0\n"
    assert "2 of them failed" in some.stderr and "jobjar output" in some.stderr
    many = rig.run("jobjar", "map", "false", ":::", *map(str, range(150)), check=False)
    assert many.returncode == 101 and not many.stdout
    said = rig.run("jobjar", "map", "-k", "echo {} > /dev/stderr", ":::", "x", "/dev/stdout")
    assert said.stdout == "x\n/dev/stdout\n"
    given = rig.run("jobjar", "map", "--env", "A=b c", "--", 'echo "$A" {}', ":::", "1")
    assert given.stdout == "b c 1\n"
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.parametrize("in_order", [False, True])
def test_what_a_task_wrote_is_printed_when_it_has_ended_or_when_those_before_it_have(
    rig: Rig, tmp_path: Path, in_order: bool
) -> None:
    workers = [rig.start_worker(JJ_POLL_TIME="0.1") for _ in range(2)]
    command = f"echo begin {{}}; until [ -e {tmp_path}/{{}} ]; do sleep 0.05; done; echo end {{}}"
    words = [*(["-k"] if in_order else []), command, ":::", "a", "b", "c"]
    (tmp_path / "b").touch()
    with subprocess.Popen(
        [BIN / "jobjar", "map", *words], env=rig.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed: list[list[str]] = []

        def read_task() -> None:
            assert process.stdout is not None
            printed.extend(process.stdout.readline().split() for _ in range(2))

        if not in_order:
            read_task()  # while the first one runs: whole, and not mixed with another's
        (tmp_path / "a").touch()
        read_task()
        if in_order:
            read_task()
        (tmp_path / "c").touch()
        read_task()
        assert process.wait(60) == 0
    order = ["a", "b", "c"] if in_order else ["b", "a", "c"]
    assert printed == [[word, name] for name in order for word in ("begin", "end")]
    for worker in workers:
        rig.stop_worker(worker)
    rig.assert_clean()


def test_what_cannot_be_is_another_error_and_nothing_is_submitted(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "nul").write_bytes(b"a\nb\0c\n")
    (tmp_path / "long").write_bytes(b"a\n" + b"x" * 1_000_000 + b"\n")
    for reason, words in (
        ("No such file", ["echo", "::::", str(tmp_path / "none")]),
        ("line 2 has a NUL", ["echo", "::::", str(tmp_path / "nul")]),
        ("line 2 has 1,000,000 bytes", ["echo", "::::", str(tmp_path / "long")]),
        ("number of a job slot", ["echo {%}", ":::", "a"]),
        ("Perl", ["echo {= s/a/b/ =}", ":::", "a"]),
        ("names no file", ["echo", "::::"]),
        ("can be read once", ["echo", "::::", "-", "::::", "-"]),
        ("-j: 'x'", ["-j", "x", "echo", ":::", "a"]),
        ("unrecognized", ["--colsep", "echo", ":::", "a"]),
    ):
        result = rig.run("jobjar", "map", *words, check=False)
        assert result.returncode == 255 and reason in result.stderr and not result.stdout, (words, result.stderr)
    nothing = rig.run("jobjar", "map", "echo", ":::")
    assert not nothing.stdout and not nothing.stderr
    assert rig.names("unclaimed") == [] and os.listdir(rig.home / "batches") == []


def test_without_a_worker_it_says_so_and_an_interrupt_leaves_the_array(rig: Rig) -> None:
    on_terminal = OnTerminal(rig, "jobjar", "map", "echo", ":::", "a", "b")
    on_terminal.wait_for("no worker that asks for uncategorized jobs is running", "0/2")
    os.kill(on_terminal.process.pid, signal.SIGINT)
    status, last = on_terminal.end()
    [array] = os.listdir(rig.home / "batches")
    assert status == 130 and f"{array} goes on" in last
    worker = rig.start_worker()
    wait_until(lambda: rig.show(array)["succeeded"] == 2, "its end")
    rig.stop_worker(worker)
