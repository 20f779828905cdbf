from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobjar.errors import SharedLedgerHome, UnsafeLedgerHome
from jobjar.layout import Layout
from jobjar.ledger import home as module
from jobjar.ledger.home import LedgerHome, find_ledger_home
from jobjar.ledger.jar_id import read_jar_id
from tests.rig import Rig


def test_a_jar_on_a_local_disk_is_its_own_ledger_home(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: True)
    layout = Layout(str(rig.home))
    home = find_ledger_home(layout)
    assert (home.path, not home.has_other_homes) == (layout.ledger, True)


def test_a_named_home_is_made_for_its_owner_alone(rig: Rig, tmp_path: Path) -> None:
    home = find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/deep/home")
    assert (home.path, not home.has_other_homes) == (f"{tmp_path}/deep/home", False)
    assert os.stat(home.path).st_mode & 0o777 == 0o700


def test_naming_the_jar_s_own_ledger_directory_is_as_naming_none(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(rig.home)
    assert not find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/link/ledger").has_other_homes


def test_a_home_that_others_can_write_to_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(UnsafeLedgerHome, match="writable by others"):
        find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/home")


@pytest.mark.root
def test_a_home_of_somebody_else_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 65534, 65534)
    with pytest.raises(UnsafeLedgerHome, match="belongs to user 65534"):
        find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/home")


def test_a_link_or_a_file_in_place_of_the_home_is_refused(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(UnsafeLedgerHome, match="not a directory"):
            find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/{name}")


def test_every_jar_has_an_id_of_its_own(tmp_path: Path) -> None:
    ids = {read_jar_id(Layout(str(Rig(tmp_path / name).home))) for name in "ab"}
    assert len(ids) == 2


def test_an_unpacked_jar_gets_its_id_once_whoever_asks_first(rig: Rig) -> None:
    """Its tarball has none: two jars that were unpacked from it must not have one."""
    layout = Layout(str(rig.home))
    os.unlink(layout.jar_id_file)
    script = (
        "import sys; from jobjar.layout import Layout; from jobjar.ledger.home import read_jar_id; sys.stdin.read(); "
    )
    words = [sys.executable, "-c", script + "print(read_jar_id(Layout(sys.argv[1])))", str(rig.home)]
    askers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for asker in askers:
        assert asker.stdin is not None
        asker.stdin.close()
    ids = {asker.stdout.read() for asker in askers if asker.stdout is not None}
    assert [asker.wait(30) for asker in askers] == [0, 0, 0, 0]
    assert ids == {f"{read_jar_id(layout)}\n"}
    assert not [name for name in os.listdir(layout.ledger) if name.startswith("jar_id.")]


def test_processes_that_ask_at_once_append_to_one_journal(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom jobjar.ledger.home import LedgerHome\nsys.stdin.read(1)\n"
        "print(LedgerHome(sys.argv[1], True).journal_name())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    names = {process.communicate("x", timeout=60)[0].strip() for process in processes}
    assert len(names) == 1
    assert LedgerHome(str(tmp_path), False).journal_name() in names
    assert os.listdir(tmp_path) == ["writer"]


def test_two_homes_append_to_two_journals(tmp_path: Path) -> None:
    names = set()
    for which in "ab":
        (tmp_path / which).mkdir()
        names.add(LedgerHome(f"{tmp_path}/{which}", True).journal_name())
    assert len(names) == 2
    assert all(name.startswith(f"{os.uname().nodename}.") for name in names)


def test_after_a_start_of_the_node_its_home_appends_to_another_journal(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/home")
    names = [home.journal_name(), home.journal_name()]
    for run in ("second", "third"):
        monkeypatch.setattr(module, "node_run", lambda run=run: f"{run}.1")
        monkeypatch.setattr(module, "boot_id", lambda run=run: run)
        names += [home.journal_name(), home.journal_name()]
    first = names[0]
    assert names == [first, first, f"{first}-2", f"{first}-2", f"{first}-3", f"{first}-3"]
    # On a disk of the node's own what was appended is there or not, and nothing comes late.
    shared = find_ledger_home(Layout(str(rig.home)), f"{rig.home}/ledger")
    name = shared.journal_name()
    monkeypatch.setattr(module, "node_run", lambda: "fourth")
    assert shared.journal_name() == name


def test_the_ledger_directory_of_a_jar_is_no_home_of_another_nor_of_itself_under_another_name(
    rig: Rig, tmp_path: Path
) -> None:
    other = Rig(tmp_path / "other")
    with pytest.raises(SharedLedgerHome, match="it is the ledger/ of a jar"):
        find_ledger_home(Layout(str(rig.home)), f"{other.home}/ledger")
    # What a server of a network disk has on a disk of its own is the same jar.
    copy = tmp_path / "copy"
    shutil.copytree(rig.home, copy)
    with pytest.raises(SharedLedgerHome, match="it is the ledger/ of a jar"):
        find_ledger_home(Layout(str(rig.home)), f"{copy}/ledger")
    (tmp_path / "link").symlink_to(rig.home / "ledger")
    assert not find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/link").has_other_homes
    assert find_ledger_home(Layout(str(rig.home)), f"{tmp_path}/none yet").has_other_homes


def test_two_containers_that_use_one_home_append_to_a_journal_each_and_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = LedgerHome(str(tmp_path), has_other_homes=True)

    def name_in(run: str) -> str:
        monkeypatch.setattr(module, "node_run", lambda: run)
        monkeypatch.setattr(module, "boot_id", lambda: run.partition(".")[0])
        return home.journal_name()

    first, second = name_in("boot.1"), name_in("boot.2")
    assert first != second
    assert [name_in(run) for run in ("boot.1", "boot.2", "boot.1", "boot.2")] == [first, second, first, second]
    assert len(os.listdir(tmp_path)) == 2
    # Something else in place of one's writer file costs that one another journal, and the other nothing.
    [own] = tmp_path.glob("writer.*")
    own.unlink()
    own.symlink_to("/dev/zero")
    third = name_in("boot.2")
    assert third not in (first, second)
    assert [name_in(run) for run in ("boot.1", "boot.2")] == [first, third]
    own.unlink()
    os.mkfifo(own)
    assert name_in("boot.1") == first and name_in("boot.2") not in (first, second, third)
    # When the machine is started again, what it kept of both is left behind.
    assert name_in("another.1") == f"{first}-2"
    assert os.listdir(tmp_path) == ["writer"]
