from __future__ import annotations

import inspect
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import jobjar
from jobjar.host import node_name
from jobjar.job_file.names import priority_in_name
from tests.journaled_jobs import DescribedJob
from tests.rig import Rig

EXECUTOR = {"Executor", "map", "gather", "wait_async", "CallLost", "ExecutorBroken"}
# What the guide and the project's pages promise by name.
PROMISED = [
    "submit",
    "submit_array",
    "submit_job",
    "submit_job_file",
    "submit_jobs",
    "submit_batch",
    "batch_edit",
    "abort_batch",
    "unique_job_name",
    "set_home",
    "get_home",
    "set_worker_home",
    "get_worker_home",
    "set_pause_time",
    "get_pause_time",
    "set_categories",
    "get_categories",
    "stop_all",
    "stop_node",
    "stop_worker",
    "pause_all",
    "pause_node",
    "pause_worker",
    "unpause_all",
    "unpause_node",
    "unpause_worker",
    "running_workers",
    "unclaimed_jobs",
    "claimed_jobs",
    "completed_jobs",
    "list_jobs",
    "explain",
    "history",
    "list_workers",
    "output",
    "follow_output",
    "stats",
    "cancel",
    "hold",
    "retry",
    "remove",
    "release",
    "set_priority",
    "move",
    "job",
    "batch_status",
    "list_outputs",
    "get_output",
    "wait",
    "workload_limit",
    "workload_limits",
]


@pytest.fixture
def home(rig: Rig) -> Path:
    jobjar.set_home(str(rig.home))
    return rig.home


def test_every_promised_function_is_there_and_documented() -> None:
    assert set(PROMISED) <= set(jobjar.__all__) & set(dir(jobjar))
    for name in PROMISED:
        function = getattr(jobjar, name)
        assert inspect.isfunction(function), name
        assert inspect.getdoc(function), name


def test_nothing_else_is_there() -> None:
    assert set(jobjar.__all__) == {*PROMISED, "Job", "JarError", "__version__"} | EXECUTOR
    with pytest.raises(AttributeError, match="nothing_such"):
        jobjar.nothing_such  # noqa: B018


def test_importing_the_library_imports_nothing_heavy() -> None:
    program = "import sys; before = set(sys.modules); import jobjar; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "peewee",
        "pysqlite3",
        "sqlite3",
        "argparse",
        "psutil",
        "tabulate",
        "portalocker",
        "daemon",
        "typing",
        "re",
    }
    assert not {name.partition(".")[0] for name in loaded} & heavy
    assert "jobjar.library" not in loaded


def test_submitting_imports_no_database_and_no_reports(rig: Rig) -> None:
    program = "import sys, jobjar; jobjar.submit_job('true'); print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=rig.environment
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert not loaded & {"peewee", "pysqlite3", "argparse", "psutil", "tabulate", "daemon"}
    assert len(rig.names("unclaimed")) == 1


def test_a_command_is_submitted(rig: Rig, home: Path) -> None:
    name = jobjar.submit_job("echo hello", priority=3, category="LINUX", id="mine", retries=2, time_limit="5m")
    assert (home / "unclaimed/LINUX" / name).read_text() == "#!/bin/sh -f\necho hello\n"
    assert name.endswith("-mine.3")
    shown = rig.show(name)
    assert (shown["retries"], shown["time_limit_s"], shown["category"], shown["priority"]) == (2, 300.0, "LINUX", 3)


def test_a_file_is_submitted_as_a_copy(rig: Rig, home: Path, tmp_path: Path) -> None:
    (tmp_path / "job").write_text("#!/bin/sh\necho\n")
    (tmp_path / "job").chmod(0o755)
    name = jobjar.submit_job_file(str(tmp_path / "job"), 1)
    assert (home / "unclaimed" / name).read_text() == "#!/bin/sh\necho\n"
    assert (tmp_path / "job").exists()


def test_many_jobs_of_all_kinds_are_submitted_in_order(rig: Rig, home: Path, tmp_path: Path) -> None:
    (tmp_path / "job").write_text("#!/bin/sh\necho file\n")
    (tmp_path / "job").chmod(0o755)
    names = jobjar.submit_jobs(
        ["echo 1", ["echo", "2"], {"command": "echo 3", "priority": 7, "retries": 1}, {"path": str(tmp_path / "job")}]
    )
    texts = [(home / "unclaimed" / name).read_text().splitlines()[1] for name in names]
    assert texts == ["echo 1", "echo 2", "echo 3", "echo file"]
    assert [priority_in_name(name) for name in names] == [0, 0, 7, 0]


def test_more_jobs_than_are_submitted_at_once_are_all_there(rig: Rig, home: Path) -> None:
    names = jobjar.submit_jobs(f"echo {number}" for number in range(1000))
    assert rig.names("unclaimed") == sorted(names)
    assert len(set(names)) == 1000
    assert [job.name for job in jobjar.unclaimed_jobs()] == names


@pytest.mark.parametrize("job", [{}, {"command": "true", "path": "/bin/true"}, {"priority": 3}])
def test_a_job_without_a_command_or_with_two_is_refused(home: Path, job: dict[str, object]) -> None:
    with pytest.raises(jobjar.JarError, match="either a command or a path"):
        jobjar.submit_jobs([job])


def test_errors_are_jar_errors_that_say_what_is_wrong(home: Path) -> None:
    for arguments, reason in (
        ({"priority": 10**9}, "priority 1000000000"),
        ({"category": "a/b"}, "category 'a/b'"),
        ({"id": "a b"}, "identifier 'a b'"),
        ({"colour": "red"}, "no attribute 'colour'"),
    ):
        with pytest.raises(jobjar.JarError, match=reason):
            jobjar.submit_job("true", **arguments)


def test_a_unique_name_lies_in_limbo_and_names_nothing_yet(home: Path) -> None:
    path = Path(jobjar.unique_job_name(5, "mine"))
    assert path.parent == home / "limbo"
    assert path.name.endswith("-mine.5")
    assert not path.exists()
    assert jobjar.unique_job_name() != jobjar.unique_job_name()


def test_settings_of_the_library_go_before_those_of_the_environment(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JJ_HOME", f"{tmp_path}/elsewhere")
    monkeypatch.setenv("JJ_WORKER_HOME", f"{tmp_path}/elsewhere/workers")
    monkeypatch.setenv("JJ_PAUSE_TIME", "7")
    monkeypatch.setenv("JJ_CATEGORIES", "X Y")
    assert jobjar.get_home() == f"{tmp_path}/elsewhere"
    assert (jobjar.get_pause_time(), jobjar.get_categories()) == (7.0, ["X", "Y"])
    jobjar.set_home(str(rig.home))
    jobjar.set_worker_home(f"{rig.home}/workers")
    jobjar.set_pause_time(1.5)
    jobjar.set_categories(["A", "B"])
    assert jobjar.get_home() == str(rig.home)
    assert jobjar.get_worker_home() == f"{rig.home}/workers"
    assert (jobjar.get_pause_time(), jobjar.get_categories()) == (1.5, ["A", "B"])
    jobjar.set_categories("C")
    assert jobjar.get_categories() == ["C"]
    jobjar.set_categories([])
    assert jobjar.get_categories() == []


def test_a_bad_setting_names_the_call_that_made_it() -> None:
    calls: list[tuple[Callable[[], None], str]] = [
        (lambda: jobjar.set_home("relative"), r"set_home\(\)"),
        (lambda: jobjar.set_pause_time(0), r"set_pause_time\(\)"),
        (lambda: jobjar.set_categories(["../x"]), r"set_categories\(\)"),
    ]
    for call, reason in calls:
        with pytest.raises(jobjar.JarError, match=reason):
            call()


def test_another_home_is_another_jar_from_then_on(tmp_path: Path) -> None:
    rigs = [Rig(tmp_path / name) for name in "ab"]
    for rig in rigs:
        jobjar.set_home(str(rig.home))
        jobjar.submit_job("true")
    assert [len(rig.names("unclaimed")) for rig in rigs] == [1, 1]


def test_no_jar_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    assert jobjar.get_home() == ""
    with pytest.raises(jobjar.JarError, match="set JJ_HOME"):
        jobjar.submit_job("true")
    jobjar.set_home(str(tmp_path / "none"))
    with pytest.raises(jobjar.JarError, match="is not a jar"):
        jobjar.unclaimed_jobs()


def test_waiting_jobs_are_listed_in_the_order_in_which_they_will_be_claimed(rig: Rig, home: Path) -> None:
    names = [jobjar.submit_job("true", priority) for priority in (1, 3, 2, 3)]
    other = jobjar.submit_job("true", category="A")
    assert [job.name for job in jobjar.unclaimed_jobs("")] == [names[1], names[3], names[2], names[0]]
    assert [job.name for job in jobjar.unclaimed_jobs("A")] == [other]
    assert len(jobjar.unclaimed_jobs()) == 5
    assert jobjar.unclaimed_jobs("nobody") == jobjar.claimed_jobs() == jobjar.completed_jobs() == []
    listed = jobjar.unclaimed_jobs("A")[0]
    assert (listed.category, listed.state, listed.outcome, listed.attempts) == ("A", "unclaimed", None, [])


def test_an_unknown_job_is_an_error(home: Path) -> None:
    with pytest.raises(jobjar.JarError, match="no job of this name"):
        jobjar.job("nobody")
    with pytest.raises(jobjar.JarError, match="no job of this name"):
        jobjar.wait(["nobody"])


def test_waiting_longer_than_asked_for_is_an_error(home: Path) -> None:
    name = jobjar.submit_job("true")
    with pytest.raises(jobjar.JarError, match="did not happen within"):
        jobjar.wait(name, timeout=0)


@pytest.mark.slow
def test_jobs_are_waited_for_and_described(rig: Rig, home: Path) -> None:
    good, bad = jobjar.submit_jobs(["echo hello", "exit 3"])
    worker = rig.start_worker()
    ids = [jobjar.job(name).id for name in (good, bad)]
    assert jobjar.wait([good, bad], timeout=60) == {ids[0]: "succeeded", ids[1]: "failed"}
    described = jobjar.job(bad)
    assert (described.state, described.outcome, described.exit_status) == ("completed", "failed", 3)
    assert [attempt["exit_status"] for attempt in described.attempts] == [3]
    assert [move["reason"] for move in described.moves] == ["submitted", "claimed", "completed"]
    assert {job.name for job in jobjar.completed_jobs()} == {good, bad}
    rig.stop_worker(worker)


@pytest.mark.slow
def test_workers_are_listed_paused_unpaused_and_stopped_by_name_by_node_and_all(rig: Rig, home: Path) -> None:
    processes = [rig.start_worker(), rig.start_worker()]
    names = sorted(f"{node_name()}.{process.pid}" for process in processes)
    assert jobjar.running_workers() == names
    mark = home / "workers" / names[0] / "PAUSE"
    pairs: list[tuple[Callable[[], list[str]], Callable[[], list[str]]]] = [
        (lambda: jobjar.pause_worker(names[0]), lambda: jobjar.unpause_worker(names[0])),
        (lambda: jobjar.pause_node(node_name()), lambda: jobjar.unpause_node(node_name())),
        (jobjar.pause_all, jobjar.unpause_all),
    ]
    for pause, unpause in pairs:
        paused = pause()
        assert paused[0] == names[0]
        assert mark.exists()
        assert unpause() == paused
        assert not mark.exists()
    assert jobjar.stop_worker(names[0]) == [names[0]]
    stopped = next(process for process in processes if names[0].endswith(f".{process.pid}"))
    stopped.communicate(timeout=60)
    assert jobjar.running_workers() == names[1:]
    assert jobjar.stop_node(node_name()) == names[1:]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert jobjar.stop_all() == jobjar.running_workers() == []


def test_an_unknown_worker_or_node_is_an_error(home: Path) -> None:
    for call in (
        jobjar.stop_worker,
        jobjar.stop_node,
        jobjar.pause_worker,
        jobjar.pause_node,
        jobjar.unpause_worker,
        jobjar.unpause_node,
    ):
        with pytest.raises(jobjar.JarError, match=r"nobody\.7"):
            call("nobody.7")


def test_how_far_a_batch_is_can_be_asked(rig: Rig, home: Path) -> None:
    jar = rig.open()
    DescribedJob(jar, "wc", 1, time.time()).claim().log(work_done=7).complete()
    DescribedJob(jar, "wc", 2, time.time()).claim().complete("failed", 3)
    (batch,) = jobjar.batch_status()
    assert (batch["batch"], batch["done"], batch["jobs"], batch["work_done"]) == ("wc", 2, 2, 7)
    (detailed,) = jobjar.batch_status("wc")
    assert [job["seed"] for job in detailed["failed_jobs"]] == [2]
    with pytest.raises(jobjar.JarError, match="no batch sr"):
        jobjar.batch_status("sr")
