"""A member of a group's jar puts links where programs of others write: root's programs follow none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobjar.create import create_jar
from tests.rig import Rig

pytestmark = pytest.mark.root

MEMBER, GROUP = 61_234, 61_235


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    """A jar of root's for a group, to which its members may write, and a victim: a file that only root may read."""
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    home = tmp_path / "shared"
    create_jar(str(home), for_group=True)
    for path in (home, *home.rglob("*")):
        os.chown(path, -1, GROUP, follow_symlinks=False)
        if path.is_dir():
            path.chmod(0o2770)
    rig = Rig(home, make=False)
    (tmp_path / "victim").write_text("secret")
    (tmp_path / "victim").chmod(0o600)
    yield rig
    rig.end_everything()


def as_member(script: str, *words: object) -> None:
    subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        user=MEMBER,
        group=GROUP,
        extra_groups=[],
        check=True,
        timeout=60,
    )


LINK = "import os, sys; os.path.lexists(sys.argv[2]) and os.unlink(sys.argv[2]); os.symlink(*sys.argv[1:3])"
NODE = os.uname().nodename


def victim_of(rig: Rig) -> Path:
    return rig.home.parent / "victim"


def assert_untouched(rig: Rig) -> None:
    assert victim_of(rig).read_text() == "secret"
    assert victim_of(rig).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "place",
    [
        "ledger/writer",
        f"ledger/clock.{NODE}",
        "ledger/lock",
        "ledger/ledger.db",
        "ledger/polled",
        "ledger/check_workers.lock",
    ],
)
def test_root_writes_to_no_file_that_a_member_linked_to(shared: Rig, place: str) -> None:
    shared.submit("true")
    shared.run_until_idle()
    before = victim_of(shared).stat()
    as_member(LINK, victim_of(shared), shared.home / place)
    name = shared.submit("true")
    shared.run("recover_jobs", check=False)
    shared.run("check_workers", JJ_MAX_WORKERS="0", check=False)
    assert_untouched(shared)
    assert victim_of(shared).stat().st_mtime == before.st_mtime
    assert name in shared.names("unclaimed")


def test_root_appends_to_no_journal_that_a_member_replaced(shared: Rig) -> None:
    shared.submit("true")
    [journal] = (shared.home / "ledger/journals").glob("*.jsonl")
    as_member(LINK, victim_of(shared), journal)
    name = shared.submit("exit", "3")
    shared.run_until_idle()
    assert_untouched(shared)
    assert shared.show(name)["exit_status"] == 3


def test_root_overwrites_nothing_through_names_that_can_be_foreseen(shared: Rig) -> None:
    """Links at every temporary name that earlier versions used, for all process ids that may come next."""
    script = """
import os, sys
victim, ledger, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
for pid in range(first, first + 3000):
    for name in (f"writer.{pid}.new", f"ledger.db.{pid}.new", f"jar_id.{pid}.new"):
        os.symlink(victim, f"{ledger}/{name}")
"""
    as_member(script, victim_of(shared), shared.home / "ledger", os.getpid())
    name = shared.submit("true")
    shared.run_until_idle()
    shared.run("jobjar", "rebuild")
    assert_untouched(shared)
    assert shared.names("completed") == [name]


def test_root_submits_through_no_link_at_the_name_of_its_next_job(shared: Rig) -> None:
    """Ids of one process follow each other, so that a member can foresee a name. The link is put there between two jobs."""
    script = """
import os, sys
from jobjar.library import JobJar
from jobjar import jobname
jar = JobJar(os.environ["JJ_HOME"])
jar.submit("true")
names = []
def make_name(*rest, make=jobname.make_name):
    names.append(make(*rest))
    os.symlink(sys.argv[1], f"{os.environ['JJ_HOME']}/limbo/{names[-1]}")
    return names[-1]
import jobjar.stages.submit
jobjar.stages.submit.make_name = make_name
jar.submit("echo hello")
"""
    subprocess.run([sys.executable, "-c", script, victim_of(shared)], env=shared.environment, check=True, timeout=60)
    assert_untouched(shared)
    assert len(shared.names("unclaimed")) == 2


def test_a_control_file_is_not_made_through_a_link(shared: Rig) -> None:
    worker = shared.start_worker()
    [directory] = [path for path in (shared.home / "workers").iterdir() if path.is_dir()]
    as_member(LINK, shared.home.parent / "made", directory / "STOP")
    shared.run("stop_worker", directory.name, check=False)
    assert not (shared.home.parent / "made").exists()
    shared.stop_worker(worker)


def test_output_that_a_member_linked_is_not_printed_by_root(shared: Rig) -> None:
    name = shared.submit("echo", "hello")
    shared.run_until_idle()
    path = Path(shared.show(name)["attempts"][0]["output_path"])
    as_member(LINK, victim_of(shared), path)
    result = shared.run("jobjar", "output", name, check=False)
    assert "secret" not in result.stdout and result.returncode == 1


def test_a_ledger_home_below_a_directory_of_somebody_else_s_is_refused(shared: Rig, tmp_path: Path) -> None:
    """As in /var/tmp: everybody may make a directory there, or a link, before root does."""
    common = tmp_path / "common"
    common.mkdir()
    common.chmod(0o1777)
    as_member(
        "import os, sys; os.mkdir(sys.argv[1]); os.symlink('/root', sys.argv[2])", common / "theirs", common / "link"
    )
    for place in ("theirs/home", "link/home", "link"):
        result = shared.run("submit_job", "true", JJ_LEDGER_HOME=str(common / place), check=False)
        assert result.returncode == 1 and "cannot be trusted" in result.stderr, place
    assert not os.path.lexists("/root/home")
    assert os.listdir(common / "theirs") == []


def test_a_file_of_a_stranger_s_is_not_written_to(shared: Rig) -> None:
    """One that belongs neither to who owns the jar, by user or group, nor to who writes."""
    shared.submit("true")
    clock = shared.home / "ledger" / f"clock.{NODE}"
    clock.unlink(missing_ok=True)
    clock.write_text("")
    os.chown(clock, 61_236, 61_237)
    os.utime(clock, (5, 5))
    shared.run("recover_jobs")
    assert clock.stat().st_mtime == 5
