"""A group's jar: what still runs of a colleague's dead worker is not run a second time by another member's recovery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.others import DAEMON, NOBODY, UNNAMED, GroupRig, by_user
from tests.rig import BIN, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.parametrize(
    ("is_told", "category", "user"),
    [(True, "", DAEMON), (False, "", DAEMON), (True, "LINUX", DAEMON), (True, "", UNNAMED), (False, "", UNNAMED)],
    ids=[
        "its start is journaled",
        "its start is not",
        "in a category",
        "its user has no login here",
        "its user has no login here and its start is not journaled",
    ],
)
def test_a_job_that_another_member_cannot_end_stays_until_its_user_does(
    group: GroupRig, is_told: bool, category: str, user: int
) -> None:
    by_colleague, colleague = by_user(user, group=NOBODY), "daemon" if user == DAEMON else f"user {user}"
    out = Path("/tmp") / f"{group.home.parent.name}.log"
    of_category = ["-c", category] if category else []
    job = group.submit(*of_category, f"echo $$ >> {out}; exec sleep 600")
    try:
        worker = subprocess.Popen(
            [*by_colleague, str(BIN / "start_worker"), "--foreground", *filter(None, [category])],
            env=group.environment,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        wait_until(lambda: out.exists() and out.read_text(), "the job's start")
        pid = int(out.read_text())
        wait_until(lambda: '"entry":"started"' in read_journals(group), "the entry of its start")
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
        if not is_told:
            for path in (group.home / "ledger" / "journals").glob("*.jsonl"):
                text = path.read_text()
                path.write_text(text.replace('"entry":"started"', '"entry":"starXed"'))
            group.run("jobjar", "rebuild")
        for _ in range(2):
            said = group.run("recover_jobs").stdout
            assert f"{job} stays with it: it may still run (processes " in said and str(pid) in said
            assert f"`recover_jobs` of {colleague} or root ends and returns it" in said
        unclaimed = f"unclaimed/{category}".rstrip("/")
        assert psutil.pid_exists(pid) and group.names(unclaimed) == []
        told_to_people(group, job, pid, colleague)
        [one] = group.explain(job)
        assert one["causes"][0]["cause"] == "left_running" and "may not end" in one["what_to_do"][0] + one["sentence"]
        stays_where_it_is(group, worker.pid)
        done = subprocess.run(
            [*by_colleague, str(BIN / "recover_jobs")],
            env=group.environment,
            capture_output=True,
            text=True,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        assert group.names(unclaimed) == [job]
        wait_until(lambda: not psutil.pid_exists(pid), "the end of the job")
        assert out.read_text() == f"{pid}\n"
    finally:
        out.unlink(missing_ok=True)


def told_to_people(group: GroupRig, job: str, pid: int, colleague: str) -> None:
    """Who looks learns that it may still run and who can end that, and finds it in claimed/; who recovers it anyway does not."""
    [reason, *_] = group.show(job)["waits_because"]
    [warning] = [
        line for line in group.status()["warnings"] if line.startswith(f"{job} is stranded with the dead worker ")
    ]
    for said in (reason, warning):
        assert "it may still run (processes " in said and str(pid) in said
        assert f"nobody may not end what {colleague} runs; " in said
        assert f"`recover_jobs` of {colleague} or root ends and returns it" in said
    assert (group.home / "claimed" / job).exists()
    group.before, by_nobody = [], group.before
    assert group.show(job)["waits_because"][0].endswith(f"; run `recover_jobs` on node {os.uname().nodename}")
    group.before = by_nobody


def stays_where_it_is(group: GroupRig, pid: int) -> None:
    """A new worker that gets the process id of the dead one takes another name, and not the directory."""
    node = os.uname().nodename
    code = (
        "from jobjar.jar import open_jar; from jobjar.worker.directory import *; from jobjar.liveness import this_process\n"
        f"jar = open_jar(); dead = read_worker(jar.layout, '{node}.{pid}')\n"
        f"print(choose_worker_name(jar.layout, this_process()._replace(pid={pid})))\n"
        "set_aside(jar, dead)\n"
    )
    assert group.run(sys.executable, "-c", code).stdout == f"{node}.{pid}-2\n"
    assert (group.home / "workers" / f"{node}.{pid}" / "jobs").exists()


def read_journals(group: GroupRig) -> str:
    return "".join(path.read_text() for path in (group.home / "ledger" / "journals").glob("*.jsonl"))
