"""A member of a group's jar puts links where programs of others write: root's programs follow none of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar import jobname
from jobjar.liveness import pid_namespace
from jobjar.stages import submit
from tests.others import UNNAMED, create_group_jar, do_as, open_place
from tests.rig import Rig

pytestmark = pytest.mark.root

MEMBER, GROUP = UNNAMED, UNNAMED + 1


@pytest.fixture
def shared() -> Iterator[Rig]:
    """A jar of root's for a group, to which its members may write, and a victim: a file that only root may read."""
    with open_place() as place:
        create_group_jar(place / "shared", GROUP)
        rig = Rig(place / "shared", make=False)
        victim_of(rig).write_text("secret")
        victim_of(rig).chmod(0o600)
        try:
            yield rig
        finally:
            rig.end_everything()


def as_member(action: Callable[[], object]) -> None:
    """Do something as a member of the group, who is nobody else."""
    do_as(MEMBER, GROUP, action)


def replace_by_link(path: Path, target: Path) -> Callable[[], object]:
    def replace() -> None:
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    return replace


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
    shared.run_until_idle("--as-root-for-group")
    before = victim_of(shared).stat()
    as_member(replace_by_link(shared.home / place, victim_of(shared)))
    name = shared.submit("true")
    shared.run("recover_jobs", check=False)
    assert_untouched(shared)
    assert victim_of(shared).stat().st_mtime == before.st_mtime
    assert name in shared.names("unclaimed")


def test_root_appends_to_no_journal_that_a_member_replaced(shared: Rig) -> None:
    shared.submit("true")
    [journal] = (shared.home / "ledger/journals").glob("*.jsonl")
    as_member(replace_by_link(journal, victim_of(shared)))
    name = shared.submit("exit", "3")
    shared.run_until_idle("--as-root-for-group")
    assert_untouched(shared)
    assert shared.show(name)["exit_status"] == 3


def test_root_overwrites_nothing_through_names_that_can_be_foreseen(shared: Rig) -> None:
    """Links at every temporary name that earlier versions used, for all process ids that may come next."""

    def foresee() -> None:
        for pid in range(os.getpid(), os.getpid() + 3000):
            for maker in (str(pid), f"{pid}+{pid_namespace()}"):
                for name in (f"writer.{maker}.new", f"ledger.db.{maker}.new"):
                    os.symlink(victim_of(shared), shared.home / "ledger" / name)
                os.symlink(victim_of(shared), shared.home / f"workers/.{NODE}.{pid}.{maker}.new")

    as_member(foresee)
    name = shared.submit("true")
    shared.run_until_idle("--as-root-for-group")
    shared.run("jobjar", "rebuild")
    assert_untouched(shared)
    assert shared.names("completed") == [name]


def test_root_submits_through_no_link_at_the_name_of_its_next_job(shared: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of one process follow each other, so that a member can foresee a name. The link is put there between two jobs."""
    jar = shared.open()
    made: list[str] = []

    def make_name(*words: Any) -> str:
        made.append(jobname.make_name(*words))
        as_member(lambda: os.symlink(victim_of(shared), shared.home / "limbo" / made[-1]))
        return made[-1]

    monkeypatch.setattr(submit, "make_name", make_name)
    submit.submit(jar, submit.describe_command("echo hello"))
    assert_untouched(shared)
    assert shared.names("unclaimed") == made


def test_a_control_file_is_not_made_through_a_link(shared: Rig) -> None:
    worker = shared.start_worker("--as-root-for-group")
    [directory] = [path for path in (shared.home / "workers").iterdir() if path.is_dir()]
    as_member(replace_by_link(directory / "STOP", shared.home.parent / "made"))
    shared.run("stop_worker", directory.name, check=False)
    assert not (shared.home.parent / "made").exists()
    shared.stop_worker(worker)


def test_output_that_a_member_linked_is_not_printed_by_root(shared: Rig) -> None:
    name = shared.submit("echo", "hello")
    shared.run_until_idle("--as-root-for-group")
    path = Path(shared.show(name)["attempts"][0]["output_path"])
    as_member(replace_by_link(path, victim_of(shared)))
    result = shared.run("jobjar", "output", name, check=False)
    assert "secret" not in result.stdout and result.returncode == 1


def test_a_ledger_home_below_a_directory_of_somebody_else_s_is_refused(shared: Rig) -> None:
    """As in /var/tmp: everybody may make a directory there, or a link, before root does."""
    common = shared.home.parent / "common"
    common.mkdir()
    common.chmod(0o1777)

    def be_there_first() -> None:
        (common / "theirs").mkdir()
        (common / "link").symlink_to("/root")

    as_member(be_there_first)
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


@pytest.mark.parametrize("place", ["unclaimed", "limbo", "ledger", "batches"])
def test_a_directory_of_the_jar_that_a_member_replaced_by_a_link_is_refused(shared: Rig, place: str) -> None:
    elsewhere = shared.home.parent / "elsewhere"
    (elsewhere / "journals").mkdir(parents=True)
    path = shared.home / place

    def replace() -> None:
        path.rename(f"{path}.away")
        path.symlink_to(elsewhere)

    as_member(replace)
    result = shared.run("submit_job", "true", check=False)
    assert result.returncode == 1 and f"{path} is a symbolic link" in result.stderr
    assert sorted(os.listdir(elsewhere)) == ["journals"]
