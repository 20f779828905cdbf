"""`jobjar submit`, typed as people type it, and what a worker makes of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.job_file.given import GIVEN
from jobjar.job_file.names import id_in_name
from jobjar.reports.jobs import describe_job, find_output, open_output
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from tests.rig import BIN, Rig, wait_until


@pytest.fixture
def here(rig: Rig, tmp_path: Path) -> Path:
    """The directory where the tests type."""
    directory = tmp_path / "work here"
    directory.mkdir()
    rig.directory = str(directory)
    return directory


def submit(rig: Rig, *words: str, **changes: str) -> str:
    """The id that `jobjar submit` prints."""
    printed = rig.run("jobjar", "submit", *words, check=True, **changes).stdout
    assert len(printed) == 13 and printed.endswith("\n"), printed
    return printed.strip()


def submit_script(rig: Rig, script: str, *words: str) -> str:
    result = subprocess.run(
        [str(BIN / "jobjar"), "submit", *words],
        input=script.encode(),
        capture_output=True,
        env=rig.environment,
        cwd=rig.directory,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.decode().strip()


def show(rig: Rig, job: str) -> dict[str, Any]:
    """What `jobjar show` would say, without a process for each question."""
    jar = rig.open()
    refresh_ledger(jar)
    return describe_job(jar, find_job(jar, job))


def output(rig: Rig, job: str, number: int | None = None) -> str:
    """What `jobjar output` would print."""
    jar = rig.open()
    refresh_ledger(jar)
    path = find_output(jar, find_job(jar, job), number)
    if path is None:
        return ""
    with open(open_output(jar, path)) as file:
        return file.read()


def messages(rig: Rig, job: str) -> list[str]:
    return [attempt["message"] for attempt in show(rig, job)["attempts"]]


def test_a_job_runs_in_the_directory_where_it_was_typed_with_its_words_as_they_were(rig: Rig, here: Path) -> None:
    (here / "data").mkdir()
    (here / "data" / "f1.dat").write_text("a\nb\n")
    script = here / "args.sh"
    script.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done; pwd; test -d "$JJ_SCRATCH_DIR" && echo made\n')
    script.chmod(0o755)
    other = here / "other"
    other.mkdir()
    words = submit(rig, "wc", "-l", "data/f1.dat")
    odd = ["printf", "<%s>", "two words", "*", "$HOME", "it's", "--help", "", "ü\n"]
    quoted = submit(rig, *odd)
    line = submit(rig, "echo data/*; cd data && pwd")
    copy = submit(rig, "-f", "args.sh", "--name", "an arg".replace(" ", "_"), "two words", "*")
    moved = submit(rig, "--dir", "other", "-f", "args.sh", "--", "--name")
    fresh = submit(rig, "--scratch", 'pwd; test "$PWD" = "$JJ_SCRATCH_DIR" && echo same')
    piped = submit_script(rig, 'echo "$1"; pwd\n', "-", "from a script")
    signalled = submit(rig, "sh", "-c", "kill -9 $$")
    dashes = submit(rig, "--", "echo", "--name")
    rig.run_until_idle()
    assert output(rig, words) == "2 data/f1.dat\n"
    assert output(rig, quoted) == "".join(f"<{word}>" for word in odd[2:])
    assert output(rig, line) == f"data/f1.dat\n{here}/data\n"
    assert output(rig, copy) == f"<two words>\n<*>\n{here}\nmade\n"
    assert output(rig, moved) == f"<--name>\n{other}\nmade\n"
    assert output(rig, fresh).splitlines()[1] == "same" and str(here) not in output(rig, fresh)
    assert output(rig, piped) == f"from a script\n{here}\n"
    assert output(rig, dashes) == "--name\n"
    # Several words are a program, and not the child of a shell.
    assert show(rig, signalled)["signal"] == 9
    shown = show(rig, copy)
    assert shown["command"] == "args.sh 'two words' '*'" and shown["directory"] == str(here)
    assert shown["arguments"] == ["two words", "*"] and "-an_arg." in shown["name"]
    assert show(rig, fresh)["directory"] is None
    assert show(rig, words)["command"] == "wc -l data/f1.dat"
    rig.assert_clean()


def test_a_directory_that_is_reached_through_a_link_keeps_the_name_that_the_shell_has(rig: Rig, here: Path) -> None:
    link = here.parent / "linked"
    link.symlink_to(here)
    job = submit(rig, "echo $PWD; pwd", PWD=str(link))
    false = submit(rig, "-c", "", "pwd", PWD="/usr")
    (here / "sub").mkdir()
    below = submit(rig, "--dir", "sub", "--output", "out", "pwd", PWD=str(link))
    (here / "script").write_text("#!/bin/sh\n#JJ dir = sub\npwd\n")
    (here / "script").chmod(0o755)
    rig.environment["PWD"] = str(link)
    old = rig.submit("-f", "script")
    rig.run_until_idle()
    for other in (below, old):
        assert show(rig, other)["directory"] == f"{link}/sub"
    assert (here / "sub" / "out").read_text() == output(rig, old) == f"{link}/sub\n"
    assert output(rig, job) == f"{link}\n{link}\n"
    assert output(rig, false) == f"{here}\n"


def test_on_a_terminal_it_says_what_it_did(rig: Rig, here: Path) -> None:
    for words, name in (((), ""), (("--name", "mine"), " (mine)")):
        ours, theirs = pty.openpty()
        subprocess.run([str(BIN / "jobjar"), "submit", *words, "true"], stdout=theirs, env=rig.environment, check=True)
        os.close(theirs)
        said = os.read(ours, 1000).decode().strip()
        os.close(ours)
        assert said.startswith("submitted ") and said.endswith(name) and len(said) == 22 + len(name)


def test_variables_are_set_handed_on_and_shown(rig: Rig, here: Path) -> None:
    shown = "echo $LEVEL:$TITLE:$HANDED:$OTHER:$JJ_ATTEMPT:$PATH"
    some = submit(
        rig, "--env", "LEVEL=3", "--env", "TITLE=two = words", "--env", "HANDED", shown, HANDED="on", OTHER="no"
    )
    every = submit(
        rig, "--env-all", "--env", "LEVEL=4", shown, HANDED="on", OTHER="too", JJ_ATTEMPT="9", PATH="/bin:/usr/bin"
    )
    lines = submit(rig, "--env", "LINES=one\ntwo", 'echo "$LINES"')
    rig.run_until_idle()
    jars = rig.home / "bin"
    assert output(rig, some).startswith(f"3:two = words:on::1:{jars}:")
    assert output(rig, every) == f"4::on:too:1:{jars}:/bin:/usr/bin\n"
    assert output(rig, lines) == "one\ntwo\n"
    assert show(rig, some)["environment"] == {"LEVEL": "3", "TITLE": "two = words", "HANDED": "on"}
    assert show(rig, every)["environment"]["OTHER"] == "too" and "PWD" not in show(rig, every)["environment"]
    assert "'TITLE=two = words'" in rig.run("jobjar", "show", some).stdout
    rig.assert_clean()


def test_output_goes_where_it_was_asked_and_never_over_what_is_there(rig: Rig, here: Path) -> None:
    (here / "mine.txt").write_text("a person's\n")
    say = "echo out; echo err >&2"
    one = submit(rig, "--output", "logs/%n/%c-%j.%t.txt", "--name", "run", "-c", "SOME", say)
    two = submit(rig, "--output", "out.txt", "--error", "err.txt", say)
    three = submit(rig, "--output", "out.txt", say)
    four = submit(rig, "--output", "mine.txt", "--error", "mine.txt", say)
    five = submit(rig, "--error", "only.txt", say)
    six = submit(rig, "--output", "/dev/null", say)
    retried = submit(rig, "--output", "again.%t%%", "--retries", "1", "echo $JJ_ATTEMPT; exit 3")
    named = submit(rig, "--output", "named.txt", "echo before; echo named > /dev/stderr; echo after")
    rig.run_until_idle("SOME", JJ_UMASK="027")
    files = {path.name: path.read_text() for path in here.rglob("*") if path.is_file()}
    assert files == {
        f"SOME-{one}.1.txt": "out\nerr\n",
        "out.txt": "out\n",
        "err.txt": "err\n",
        "out~2.txt": "out\nerr\n",
        "mine.txt": "a person's\n",
        "mine~2.txt": "out\nerr\n",
        "only.txt": "err\n",
        "again.1%": "1\n",
        "again.2%": "2\n",
        "named.txt": "before\nnamed\nafter\n",
    }
    assert (here / "out.txt").stat().st_mode & 0o777 == 0o640
    assert (here / "logs" / "run").stat().st_mode & 0o777 == 0o750
    assert output(rig, one) == output(rig, three) == "out\nerr\n" and output(rig, two) == "out\n" == output(rig, five)
    assert output(rig, retried, 1) == "1\n" and output(rig, named) == files["named.txt"]
    (attempt,) = show(rig, three)["attempts"]
    assert attempt["output_path"] == f"{here}/out~2.txt" and "out.txt was there already" in attempt["warnings"][0]
    (attempt,) = show(rig, two)["attempts"]
    assert (attempt["error_path"], attempt["warnings"]) == (f"{here}/err.txt", [])
    assert "no file that can be read" in rig.run("jobjar", "output", six, check=False).stderr
    before = [show(rig, job) for job in (one, three, four)]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert [show(rig, job) for job in (one, three, four)] == before


def test_what_a_job_asks_for_and_is_not_on_its_node_is_named(rig: Rig, here: Path) -> None:
    gone = here / "gone"
    gone.mkdir()
    in_the_way = here / "file"
    in_the_way.touch()
    directory = submit(rig, "--dir", "gone", "--retries", "1", "true")
    file = submit(rig, "--output", "file/out", "true")
    other = submit(rig, "--output", "gone", "true")
    gone.rmdir()
    gone_too = submit_script(rig, f"#JJ dir = {here}/never\ntrue\n", "-")
    no_program = submit_script(rig, "#!/no/such/interpreter\n", "--output", "none.txt", "-")
    rig.run_until_idle()
    assert show(rig, no_program)["exit_status"] == 127 and not (here / "none.txt").exists()
    shown = show(rig, directory)
    assert (shown["outcome"], shown["exit_status"], len(shown["attempts"])) == ("failed", 126, 2)
    assert f"its directory {gone} cannot be used on node " in messages(rig, directory)[-1]
    assert "No such file or directory" in messages(rig, directory)[-1]
    assert f"its output file {in_the_way}/out cannot be used" in messages(rig, file)[0]
    assert show(rig, other)["outcome"] == "succeeded"  # what was a directory is gone
    assert f"{here}/never" in rig.run("jobjar", "show", gone_too).stdout
    (here / "file").unlink()
    rig.assert_clean()


def test_a_warning_reaches_the_job_alone_before_its_time_limit(rig: Rig, here: Path) -> None:
    # The child does not hear the signal: it would end by it.
    script = "trap 'echo warned; kill $child; exit 0' USR1\nsleep 60 & child=$!\nwait $child; echo $?\n"
    options = ("--time-limit", "20", "--warn", "USR1@18s")
    job = submit(rig, *options, script)
    dies = submit(rig, "--time-limit", "20s", "--warn", "SIGTERM@19900ms", "sleep", "60")
    late = submit(rig, "--time-limit", "2", "--warn", "USR1@100ms", "trap '' USR1; sleep 60")
    rig.run_until_idle()
    assert (show(rig, job)["outcome"], output(rig, job)) == ("succeeded", "warned\n")
    assert (show(rig, dies)["outcome"], show(rig, dies)["signal"]) == ("failed", 15)
    assert show(rig, late)["outcome"] == "timed_out"
    assert show(rig, job)["warn"] == "USR1@18s"


def test_only_some_failures_are_tried_again(rig: Rig, here: Path) -> None:
    retries = ("--retries", "2")
    cases = [
        ("exit 75", ("--retry-on", "75,100-110"), 3),
        ("exit 3", ("--retry-on", "75,100-110"), 1),
        ("exit 3", ("--no-retry-on", "3"), 1),
        ("exit 4", ("--no-retry-on", "3"), 3),
        ("kill -9 $$", ("--retry-on", "137"), 3),
        ("sleep 60", ("--time-limit", "0.1", "--no-retry-on", "124"), 1),
    ]
    jobs = [submit(rig, *retries, *options, line) for line, options, _ in cases]
    rig.run_until_idle()
    assert [len(show(rig, job)["attempts"]) for job in jobs] == [attempts for _, _, attempts in cases]
    rig.assert_clean()


def test_a_described_job_is_held_marked_and_tried_again_as_it_was_given(rig: Rig, here: Path) -> None:
    script = f"#!/bin/sh\n#JJ tag = x\n#JJ retries = 2\n#JJ retry_delay = 0\n#JJ run_command = echo >> '{here}/runs'; exit 3\n"
    once = submit_script(rig, script, "--retry-on", "75", "-")
    thrice = submit_script(rig, script, "--tag", "y", "-")
    held = submit_script(rig, script + "#JJ hold = yes\n", "-")
    rig.run_until_idle()
    assert [len(show(rig, job)["attempts"]) for job in (once, thrice, held)] == [1, 3, 0]
    assert show(rig, thrice)["tags"] == ["x", "y"] and show(rig, held)["state"] == "limbo"
    assert (here / "runs").read_text() == "\n" * 4
    rig.assert_clean()


def test_a_job_does_not_begin_before_its_time(rig: Rig, here: Path) -> None:
    begin_at = time.time() + 2.5
    later = submit(rig, "--begin", "+2500ms", "date +%s.%N")
    far = submit(rig, "--begin", "2100-01-02T03:04", "true")
    past = submit(rig, "--begin", "2001-01-01", "true")
    line = submit_script(rig, "#JJ begin = +2h\ntrue\n", "--begin", "+0s", "-")
    hand = rig.drop("byhand", "#!/bin/sh\n#JJ begin = 2100-01-02T03:04\ntrue\n")
    soon = rig.drop("soon", f"#!/bin/sh\n#JJ dir = {here}\n#JJ begin = +2500ms\ndate +%s.%N\n")
    assert show(rig, far)["begin_at"] == show(rig, far)["not_before"] > begin_at
    worker = rig.start_worker()
    rig.run("jobjar", "wait", "--timeout", "60s", later, past, line, soon.name)
    assert float(output(rig, later)) >= begin_at - 0.01
    assert float(output(rig, soon.name)) >= begin_at - 0.01
    rig.stop_worker(worker)
    assert hand.exists() and show(rig, "byhand")["state"] == show(rig, far)["state"] == "unclaimed"
    for job in (far, "byhand"):
        assert "it is not to begin before 2100-01-02 03:04:00" in rig.run("jobjar", "show", job).stdout
    assert [move["reason"] for move in show(rig, "byhand")["moves"]] == ["found", "delayed"]
    assert show(rig, "byhand")["attempts"] == []
    rig.assert_clean()


def test_a_held_job_waits_for_a_person_and_is_held_once(rig: Rig, here: Path) -> None:
    job = submit(rig, "--hold", "--tag", "b", "--tag", "a", "pwd")
    rig.drop("byhand", f"#!/bin/sh\n#JJ hold = yes\n#JJ tag = c\n#JJ dir = {here}\npwd\n")
    (name,) = rig.names("limbo")
    said = rig.run_until_idle()
    assert "is held" not in said
    user = show(rig, job)["submitter"]
    for which in (job, "byhand"):
        shown = show(rig, which)
        assert (shown["state"], shown["held_reason"]) == ("limbo", f"held by {user}")
        waiting = rig.run("jobjar", "wait", which, check=False)
        assert waiting.returncode == 1 and "`jobjar release " in waiting.stderr and "correct" not in waiting.stderr
    assert show(rig, job)["tags"] == ["b", "a"] and show(rig, "byhand")["tags"] == ["c"]
    rig.run("jobjar", "rebuild")
    assert show(rig, job)["held_reason"] == f"held by {user}"
    for each in (name, "byhand"):
        (rig.home / "limbo" / each).rename(rig.home / "unclaimed" / each)
    rig.run_until_idle()
    assert output(rig, job) == output(rig, "byhand") == f"{here}\n"
    rig.assert_clean()


def test_lines_in_a_script_say_the_same_and_an_option_wins(rig: Rig, here: Path) -> None:
    (here / "sub").mkdir()
    lines = (
        "#!/bin/sh\n#JJ name = lines\n#JJ priority = 7\n#JJ category = SOME\n#JJ dir = sub\n#JJ env = A=1 'B=2 3'\n"
        "#JJ env = C=4\n#JJ tag = x y\n#JJ output = o/%n.txt\n#JJ retries = 1\n#JJ retry_on = 9\n#JJ job_runtime = 5m\n"
        "#JJ arguments = one 'two 2'\necho \"$A $B $C $2\"; pwd\n"
    )
    first = submit_script(rig, lines, "-")
    script = here / "script"
    script.write_text(lines)
    script.chmod(0o755)
    options = ("--name", "other", "-p", "0", "-c", "ELSE", "--dir", ".", "--env", "A=5", "--tag", "z", "--retries", "0")
    second = submit(
        rig, *options, "--output", "mine.txt", "--retry-on", "8", "--retries", "2", "-f", "script", "1", "2"
    )
    old = rig.submit("-f", str(script))
    shown, other = show(rig, first), show(rig, second)
    assert "-lines.7" in shown["name"] and (shown["category"], shown["tags"]) == ("SOME", ["x", "y"])
    assert (shown["retries"], shown["retry_on"], shown["job_runtime_s"]) == (1, "9", 300)
    assert "-other.0" in other["name"] and (other["category"], other["tags"]) == ("ELSE", ["x", "y", "z"])
    assert (other["retries"], other["retry_on"]) == (2, "8")
    assert "-lines.7" in old
    rig.run_until_idle("SOME", "ELSE")
    assert (here / "sub" / "o" / "lines.txt").read_text() == f"1 2 3 4 two 2\n{here}/sub\n"
    assert (here / "sub" / "o" / "lines~2.txt").exists()
    assert (here / "mine.txt").read_text() == f"5 2 3 4 2\n{here}\n"
    rig.assert_clean()


def test_a_job_that_a_hand_put_there_is_given_what_its_lines_say(rig: Rig, here: Path) -> None:
    text = f"#!/bin/sh\n#JJ dir = {here}\n#JJ output = %n.%t\n#JJ env = A=1\n#JJ arguments = w\necho $A $1 $JJ_ATTEMPT; pwd\n"
    rig.drop("good.5", text)
    rig.drop("nowhere", "#!/bin/sh\n#JJ output = x.txt\ntrue\n")
    rig.drop("nobody", f"#!/bin/sh\n#JJ dir = {here}\n#JJ env = A\ntrue\n")
    rig.drop("unlimited", "#!/bin/sh\n#JJ warn = USR1@5s\ntrue\n")
    rig.run_until_idle()
    assert (here / "good.1").read_text() == f"1 w 1\n{here}\n"
    assert show(rig, "good.5")["directory"] == str(here)
    for name, reason in (
        ("nowhere", "begin it with /"),
        ("nobody", "write A=VALUE"),
        ("unlimited", "give a time_limit"),
    ):
        assert reason in show(rig, name)["held_reason"], name
    typed = submit(rig, "--output", "again.txt", "echo $JJ_SCRATCH_DIR; pwd")
    rig.run_until_idle()
    # The file of a command says by itself what it was given.
    copied = rig.home / "completed" / show(rig, typed)["name"]
    rig.drop("copied", copied.read_text())
    rig.run_until_idle()
    assert (here / "again~2.txt").read_text().endswith(f"{here}\n")
    rig.assert_clean()


def test_what_the_files_say_counts_if_a_crash_took_the_entries(rig: Rig, here: Path) -> None:
    far = submit(rig, "--begin", "2100-01-01", "true")
    job = submit(rig, "pwd")
    (journal,) = (rig.home / "ledger" / "journals").glob("*.jsonl")
    journal.write_bytes(b"")
    rig.run("jobjar", "rebuild")
    worker = rig.start_worker()
    rig.run("jobjar", "wait", "--timeout", "60s", job)
    wait_until(lambda: show(rig, far)["not_before"])
    rig.stop_worker(worker)
    assert output(rig, job) == f"{here}\n"
    assert [move["reason"] for move in show(rig, far)["moves"]] == ["found", "delayed"]
    rig.assert_clean()


BAD: list[tuple[tuple[str, ...], str]] = [
    ((), "give a COMMAND"),
    (("",), "it is empty"),
    (("-p", "high", "true"), "priority 'high'"),
    (("-c", "a/b", "true"), "category 'a/b'"),
    (("--name", "a b", "true"), "identifier 'a b'"),
    (("--tag", "a/b", "true"), "tag: "),
    (("--dir", "nowhere", "true"), "there is no directory nowhere here"),
    (("--dir", ".", "--scratch", "true"), "either --dir or --scratch"),
    (("--output", "", "true"), "'' is no path"),
    (("--output", "logs/", "true"), "name a file in it"),
    (("--output", "%x", "true"), "there is no pattern '%x'"),
    (("--error", "50%", "true"), "there is no pattern '%'"),
    (("--env", "1A=2", "true"), "'1A' is no name of a variable"),
    (("--env", "NOT_SET_HERE", "true"), "NOT_SET_HERE is not set here"),
    (("--env", "JJ_HOME=/x", "true"), "the worker sets"),
    (("--begin", "soon", "true"), "'soon' is neither"),
    (("--begin", "25:00", "true"), "'25:00' is neither"),
    (("--begin", "+101000d", "true"), "100 years"),
    (("--tag", "a b", "true"), "attributes are: retries, retry_delay, time_limit, name, "),
    (("--begin", "9999-01-01", "true"), "100 years"),
    (("--time-limit", "soon", "true"), "time_limit: 'soon'"),
    (("--warn", "USR1@1m", "true"), "give a time_limit"),
    (("--warn", "USR1@1m", "--time-limit", "1m", "true"), "before the job"),
    (("--warn", "FOO@1m", "--time-limit", "5m", "true"), "not of the form SIGNAL@TIME"),
    (("--warn", "KILL@1m", "--time-limit", "5m", "true"), "no job can hear"),
    (("--retries", "-1", "true"), "retries: "),
    (("--retry-on", "3", "true"), "give retries too"),
    (("--retry-on", "0", "--retries", "1", "true"), "'0' is no exit status"),
    (("--no-retry-on", "300", "--retries", "1", "true"), "'300' is no exit status"),
    (("--job-runtime", "x", "true"), "job_runtime: "),
    (("--hold", "--wait", "true"), "leave out one"),
    (("-f", "nothing"), "No such file"),
]


def test_bad_input_is_refused_by_name_and_nothing_is_submitted(rig: Rig, here: Path) -> None:
    for words, reason in BAD:
        result = rig.run("jobjar", "submit", *words, check=False)
        assert result.returncode == (1 if words[0:1] == ("-f",) else 2), (words, result.stderr)
        assert reason in result.stderr and not result.stdout, (words, result.stderr)
    scripts = [
        ("", "the script is empty"),
        ("#JJ colour = red\n", "there is no attribute 'colour'"),
        ("#JJ output = %q\n", "line 1: output: "),
        ("#JJ hold = maybe\n", "'maybe' is neither yes nor no"),
        ("#JJ env = 'A=1\n", "no closing quotation"),
        ("#JJ run_command = true\n#JJ dir = /tmp\n", "dir is not for a described job"),
        ("#JJ run_command = true\n#JJ env = A=1\n", "`environment` sets"),
    ]
    for script, reason in scripts:
        with pytest.raises(AssertionError) as refused:
            submit_script(rig, script, "-")
        assert reason in str(refused.value), script
    assert rig.names("limbo") == rig.names("unclaimed") == []


def test_it_may_stay_until_the_job_has_ended_and_exits_as_it_did(rig: Rig, here: Path) -> None:
    rig.start_worker()
    for line, status in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)):
        result = rig.run("jobjar", "submit", "--wait", line, check=False)
        assert (result.returncode, len(result.stdout)) == (status, 13), result.stderr
    late = rig.run(
        "jobjar", "submit", "--wait", "--time-limit", "0.1", "trap 'exit 0' TERM; sleep 60 & wait", check=False
    )
    assert late.returncode == 124


def test_the_library_submits_the_same(rig: Rig, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("JJ_HOME", str(rig.home))
    monkeypatch.setenv("HANDED", "on")
    words = jobjar.submit(["printf", "%s:", "two words", "*"], name="w", tag="t", priority=3, category="SOME")
    line = jobjar.submit(
        "echo $A $HANDED; pwd", env={"A": "1", "HANDED": None}, output="%j.txt", retry_on=[3, 4], retries=1
    )
    script = jobjar.submit(script="#JJ tag = s\necho $1\n", arguments=["arg"], scratch=True, begin=time.time() - 5)
    old = jobjar.submit_job("pwd; echo $A", dir=".", env={"A": "2"})
    with pytest.raises(jobjar.JarError, match="give one of command"):
        jobjar.submit("true", script="true")
    rig.run_until_idle("SOME")
    assert output(rig, words) == "two words:*:" and show(rig, words)["tags"] == ["t"]
    assert (here / f"{line}.txt").read_text() == f"1 on\n{here}\n"
    assert (output(rig, script), show(rig, script)["tags"]) == ("arg\n", ["s"])
    assert output(rig, old) == f"{here}\n2\n"


def test_a_plain_job_beside_described_ones_is_given_the_same(rig: Rig, here: Path) -> None:
    # The described job goes on until the plain one, which its worker claims meanwhile, has ended.
    rig.drop("described", f"#!/bin/sh\n#JJ described = yes\n#JJ run_command = touch '{here}/runs'; cat '{here}/pipe'\n")
    os.mkfifo(here / "pipe")
    worker = rig.start_worker(JJ_RUN_SLOTS="3")
    wait_until((here / "runs").exists)
    script = 'trap "echo warned; exit 3" USR1; echo "$A $1"; pwd; echo err >&2; test -z "$2" || { sleep 60 & wait; }\n'
    options = ("--env", "A=1", "--output", "o.txt", "--error", "e.txt")
    job = submit_script(rig, script, *options, "-", "two words")
    warned = submit_script(rig, script, "--time-limit", "20s", "--warn", "USR1@18s", "-", "1", "2")
    piped = submit(rig, "--error", "p.txt", "echo 1 >&2; echo 2 > /dev/stderr; echo 3 >&2; echo out > /dev/stdout")
    missing = submit_script(rig, f"#JJ dir = {here}/none\ntrue\n", "-")
    rig.run("jobjar", "wait", "--timeout", "60s", job, warned, piped, missing, check=False)
    assert (here / "pipe").is_fifo() and show(rig, "described")["state"] == "claimed"
    assert (here / "o.txt").read_text() == f"1 two words\n{here}\n" and (here / "e.txt").read_text() == "err\n"
    assert (here / "p.txt").read_text() == "1\n2\n3\n" and output(rig, piped) == "out\n"
    assert output(rig, warned).endswith("warned\n") and show(rig, warned)["exit_status"] == 3
    assert f"its directory {here}/none cannot be used" in messages(rig, missing)[0]
    with open(here / "pipe", "w"):
        pass
    rig.run("jobjar", "wait", "--timeout", "60s", "described")
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_job_that_is_killed_with_its_worker_is_given_the_same_again(rig: Rig, here: Path) -> None:
    job = submit(
        rig, "--env", "A=1", "--output", "out.txt", "echo $A $JJ_ATTEMPT; pwd; test $JJ_ATTEMPT = 2 || exec sleep 60"
    )
    worker = rig.start_worker()
    wait_until(lambda: (here / "out.txt").exists() and (here / "out.txt").read_text().count("\n") == 2)
    wait_until(lambda: any(attempt["output_path"] for attempt in show(rig, job)["attempts"]))
    worker.kill()
    worker.wait()
    rig.run("recover_jobs")
    rig.run_until_idle()
    assert (here / "out~2.txt").read_text() == f"1 2\n{here}\n"
    paths = [attempt["output_path"] for attempt in show(rig, job)["attempts"]]
    assert paths == [f"{here}/out.txt", f"{here}/out~2.txt"]
    rig.assert_clean()


def test_an_entry_that_is_not_what_belongs_there_harms_nobody(rig: Rig, here: Path) -> None:
    wrong: list[Any] = [[], "x", {"dir": "relative"}, {"env": {"A": 1}}, {"arguments": "x"}, {"begin_at": "soon"}]
    wrong += [{"tags": "x"}, {"warn_signal": "USR1", "warn_before_s": "x"}]
    good, *jobs = [str(id_in_name(rig.submit("true"))) for _ in range(len(wrong) + 1)]
    (journal,) = (rig.home / "ledger" / "journals").glob("*.jsonl")
    given = dict(zip(jobs, wrong, strict=True))
    entries = [json.loads(line) for line in journal.read_text().split("\n") if line]
    for entry in entries:
        if entry["entry"] == "submitted" and entry["job"] in given:
            entry["given"] = given[entry["job"]]
    journal.write_text("".join("\n" + json.dumps(entry) for entry in entries))
    rig.run("jobjar", "rebuild")
    rig.run_until_idle()
    assert show(rig, good)["outcome"] == "succeeded"
    # Without a `submitted` entry that makes sense, the file says what is to be run.
    assert [show(rig, job)["state"] for job in jobs] == ["completed", "completed", *["limbo"] * 6]


def test_every_option_has_a_line_of_its_name() -> None:
    from jobjar.programs.submit import _ATTRIBUTES

    assert {*_ATTRIBUTES, "name", "priority", "category", "arguments"} == {
        *GIVEN,
        "time_limit",
        "retries",
        "retry_delay",
    }
