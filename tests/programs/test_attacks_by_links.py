"""A member of a group's jar puts links where programs of others write: root's programs follow none of them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobjar.attempts.limits import CATEGORY, set_limit
from jobjar.batches.edit import edit_batch
from jobjar.errors import JarError
from jobjar.job_file import names
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
        made.append(names.make_name(*words))
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


def tree_of(top: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(top)): (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in (top, *top.rglob("*"))
    }


@pytest.fixture
def private(shared: Rig) -> Path:
    """A directory of root's with names that are also used in a jar."""
    path = shared.home.parent / "private"
    for name in ("count", "batch.json", "2", "3", "0/2", "0/3", "wc/batch.json"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    path.chmod(0o700)
    return path


def put_link(path: Path, target: Path) -> None:
    """As a member: a link in place of a directory."""

    def put() -> None:
        path.rename(f"{path}.away")
        path.symlink_to(target)

    as_member(put)


@pytest.fixture
def changed(shared: Rig) -> Rig:
    """With a limit of two, and a batch, of root's."""
    shared.run("workload_limit", "LINUX", "2")
    file = shared.home.parent / "wc.jug"
    file.write_text('batch\nname = "wc"\nseeds = "1-2"\nrun_command = "true"\n')
    shared.run("submit_batch", str(file))
    return shared


@pytest.mark.parametrize("place", ["limits/category.LINUX", "limits/category.LINUX/free", "batches/wc"])
def test_root_changes_no_limit_and_no_batch_through_a_directory_that_a_member_replaced(
    changed: Rig, private: Path, place: str
) -> None:
    before = tree_of(private)
    put_link(changed.home / place, private)
    for words in (
        ["workload_limit", "LINUX", "100"],
        ["workload_limit", "LINUX", "none"],
        ["batch_edit", "wc", "seeds=1-3"],
        ["abort_batch", "wc"],
        ["recover_jobs"],
    ):
        changed.run(*words, check=False)
    assert tree_of(private) == before


def test_root_gives_no_token_back_over_a_file_that_a_member_s_link_leads_to(changed: Rig, private: Path) -> None:
    before = tree_of(private)
    limit = changed.home / "limits/category.LINUX"
    (limit / "free/0/2").rename(limit / "taken/2")
    (limit / "free/0/3").rename(limit / "taken/3.1.rain.7.abcdefghijkl")
    put_link(limit / "free/0", private)
    changed.run("recover_jobs", check=False)
    (limit / "free/0").unlink()
    put_link(limit / "free", private)
    changed.run("recover_jobs", check=False)
    assert tree_of(private) == before


@pytest.mark.parametrize("what", ["a limit", "a batch"])
def test_what_root_prepares_is_not_made_where_a_member_s_link_leads(
    changed: Rig, private: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The member is quick: it replaces the directory between two steps."""
    before = tree_of(private)
    mkdir, swapped = os.mkdir, list[str]()

    def make_and_swap(path: str, mode: int = 0o777, dir_fd: int | None = None) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        name = os.path.basename(path)
        if not swapped and name.startswith(("new.", f".{NODE}.")):
            swapped.append(name)
            put_link(changed.home / ("limits/category.LINUX" if what == "a limit" else "batches") / name, private)

    monkeypatch.setattr(os, "mkdir", make_and_swap)
    jar = changed.open()
    with contextlib.suppress(JarError, OSError):
        if what == "a limit":
            set_limit(jar, CATEGORY, "LINUX", 100)
        else:
            edit_batch(jar, "wc", {"seeds": "1-3"})
    assert swapped
    assert tree_of(private) == before


def test_root_s_upgrade_of_a_jar_writes_through_no_link_of_a_member_s(shared: Rig) -> None:
    documents, program = shared.home / "documents", shared.home / "bin/submit_job"

    def replace() -> None:
        for path in (documents / "guide.md", documents / "more.md", program):
            replace_by_link(path, victim_of(shared))()

    as_member(replace)
    shared.run("jobjar", "init", "--group", str(shared.home))
    assert_untouched(shared)
    for path in (documents / "guide.md", program):
        assert path.read_text() != "secret" and not path.is_symlink()
    away = shared.home / "limbo"
    as_member(away.rmdir)
    as_member(lambda: away.symlink_to(shared.home.parent))
    assert shared.run("jobjar", "init", "--group", str(shared.home), check=False).returncode == 1
    assert shared.home.parent.stat().st_mode & 0o7777 == 0o755


def test_root_s_nightly_job_moves_and_removes_nothing_where_a_member_s_link_leads(shared: Rig, private: Path) -> None:
    night = {"JJ_ARCHIVE_AFTER": "0.000001", "JJ_KEEP_COMPLETED": "0.000002", "JJ_KEEP_WORKERS": "0.000002"}
    today = time.strftime("%Y-%m-%d", time.gmtime())
    (private / "workers/one").mkdir(parents=True)
    (private / "completed").mkdir()
    for path in (private, *private.rglob("*")):
        os.utime(path, (1e9, 1e9))
    for keep, link, target in (
        ("0", f"archive/{today}", private),
        ("0", "ledger/copies", private),
        ("0.000002", f"archive/{today}/completed", private / "completed"),
        ("0.000002", f"archive/{today}/workers", private / "workers"),
    ):
        job = shared.submit("true")
        shared.run_until_idle("--as-root-for-group")
        if keep != "0":  # as if it had been archived
            shared.run(
                "recover_jobs", "--nightly", check=False, **night | {"JJ_KEEP_COMPLETED": "0", "JJ_KEEP_WORKERS": "0"}
            )
            assert shared.show(job)["place"].startswith(f"archive/{today}/")
            (private / "completed" / job).write_text("mine")
        path, before = shared.home / link, tree_of(private)

        def put(path: Path = path, target: Path = target) -> None:
            path.parent.mkdir(exist_ok=True)
            if path.exists():
                path.rename(f"{path}.away")
            path.symlink_to(target)

        as_member(put)
        said = shared.run("recover_jobs", "--nightly", check=False, **night)
        assert tree_of(private) == before, (link, said.stdout, said.stderr)
        as_member(path.unlink)


def test_root_steers_no_file_of_a_directory_to_which_a_member_s_link_leads(shared: Rig, private: Path) -> None:
    """The member replaces a category after root has put jobs there, and knows a name of root's private files."""
    jobs = {name: shared.submit("-c", name, "true") for name in ("FROM", "TO")}
    shared.run("jobjar", "hold", jobs["TO"])
    for name in ("cancelled", "held"):
        (private / name).mkdir()
    for path in (private, private / "cancelled", private / "held"):
        (path / jobs["FROM"]).write_text("mine")
        (path / jobs["FROM"]).chmod(0o700)
    other = shared.submit("-c", "OTHER", "true")
    before = tree_of(private)
    for name in jobs:
        put_link(shared.home / "unclaimed" / name, private)
    for words in (
        ["hold", jobs["FROM"]],
        ["priority", jobs["FROM"], "5"],
        ["move", jobs["FROM"], "OTHER"],
        ["move", other, "TO"],
        ["submit", "-c", "TO", "true"],
        ["release", jobs["TO"]],
        ["cancel", jobs["FROM"]],
    ):
        said = shared.run("jobjar", *words, check=False)
        assert (said.returncode, tree_of(private)) == (1, before), (words, said.stdout, said.stderr)
    order = shared.home / "limbo/.cancel-abcdefghijkl"

    def order_by_link() -> None:
        order.mkdir()
        (order / "cancelled").symlink_to(private)

    as_member(order_by_link)
    shared.run("recover_jobs", check=False)
    assert tree_of(private) == before
