"""submit_batch, batch_edit and abort_batch, as people run them, and the library's functions of the same names."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

import jobjar
from jobjar.job_file.attributes import read_description
from tests.described_jobs import describe
from tests.rig import BIN, Rig, stop_at_rest, wait_until

FILE = 'batch\nname = "wc-$(level)"\nseeds = "1-$(last)"\nrun_command = "count"\npriority = 2\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wc.jug"
    path.write_text(FILE)
    return path


def seeds_in(rig: Rig, state: str) -> list[int]:
    paths = [rig.home / state / name for name in rig.names(state)]
    return sorted(read_description(path.read_bytes(), "").seed or 0 for path in paths)


def test_a_batch_is_submitted_edited_aborted_and_restarted(rig: Rig, file: Path) -> None:
    assert rig.run("submit_batch", str(file), "level=3", "last=4").stdout == "wc-3\n"
    assert seeds_in(rig, "unclaimed") == [1, 2, 3, 4]
    assert all(name.endswith(".2") and "-wc-3-" in name for name in rig.names("unclaimed"))
    assert rig.run("batch_edit", "wc-3", "seeds=1-6", "priority=9").stdout == "2\n"
    assert seeds_in(rig, "unclaimed") == [1, 2, 3, 4, 5, 6]
    assert all(name.endswith(".9") for name in rig.names("unclaimed"))
    assert rig.run("abort_batch", "wc-3").stdout == "6 cancelled, 0 killed, 0 submitted again\n"
    assert rig.run("abort_batch", "--restart", "wc-3").stdout == "0 cancelled, 0 killed, 6 submitted again\n"
    assert seeds_in(rig, "unclaimed") == seeds_in(rig, "completed") == [1, 2, 3, 4, 5, 6]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    rig.assert_clean()
    described = rig.show(rig.names("completed")[0])
    assert described["outcome"] == "cancelled"
    assert described["attempts"][0]["message"].startswith("batch wc-3 was aborted by ")
    assert [move["reason"] for move in described["moves"]][-1] == "cancelled"


def test_what_is_dropped_by_hand_into_an_aborted_batch_waits_until_that_is_restarted(rig: Rig, file: Path) -> None:
    rig.run("submit_batch", str(file), "level=3", "last=1")
    rig.run("abort_batch", "wc-3")
    dropped = describe(rig, "dropped.9", batch="wc-3", seed="7", run_command="true")
    stored = describe(rig, "stored.9", "STORAGE-tape", batch="wc-3", seed="8", run_command="true")
    other = describe(rig, "other", batch="another", run_command="true")
    worker = rig.start_worker("STORAGE-tape")
    wait_until(lambda: {stored, other} <= set(rig.names("completed")), "the other jobs")
    assert rig.names("unclaimed") == [dropped]
    assert rig.show(dropped)["waits_because"] == [
        "its batch wc-3 is aborted; `abort_batch --restart wc-3` takes that back"
    ]
    rig.run("recover_jobs")
    assert rig.names("unclaimed") == [dropped]
    rig.run("abort_batch", "--restart", "wc-3")
    wait_until(lambda: dropped in rig.names("completed"), "the end of the dropped job")
    assert rig.show(dropped)["outcome"] == "succeeded"
    rig.stop_worker(worker)
    rig.assert_clean()


def test_what_was_submitted_again_counts_once_in_the_status(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "b.jug").write_text(
        f'batch\nname = "b"\nseeds = "1-4"\nretries = 0\nrun_command = "test -e {tmp_path}/go || test $JUG_SEED = 2"\n'
    )

    def status() -> tuple[int, int, dict[str, int], int]:
        (batch,) = json.loads(rig.run("batch_status", "--format", "json", "b").stdout)["batches"]
        return batch["done"], batch["jobs"], batch["phases"], batch["restarted"]

    rig.run("submit_batch", f"{tmp_path}/b.jug")
    rig.run_until_idle()
    assert status() == (4, 4, {"succeeded": 1, "failed": 3}, 0)
    rig.run("abort_batch", "--restart", "b")
    assert status() == (1, 4, {"waiting": 3, "succeeded": 1}, 3)
    rig.run("abort_batch", "--restart", "b")
    assert status() == (1, 4, {"waiting": 3, "succeeded": 1}, 3)
    rig.run("abort_batch", "--restart", "--kill", "b")
    assert status() == (1, 4, {"waiting": 3, "succeeded": 1}, 6)
    (tmp_path / "go").touch()
    rig.run_until_idle()
    assert status() == (4, 4, {"succeeded": 4}, 6)
    assert "submitted again  6" in rig.run("batch_status", "b").stdout
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert status() == (4, 4, {"succeeded": 4}, 6)


def test_batches_come_from_several_files_and_standard_input_as_one_submission(
    rig: Rig, tmp_path: Path, file: Path
) -> None:
    (tmp_path / "b.toml").write_text('[batch]\nname = "t"\n')
    result = rig.shell(f"printf 'batch\\nname = \"s\"\\n' | submit_batch {file} - {tmp_path}/b.toml last=2 level=1")
    assert result.stdout == "wc-1\ns\nt\n"
    assert len(rig.names("unclaimed")) == 4
    rig.run("recover_jobs")
    rig.assert_clean()


def test_what_is_wrong_with_all_files_is_said_at_once_and_nothing_is_submitted(
    rig: Rig, tmp_path: Path, file: Path
) -> None:
    (tmp_path / "b.jug").write_text('batch\nname = "b\nbatch\nname = "wc-3"\nrun_command = "$(level) $(what)"\n')
    result = rig.run("submit_batch", str(file), f"{tmp_path}/b.jug", "level=3", "other=1", check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    for part in (
        f"{tmp_path}/b.jug, line 2: name: the quote is not closed in its line",
        f"{tmp_path}/b.jug, line 4: a batch wc-3 is described already in {file}, line 2",
        f"{file}, line 3: there is no parameter last; give it as last=VALUE",
        f"{tmp_path}/b.jug, line 5: there is no parameter what; give it as what=VALUE",
        "the parameter other=1 is used nowhere",
        "nothing was submitted",
    ):
        assert part in result.stderr
    assert rig.names("unclaimed") == rig.names("limbo") == []
    assert list((rig.home / "batches").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["submit_batch"], 2, "required: FILE"),
        (["submit_batch", "a=1"], 2, "name a FILE"),
        (["submit_batch", "/none"], 2, "/none: No such file"),
        (["submit_batch", "/dev/null", "a=1", "a=2"], 2, "parameter a is given twice"),
        (["batch_edit", "none", "seeds=1-2"], 1, "there is no batch none in"),
        (["batch_edit", "none", "seeds"], 2, "'seeds' is not of the form KEY=VALUE"),
        (["batch_edit", "none", "color=red"], 2, "color cannot be changed"),
        (["abort_batch", "none"], 1, "there is no batch none in"),
    ],
)
def test_what_cannot_be_done_is_said(rig: Rig, words: list[str], status: int, told: str) -> None:
    result = rig.run(*words, check=False)
    assert (result.returncode, result.stdout) == (status, "")
    assert told in result.stderr


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('input_files = "words.txt"', "input_files: words.txt cannot be fetched: it is not an absolute path"),
        ('software = "wc.tgz"', "software: wc.tgz cannot be fetched: it is not an absolute path"),
        ('workware = "ftp://host/x"', "workware: ftp://host/x cannot be fetched: files are fetched from paths, file:"),
    ],
)
def test_what_no_worker_could_fetch_is_refused_at_submission(rig: Rig, tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "b.jug").write_text(f'batch\nname = "b"\n{line}\nrun_command = "true"\n')
    result = rig.run("submit_batch", f"{tmp_path}/b.jug", check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{tmp_path}/b.jug, line 3: {told}" in result.stderr
    assert rig.names("unclaimed") == []


def test_two_input_files_of_one_name_are_refused_and_never_take_each_other_s_place(rig: Rig, tmp_path: Path) -> None:
    files = [tmp_path / "one" / "in", tmp_path / "two" / "in"]
    for file in files:
        file.parent.mkdir()
        file.write_text(str(file))
    told = f"input_files: {files[0]} and {files[1]} are both called 'in'; name one otherwise, with #name=…"
    text = f'batch\nname = "b"\nrun_command = "cat in"\ninput_files = "{files[0]}"\njob\ninput_files = "{files[1]}'
    (tmp_path / "b.jug").write_text(f'{text}"\n')
    result = rig.run("submit_batch", f"{tmp_path}/b.jug", check=False)
    assert result.returncode == 2 and f"{tmp_path}/b.jug, line 5: {told}" in result.stderr
    # The same by hand.
    job = describe(rig, "job", run_command="cat in", input_files=f"{files[0]} {files[1]}", retries="0")
    rig.run_until_idle()
    assert rig.show(job)["attempts"][0]["message"] == f"stage_in: {told}"
    (tmp_path / "b.jug").write_text(f'{text}#name=other"\n')
    rig.run("submit_batch", f"{tmp_path}/b.jug")
    rig.run_until_idle()
    assert [rig.show(name)["outcome"] for name in rig.names("completed")].count("succeeded") == 1


def test_a_submission_that_is_interrupted_says_so_and_leaves_nothing(rig: Rig, file: Path) -> None:
    words = [str(BIN / "submit_batch"), str(file), "level=3", "last=200000"]
    process = subprocess.Popen(words, env=rig.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(rig.home.glob("limbo/.batch-*/*/*")), "the first jobs to be written")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)
    assert told == ("", "submit_batch: interrupted: batch wc-3 was not made, and left nothing behind\n")
    assert process.returncode == 130
    assert list((rig.home / "limbo").iterdir()) == list((rig.home / "batches").iterdir()) == []
    rig.run("submit_batch", str(file), "level=3", "last=2")
    assert seeds_in(rig, "unclaimed") == [1, 2]


def stop_a_worker_of_a_batch(rig: Rig, tmp_path: Path) -> subprocess.Popen[str]:
    """A worker that runs the one job of batch b, and does not react any more."""
    (tmp_path / "b.jug").write_text('batch\nname = "b"\nrun_command = "sleep 60"\n')
    rig.run("submit_batch", f"{tmp_path}/b.jug")
    worker = rig.start_worker()
    wait_until(lambda: not rig.names("unclaimed"), "the claim")
    stop_at_rest(worker.pid)
    return worker


def test_a_batch_is_aborted_but_not_restarted_while_jobs_of_it_cannot_be_ended(rig: Rig, tmp_path: Path) -> None:
    worker = stop_a_worker_of_a_batch(rig, tmp_path)
    try:
        result = rig.run("abort_batch", "--restart", "--kill", "b", check=False)
    finally:
        worker.send_signal(signal.SIGCONT)
    assert result.returncode == 2
    assert "abort_batch: batch b is aborted, but not restarted: 1 of its jobs still run (" in result.stderr
    assert "nothing was changed" not in result.stderr
    wait_until(lambda: rig.names("completed"), "the job to be killed")
    assert rig.run("abort_batch", "--restart", "b").stdout == "0 cancelled, 0 killed, 1 submitted again\n"
    rig.run("abort_batch", "b")
    rig.stop_worker(worker)
    rig.assert_clean()


def test_an_abortion_that_is_interrupted_says_what_is_left_to_do(rig: Rig, tmp_path: Path) -> None:
    worker = stop_a_worker_of_a_batch(rig, tmp_path)
    try:
        words = [str(BIN / "abort_batch"), "b"]
        process = subprocess.Popen(words, env=rig.environment, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: list(rig.home.glob("workers/*/KILL.*")), "the order to kill the job")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        worker.send_signal(signal.SIGCONT)
    assert told == "abort_batch: interrupted: the abort of batch b is decided; recover_jobs finishes it\n"
    assert process.returncode == 130
    wait_until(lambda: rig.names("completed"), "the job to be killed")
    rig.run("recover_jobs")
    assert rig.run("abort_batch", "--restart", "b").stdout == "0 cancelled, 0 killed, 1 submitted again\n"
    rig.run("abort_batch", "b")
    rig.stop_worker(worker)
    rig.assert_clean()


def test_running_jobs_of_an_aborted_batch_are_killed(rig: Rig, file: Path) -> None:
    rig.run("submit_batch", str(file), "level=3", "last=3")
    for name in rig.names("unclaimed"):
        path = rig.home / "unclaimed" / name
        path.write_text(re.sub("(?m)^#JJ run_command = .*$", "#JJ run_command = sleep 60", path.read_text()))
    worker = rig.start_worker(JJ_STAGED_AHEAD="0")
    wait_until(lambda: len(rig.names("unclaimed")) == 2)
    assert rig.run("abort_batch", "wc-3").stdout == "2 cancelled, 1 killed, 0 submitted again\n"
    assert sorted(rig.show(name)["outcome"] for name in rig.names("completed")) == ["cancelled", "cancelled", "killed"]
    rig.stop_worker(worker)
    rig.assert_clean()


def test_a_batch_is_one_of_its_group_and_nobody_else_s(tmp_path: Path, file: Path) -> None:
    rig = Rig(tmp_path / "jar", make=False)
    rig.run("jobjar", "init", "--group", str(rig.home))
    rig.run("submit_batch", str(file), "level=3", "last=1")
    assert (rig.home / "batches/wc-3").stat().st_mode & 0o7777 == 0o2770
    assert (rig.home / "batches/wc-3/batch.json").stat().st_mode & 0o7777 == 0o660
    (name,) = rig.names("unclaimed")
    assert (rig.home / "unclaimed" / name).stat().st_mode & 0o777 == 0o770


def test_the_programs_of_a_jar_are_there_too(rig: Rig) -> None:
    for program in ("submit_batch", "batch_edit", "abort_batch"):
        assert (rig.home / "bin" / program).exists() and (BIN / program).exists()
        assert f"jobjar {program}" in rig.run("jobjar", program.replace("_", "-"), "--help").stdout


@pytest.mark.usefixtures("own_library")
def test_the_library_submits_edits_and_aborts_batches(rig: Rig, file: Path) -> None:
    ((name, jobs),) = jobjar.submit_batch(file, level=3, last=2)
    assert (name, jobs) == ("wc-3", 2)
    assert jobjar.batch_edit("wc-3", seeds="1-4", priority=5) == 2
    done = jobjar.abort_batch("wc-3", restart=True, kill=True)
    assert (done.cancelled, done.restarted) == (4, 4)
    assert seeds_in(rig, "unclaimed") == [1, 2, 3, 4]
    with pytest.raises(jobjar.JarError, match="there is no parameter level"):
        jobjar.submit_batch(file, last=2)
