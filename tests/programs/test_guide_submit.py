"""The guide's examples of submitting, typed as they stand with other paths."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import Rig, wait_until

BIG = "/usr/local/bin/big_computation /data/infile.tmp 104.1 30"


@pytest.fixture
def standalone(tmp_path: Path) -> Path:
    """The guide's /opt/local/bin/standalone_job."""
    path = tmp_path / "opt" / "standalone_job"
    path.parent.mkdir()
    path.write_bytes(b"#!/bin/sh\necho standalone \xff\n")
    path.chmod(0o755)
    return path


def submitted(rig: Rig, line: str, category: str = "") -> Path:
    """Type a line that submits; the job's file, after a look at what was printed and what is in the jar."""
    before = set(rig.names(f"unclaimed/{category}"))
    result = rig.shell(line)
    [name] = set(rig.names(f"unclaimed/{category}")) - before
    assert result.stdout == f"{name}\n"
    assert result.stderr == ""
    assert rig.names("limbo") == []
    path = rig.home / "unclaimed" / category / name
    assert os.access(path, os.X_OK)
    return path


def test_submit_job_writes_the_words_into_a_script(rig: Rig) -> None:
    path = submitted(rig, f"$JJ_HOME/bin/submit_job {BIG}")
    assert path.read_bytes() == b"#!/bin/sh -f\n/usr/local/bin/big_computation /data/infile.tmp 104.1 30\n"
    assert path.name.endswith(".0")


def test_words_are_joined_by_single_spaces_and_quotes_are_the_shell_s(rig: Rig) -> None:
    path = submitted(rig, """submit_job echo   "two  words"    'it'"'"'s' \\"quoted\\" '*' '$HOME' """)
    assert path.read_bytes() == b'#!/bin/sh -f\necho two  words it\'s "quoted" * $HOME\n'
    path = submitted(rig, """submit_job 'grep "a  b" /dev/null'""")
    assert path.read_bytes() == b'#!/bin/sh -f\ngrep "a  b" /dev/null\n'


def test_options_after_the_command_belong_to_the_command(rig: Rig) -> None:
    line = "submit_job -p 3 ls -p 10 -c LINUX -i me -f file --retries 2 --help --home /x -- -z"
    path = submitted(rig, line)
    assert path.read_text().splitlines()[1] == line.removeprefix("submit_job -p 3 ")
    assert path.name.endswith(".3")
    path = submitted(rig, "submit_job -p 1 -- -odd-command -p 2")
    assert path.read_text().splitlines()[1] == "-odd-command -p 2"
    path = submitted(rig, "submit_job -p 1 -- grep -- -x")
    assert path.read_text().splitlines()[1] == "grep -- -x"


def test_submit_job_copies_a_file_as_it_is(rig: Rig, standalone: Path) -> None:
    path = submitted(rig, f"$JJ_HOME/bin/submit_job -f {standalone}")
    assert path.read_bytes() == standalone.read_bytes()
    path = submitted(rig, f"cd {standalone.parent}; $JJ_HOME/bin/submit_job -f standalone_job")
    assert path.read_bytes() == standalone.read_bytes()
    assert standalone.exists()


def test_the_priority_option(rig: Rig, standalone: Path) -> None:
    assert submitted(rig, f"$JJ_HOME/bin/submit_job -p 10 {BIG}").name.endswith(".10")
    path = submitted(rig, f"$JJ_HOME/bin/submit_job -p 10 -f {standalone}")
    assert path.name.endswith(".10")
    assert rig.show(path.name)["priority"] == 10
    assert submitted(rig, f"$JJ_HOME/bin/submit_job -p -3 {BIG}").name.endswith(".-3")


def test_the_category_option_makes_a_missing_category(rig: Rig, standalone: Path) -> None:
    assert not (rig.home / "unclaimed" / "LINUX").exists()
    path = submitted(rig, f"$JJ_HOME/bin/submit_job -c LINUX {BIG}", "LINUX")
    assert rig.show(path.name)["category"] == "LINUX"
    submitted(rig, f"$JJ_HOME/bin/submit_job -f {standalone} -c LINUX", "LINUX")


def test_the_identifier_option_and_what_a_name_says(rig: Rig) -> None:
    path = submitted(rig, f"$JJ_HOME/bin/submit_job -i test_run {BIG}")
    assert path.name.endswith("-test_run.0")
    login = rig.shell("id -un").stdout.strip()
    assert f"-{login}-" in path.name
    assert f"-{os.uname().nodename}-" in path.name
    assert path.name[8] == "T" and path.name[:8] == rig.shell("date -u +%Y%m%d").stdout.strip()


def test_attributes_given_as_options_are_the_job_s(rig: Rig) -> None:
    path = submitted(rig, "submit_job --retries 2 --retry-delay 5m --time-limit 1h true")
    shown = rig.show(path.name)
    assert (shown["retries"], shown["retry_delay_s"], shown["time_limit_s"]) == (2, 300, 3600)
    assert path.read_bytes() == b"#!/bin/sh -f\ntrue\n"


def test_manual_submission_with_cp_and_mv(rig: Rig, standalone: Path) -> None:
    rig.shell(f"cd $JJ_HOME/limbo\ncp {standalone} .\nmv standalone_job ../unclaimed")
    rig.shell(f"cd $JJ_HOME/limbo; cp {standalone} ./standalone_job.15; mv standalone_job.15 ../unclaimed")
    rig.shell(
        f"mkdir $JJ_HOME/unclaimed/LINUX; cd $JJ_HOME/limbo; cp {standalone} .; mv standalone_job ../unclaimed/LINUX"
    )
    rig.run_until_idle("LINUX")
    assert rig.names("completed") == ["standalone_job", "standalone_job.15", "standalone_job~2"]
    shown = rig.show("standalone_job.15")
    assert (shown["priority"], shown["outcome"], shown["category"]) == (15, "succeeded", None)
    assert shown["submitter"] == rig.shell("id -un").stdout.strip()
    assert shown["id"] and shown["submitted_at"]
    shown = rig.show("completed/standalone_job")
    assert (shown["category"], shown["priority"]) == ("LINUX", 0)
    rig.assert_clean()


def test_unique_job_name_in_backquotes(rig: Rig, standalone: Path) -> None:
    script = """
jobname=`$JJ_HOME/bin/unique_job_name{options}`
cp {job} $jobname
mv $jobname $JJ_HOME/unclaimed
echo $jobname
unset jobname
"""
    for options, end in (("", ".0"), (" -p 15", ".15"), (" -p -2 -i test_run", "-test_run.-2")):
        path = rig.shell(script.format(options=options, job=standalone)).stdout.strip()
        assert path.startswith(f"{rig.home}/limbo/")
        assert path.endswith(end)
        assert Path(path).name in rig.names("unclaimed")
    assert len(set(rig.names("unclaimed"))) == 3
    rig.run_until_idle()
    assert len(rig.names("completed")) == 3
    rig.assert_clean()


def test_the_python_examples(rig: Rig, standalone: Path) -> None:
    script = f"""
import jobjar
jobjar.submit_job('{BIG}')
# Submit this job at a low priority
jobjar.submit_job_file('{standalone}', -3, id='test_run')
# Submit this job with category LINUX
jobjar.submit_job_file('{standalone}', category='LINUX')
"""
    subprocess.run([sys.executable, "-c", script], env=rig.environment, check=True, timeout=60)
    first, second = sorted(rig.names("unclaimed"), key=lambda name: name.endswith(".-3"))
    assert (rig.home / "unclaimed" / first).read_bytes() == f"#!/bin/sh -f\n{BIG}\n".encode()
    assert second.endswith("-test_run.-3")
    assert (rig.home / "unclaimed" / second).read_bytes() == standalone.read_bytes()
    assert len(rig.names("unclaimed/LINUX")) == 1


def test_a_seed_job_submits_jobs_through_path(rig: Rig, tmp_path: Path) -> None:
    seed = tmp_path / "distribute_sr"
    seed.write_text(
        "#!/bin/sh -e\n"
        "case $(command -v submit_job) in $JJ_HOME/bin/submit_job) ;; *) exit 7 ;; esac\n"
        "for start in 1 11 21 31; do submit_job -i sr echo run_sr /data/sr_input $start $((start + 9)); done\n"
    )
    seed.chmod(0o755)
    rig.run("submit_job", "-f", str(seed))
    # No directory of the programs on the worker's own PATH.
    worker = rig.start_worker(PATH="/usr/bin:/bin")
    wait_until(lambda: len(rig.names("completed")) == 5, "the end of the seed job and its jobs")
    rig.stop_worker(worker)
    outputs = [rig.run("jobjar", "output", name).stdout for name in rig.names("completed") if "-sr." in name]
    assert sorted(outputs) == [f"run_sr /data/sr_input {start} {start + 9}\n" for start in (1, 11, 21, 31)]
    rig.assert_clean()


@pytest.mark.slow
def test_three_stages_by_monitors_that_resubmit_themselves(rig: Rig, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "stage").write_text(
        "#!/bin/sh -e\n"
        "# stage N: submit the three parts of a stage and its monitor\n"
        f"for part in 1 2 3; do submit_job touch {work}/$1.$part; done\n"
        f"submit_job -p -1 {work}/monitor $1 -2\n"
    )
    (work / "monitor").write_text(
        "#!/bin/sh -e\n"
        f"if [ $(ls {work}/$1.[123] 2>/dev/null | wc -l) -lt 3 ]; then\n"
        f"  echo $2 >> {work}/resubmitted; exec submit_job -p $2 {work}/monitor $1 $(($2 - 1))\n"
        "fi\n"
        f"if [ $1 -lt 3 ]; then submit_job {work}/stage $(($1 + 1)); else touch {work}/finished; fi\n"
    )
    for name in ("stage", "monitor"):
        (work / name).chmod(0o755)
    # A monitor that comes too early has to find work that is not done.
    rig.submit("-p", "5", f"{work}/monitor", "1", "-4")
    rig.submit(f"{work}/stage", "1")
    workers = [rig.start_worker(), rig.start_worker()]
    wait_until((work / "finished").exists, "the end of the third stage")
    rig.run("jobjar", "wait", "--all", "--timeout", "60s")
    for worker in workers:
        rig.stop_worker(worker)
    assert len(list(work.glob("?.?"))) == 9
    assert "-4" in (work / "resubmitted").read_text().split()
    assert {job["outcome"] for job in map(rig.show, rig.names("completed"))} == {"succeeded"}
    rig.assert_clean()
