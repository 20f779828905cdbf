"""What a worker does around described jobs: the document of the worker's cycle, sentence by sentence, by real workers.

Each test's docstring says the sentence. `test_described.py` has polling, and how stages of neighbours overlap.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.described_jobs import describe, entries, outcome, phases, said
from tests.rig import Rig, wait_until

STAGES = ("stage_in", "run", "stage_out")


def wait_for(*paths: Path) -> str:
    """Lines of sh that wait until all of these are there."""
    return "".join(f"while [ ! -e {path} ]; do sleep 0.01; done; " for path in paths)


def test_software_and_rundata_are_there_before_the_command_of_stage_in_and_that_ends_before_the_run(
    rig: Rig, tmp_path: Path
) -> None:
    """Stage-in: install the software, download the rundata, then stage_in_command; run; stage_out_command comes last."""
    (tmp_path / "data").write_text("data\n")
    (tmp_path / "p" / "package").mkdir(parents=True)
    (tmp_path / "p" / "package" / "setup.sh").write_text("SET=up\n")
    name = describe(
        rig,
        "job",
        software=f"{tmp_path}/p",
        input_files=f"{tmp_path}/data",
        stage_in_command="echo $SET in; mv data made",
        run_command="echo $SET run; cat made",
        stage_out_command="echo $SET out; rm made",
    )
    rig.run_until_idle()
    assert said(rig, name).splitlines() == ["up in", "up run", "data", "up out"]
    assert [phase[:2] for phase in phases(rig, name)] == [(stage, 0) for stage in STAGES]


def test_where_nothing_is_configured_a_stage_has_one_job_at_a_time(rig: Rig, tmp_path: Path) -> None:
    """By default one job runs, one is staged in and one is staged out at a time."""
    alone = f"mkdir {tmp_path}/$JJ_PHASE && sleep 0.03 && rmdir {tmp_path}/$JJ_PHASE"
    commands = {f"{stage}_command": alone for stage in STAGES}
    names = [describe(rig, f"job{number}", retries=0, **commands) for number in range(5)]
    rig.run_until_idle()
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * 5


@pytest.mark.parametrize("stage", STAGES)
def test_any_stage_may_have_more_jobs_at_once(rig: Rig, tmp_path: Path, stage: str) -> None:
    """Each of the stages may be configured for several at once: here two jobs end only if they meet in it."""
    meet = f"touch {tmp_path}/$JJ_JOB; {wait_for(tmp_path / 'a', tmp_path / 'b')} true"
    names = [describe(rig, name, **{"run_command": "true", f"{stage}_command": meet}) for name in ("a", "b")]
    rig.run_until_idle(**{f"JJ_{stage.upper()}_SLOTS": "2"})
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * 2


@pytest.mark.parametrize("ahead", [1, 3])
def test_as_many_jobs_are_staged_in_ahead_as_is_configured_and_no_more(rig: Rig, tmp_path: Path, ahead: int) -> None:
    """A worker may stage in N jobs ahead of the one that runs instead of 1, to go on when a service is away."""
    go = tmp_path / "go"
    names = [
        describe(
            rig,
            f"job{number}",
            stage_in_command=f"touch {tmp_path}/in$JJ_JOB; sleep 0.02",
            run_command=wait_for(go) + "true",
        )
        for number in range(ahead + 2)
    ]
    worker = rig.start_worker(JJ_STAGED_AHEAD=str(ahead))
    wait_until(lambda: len([phase for name in names[:-1] for phase in phases(rig, name)]) == ahead + 1, "those ahead")
    rig.run("system_status")  # and time for one more claim, if it were to come
    assert rig.names("unclaimed") == names[-1:]
    assert not (tmp_path / f"in{names[-1]}").exists()
    go.touch()
    wait_until(lambda: rig.names("completed") == names, "all to be completed")
    rig.stop_worker(worker)
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * len(names)


def test_what_is_over_is_told_while_the_job_waits_for_what_comes_next(rig: Rig, tmp_path: Path) -> None:
    """A job that is staged in ahead is not being staged in any more, and one that is asked for now and then does not run here."""
    go = tmp_path / "go"
    ahead = describe(rig, "b.1", stage_in_command="sleep 0.05", run_command="true")
    polled = describe(
        rig,
        "a.2",
        run_command="true",
        polling_command=f"[ ! -e {go} ] || echo finished = 1 > jug_polling.vars",
        polling_time="0.5",
    )
    worker = rig.start_worker()
    wait_until(lambda: rig.status()["phases"] == {"poll": 1, "claimed": 1}, "the phases that they are in")
    assert [phase[:2] for phase in phases(rig, ahead)] == [("stage_in", 0)]
    assert [phase[:2] for phase in phases(rig, polled)] == [("run", 0)]
    go.touch()
    wait_until(lambda: rig.names("completed") == [polled, ahead], "both to be completed")
    rig.stop_worker(worker)
    assert [phase[:2] for phase in phases(rig, polled)] == [("run", 0), ("poll", 0)]
    rig.assert_clean()


@pytest.mark.parametrize("queue", [1, 2])
def test_as_many_jobs_wait_for_stage_out_as_is_configured_before_the_next_has_to(
    rig: Rig, tmp_path: Path, queue: int
) -> None:
    """A worker may queue up the stage-out of N jobs instead of 1, and run others meanwhile."""
    go = tmp_path / "go"
    names = [
        describe(
            rig,
            f"job{number}",
            run_command="touch " + str(tmp_path / "ran$JJ_JOB"),
            stage_out_command=wait_for(go) + "true",
        )
        for number in range(queue + 3)
    ]
    ran = [tmp_path / f"ran{name}" for name in names]
    worker = rig.start_worker(JJ_STAGE_OUT_QUEUE=str(queue))
    # One more has run: it keeps its slot until there is room behind it.
    wait_until(lambda: all(path.exists() for path in ran[: queue + 1]), "those that may run")
    rig.run("system_status")  # and time for one more to run, if it were to
    assert not ran[queue + 1].exists()
    go.touch()
    wait_until(lambda: rig.names("completed") == names, "all to be completed")
    rig.stop_worker(worker)
    assert [outcome(rig, name)[1] for name in names] == ["succeeded"] * len(names)


def test_a_job_in_another_queue_is_asked_for_at_once_and_then_every_polling_time(rig: Rig, tmp_path: Path) -> None:
    """polling_command is called until jug_polling.vars says that the job is finished."""
    ask = f"date +%s.%N >> {tmp_path}/asked; [ $(wc -l < {tmp_path}/asked) -lt 4 ] || echo finished = 1 > jug_polling.vars"
    name = describe(rig, "job", run_command="true", polling_command=ask, polling_time="0.2")
    rig.run_until_idle(JJ_POLLING_TIME="60")
    assert outcome(rig, name) == ("completed", "succeeded", 0, 1)
    times = [float(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert len(times) == 4
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(times))


def test_what_a_job_in_another_queue_says_of_itself_is_read_while_it_is_polled(rig: Rig, tmp_path: Path) -> None:
    """Progress is read about every JJ_PROGRESS_TIME, also of a job that runs elsewhere."""
    go = tmp_path / "go"
    work = f"echo n = 1 > jug_monitor.vars; {wait_for(go)} echo n = 2 > jug_monitor.vars; touch result"
    name = describe(
        rig,
        "job",
        run_command=f"setsid sh -c '{work}' < /dev/null > /dev/null 2>&1 &",
        polling_command="[ ! -e result ] || echo finished = 1 > jug_polling.vars",
        polling_time="0.05",
    )
    worker = rig.start_worker(JJ_PROGRESS_TIME="0.1")
    wait_until(lambda: entries(rig, "variables"), "the progress")
    assert rig.show(name)["attempts"][0]["variables"] == {"n": "1"}
    go.touch()
    wait_until(lambda: rig.names("completed") == [name])
    rig.stop_worker(worker)
    assert rig.show(name)["attempts"][0]["variables"] == {"n": "2"}


def test_a_job_that_puts_a_file_where_its_directory_was_costs_its_neighbours_nothing(rig: Rig, tmp_path: Path) -> None:
    """Its monitored variables are looked for in the directory that it removed."""
    go = tmp_path / "go"
    odd = f'here=$PWD; cd ..; rm -r "$here"; touch "$here" {tmp_path}/odd; {wait_for(go)} true'
    names = [describe(rig, "odd.2", run_command=odd), describe(rig, "even.1", run_command=wait_for(go) + "echo even")]
    worker = rig.start_worker(JJ_PROGRESS_TIME="0.05", JJ_RUN_SLOTS="2")
    wait_until((tmp_path / "odd").exists, "the file")
    rig.run("system_status")  # and time for some looks
    go.touch()
    wait_until(lambda: rig.names("completed") == sorted(names), "both to be completed")
    told = rig.stop_worker(worker)
    assert [outcome(rig, name) for name in names] == [("completed", "succeeded", 0, 1)] * 2
    assert "Not a directory" not in told
    assert entries(rig, "warned", names[0]) == []
    rig.assert_clean()
