"""What the doctor makes of mounts, versions, space, clocks and delays; and that its races catch what does not exclude."""

from __future__ import annotations

import ast
import os
import threading
from pathlib import Path

import pytest

from jobjar import doctor
from jobjar.doctor.filesystem import judge_options, look_at_file_system
from jobjar.doctor.findings import DANGER, FINE, NOTE, WARNING, Finding, examine, format_findings, worst_verdict
from jobjar.doctor.ledger_home import judge_sqlite, look_at_ledger
from jobjar.doctor.meeting import FIRST, SECOND, Meeting
from jobjar.doctor.peer import compare_ledger_homes, compare_names, compare_nodes
from jobjar.doctor.probe import judge_clock
from jobjar.doctor.races import ROUNDS, _race, _take_by_creating, _take_by_mkdir, _take_by_rename, judge_race
from jobjar.doctor.space import judge_inodes, judge_space
from jobjar.doctor.staleness import CHANGES, judge_change
from jobjar.doctor.system import programs_called
from jobjar.doctor.workers import look_at_lease
from jobjar.ledger.store import driver
from jobjar.shared_disk.mounts import find_mount, parse_mounts
from tests.rig import Rig

pytestmark = pytest.mark.slow

MIB, GIB = 1 << 20, 1 << 30


def mount_line(kind: str, options: str, own: str = "rw,relatime", point: str = "/data") -> str:
    return f"36 35 98:0 / {point} {own} shared:1 - {kind} server:/export {options}\n"


@pytest.mark.parametrize(
    ("kind", "options", "own", "verdicts"),
    [
        ("nfs4", "rw,vers=4.2,hard,acregmax=60,acdirmax=60,local_lock=none", "rw,noatime,nosuid", {}),
        ("nfs4", "rw,vers=4.2,soft", "rw", {"soft": WARNING}),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "rw", {"vers=3": NOTE}),
        ("nfs", "rw,vers=2,hard", "rw", {"vers=2": DANGER}),
        ("nfs4", "rw,vers=4.2,hard,acregmax=600,acdirmax=30", "rw", {"acregmax=600": WARNING}),
        ("nfs4", "rw,noac,sync", "rw", {"noac": NOTE, "sync": NOTE}),
        ("ext4", "rw,nobarrier", "rw,noexec", {"noexec": DANGER, "nobarrier": WARNING}),
        ("ext4", "rw", "ro", {"ro": DANGER}),
        ("xfs", "ro", "rw", {"ro": DANGER}),
        ("cifs", "rw,noserverino,cache=loose", "rw", {"noserverino": WARNING, "cache=loose": WARNING}),
        ("fuse.sshfs", "rw,user_id=0", "rw", {"no allow_other": NOTE}),
        ("fuse.mfs", "rw,user_id=0,allow_other", "rw", {}),
        ("9p", "rw,cache=loose", "rw", {"cache=loose": WARNING}),
        ("ext4", "rw", "rw,nosuid,nodev,noatime", {}),
    ],
)
def test_mount_options_that_hurt_are_named(kind: str, options: str, own: str, verdicts: dict[str, str]) -> None:
    (mount,) = parse_mounts(mount_line(kind, options, own))
    found = {finding.measured.partition(" on ")[0]: finding for finding in judge_options("disk", mount)}
    assert {option: finding.verdict for option, finding in found.items()} == verdicts
    assert all(finding.meaning and finding.advice for finding in found.values())


def test_the_mount_of_a_path_is_the_longest_and_the_last() -> None:
    table = parse_mounts(
        mount_line("ext4", "rw", point="/")
        + mount_line("nfs4", "rw,vers=4.2", point="/da\\040ta")
        + mount_line("tmpfs", "rw", point="/da\\040ta/x")
        + mount_line("xfs", "rw", point="/da\\040ta/x")
    )
    for path, kind in (("/da ta/file", "nfs4"), ("/da ta/x", "xfs"), ("/da tab", "ext4"), ("/da ta/xy", "nfs4")):
        mount = find_mount(path, table)
        assert mount is not None and mount.kind == kind
    (mount,) = parse_mounts("240 27 0:50 / /a rw - fuse mfs\\04310.0.0.1:9421 rw,allow_other")
    assert (mount.kind, mount.source) == ("fuse.mfs", "mfs#10.0.0.1:9421")


def test_a_jar_in_memory_is_a_danger() -> None:
    if not os.path.isdir("/dev/shm") or find_mount("/dev/shm") is None:
        pytest.skip("no /dev/shm here")
    first = next(look_at_file_system("disk", "/dev/shm"))
    assert first.verdict == DANGER and "gone" in first.meaning


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 51, 3), FINE),
        ((3, 51, 2), WARNING),
        ((3, 50, 7), FINE),
        ((3, 50, 6), WARNING),
        ((3, 44, 6), FINE),
        ((3, 44, 5), WARNING),
        ((3, 40, 1), WARNING),
        ((3, 53, 0), FINE),
        ((4, 0, 0), FINE),
    ],
)
def test_an_sqlite_that_can_damage_a_ledger_is_named(version: tuple[int, ...], verdict: str) -> None:
    finding = judge_sqlite(version, "sqlite3")
    assert finding.verdict == verdict
    assert ".".join(map(str, version)) in finding.measured


def test_the_version_is_that_of_the_driver_that_opens_ledgers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "sqlite_version_info", (3, 40, 1))
    first = next(look_at_ledger(rig.open()))
    assert (first.verdict, first.measured) == (WARNING, f"3.40.1 ({driver.__name__.partition('.')[0]})")


def test_space_and_inodes_are_judged_by_what_is_left_and_by_its_share() -> None:
    for free, total, verdict in (
        (50 * MIB, 10 * GIB, DANGER),
        (500 * MIB, 100 * GIB, DANGER),
        (900 * MIB, 2 * GIB, WARNING),
        (2 * GIB, 1000 * GIB, WARNING),
        (30 * GIB, 10000 * GIB, FINE),
        (5 * GIB, 10 * GIB, FINE),
        (0, 0, DANGER),
    ):
        assert judge_space("jar", "/data", free, total).verdict == verdict, (free, total)
    assert judge_space("/tmp", "/tmp", 0, 1, holds_jobs=False).verdict == WARNING
    for free, total, verdict in ((10, 10_000, DANGER), (9_000, 10**7, DANGER), (9_000, 20_000, WARNING)):
        assert judge_inodes("jar", "/data", free, total).verdict == verdict
    assert judge_inodes("jar", "/data", 10**6, 10**7).verdict == FINE


def test_whatever_is_not_fine_says_what_it_means_and_what_to_do() -> None:
    silent = []
    for path in sorted(Path(doctor.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding" and not node.keywords:
                # group, check, verdict, measured, meaning, advice
                is_fine = len(node.args) > 2 and getattr(node.args[2], "id", "") == "FINE"
                is_whole = len(node.args) == 6 or isinstance(node.args[-1], ast.Starred)
                if not is_fine and not is_whole:
                    silent.append(f"{path.name}:{node.lineno}")
    assert silent == []


def test_clocks_apart_are_noted_and_endanger_nothing() -> None:
    assert [judge_clock(offset, "")[0] for offset in (0.2, 5, -5, 600, -600)] == [FINE, NOTE, NOTE, WARNING, WARNING]


def test_a_crontab_calls_a_jar_s_programs_by_variable_or_by_path() -> None:
    text = """JJ_HOME=/data/jar
*/10 * * * * check_workers >/dev/null
# 0 0 * * * recover_jobs
JJ_HOME=/other
@daily recover_jobs
"""
    assert programs_called(text, "/data/jar") == {"check_workers"}
    assert programs_called(text, "/other") == {"recover_jobs"}
    assert programs_called("@daily /data/jar/bin/recover_jobs --quiet\n", "/data/jar") == {"recover_jobs"}
    assert programs_called("@daily /data/jar2/bin/recover_jobs\n", "/data/jar") == set()


def test_what_cannot_be_looked_at_is_a_warning_and_keeps_what_was_found() -> None:
    def look() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/data/jar/limbo")

    (finding,) = examine("disk", "space", look)
    assert finding.verdict == WARNING and "/data/jar/limbo: Permission denied" in finding.meaning
    assert worst_verdict([]) == FINE
    text = format_findings([Finding("disk", "a", FINE, "x"), Finding("disk", "b", DANGER, "y", "means", "do")], True)
    assert text == "disk\n  danger   b: y\n           means\n           → do\n\n1 danger, 0 warning, 0 note, 1 fine"


def run_pair(path: Path, word: str, take: object) -> tuple[int, list[int], list[int], list[str]]:
    """A race between two threads of this process; what the first one got."""
    (path / "messages").mkdir(parents=True)
    results: dict[str, tuple[int, list[int], list[int], list[str]]] = {}

    def run(side: str) -> None:
        results[side] = _race(Meeting(str(path), side, 30.0), word, take)  # type: ignore[arg-type]

    threads = [threading.Thread(target=run, args=(side,)) for side in (FIRST, SECOND)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first, second = results[FIRST], results[SECOND]
    assert (first[1], first[2]) == (second[2], second[1])
    assert first[0] == second[0]
    return first


def test_each_race_on_a_sound_disk_has_one_winner_a_round(tmp_path: Path) -> None:
    for word, take in (("rename", _take_by_rename), ("mkdir", _take_by_mkdir), ("exclusive", _take_by_creating)):
        result = run_pair(tmp_path / word, word, take)
        assert result[0] == ROUNDS
        assert judge_race("pair", word, *result).verdict == FINE


def test_a_disk_that_lets_two_win_is_caught(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)

    def take_in_two_steps(directory: str, side: str, number: int) -> None:
        path = f"{directory}/taken.{number}"
        if os.path.lexists(path):
            raise FileExistsError
        if number % 10 == 0:
            barrier.wait(30)
        with open(path, "wb"):
            pass

    def take_never(directory: str, side: str, number: int) -> None:
        raise FileNotFoundError

    result = run_pair(tmp_path / "twice", "mkdir", take_in_two_steps)
    finding = judge_race("pair", "mkdir races", *result)
    assert finding.verdict == DANGER and "won by both" in finding.measured
    finding = judge_race("pair", "mkdir races", *run_pair(tmp_path / "never", "mkdir", take_never))
    assert finding.verdict == DANGER and "50 by none" in finding.measured


def test_delays_are_judged_and_a_short_lease_is_a_danger() -> None:
    by_word = {change.word: change for change in CHANGES}
    heartbeat = by_word["a file's time (heartbeats)"]
    assert judge_change("pair", heartbeat, 0.0, 0.0, 60.0).verdict == FINE
    assert judge_change("pair", heartbeat, 29.0, 0.0, 0.0).verdict == NOTE
    assert judge_change("pair", heartbeat, 0.0, 29.0, 40.0).verdict == DANGER
    assert judge_change("pair", heartbeat, -1.0, 0.0, 0.0).verdict == WARNING
    missing = by_word["a name that was missing"]
    finding = judge_change("pair", missing, -1.0, 0.0, 0.0)
    assert finding.verdict == NOTE and "not within" in finding.measured
    assert judge_change("pair", by_word["an appended line"], -2.0, 0.0, 0.0).verdict == DANGER
    assert [look_at_lease(lease, 30.0).verdict for lease in (0.0, 60.0, 300.0)] == [FINE, DANGER, FINE]


def test_two_machines_with_one_name_or_one_ledger_home_are_a_danger_and_containers_of_one_machine_are_told_apart() -> (
    None
):
    me = {"node": "rain", "boot_id": "1", "pid_namespace": "pid:[1]", "writer": "rain.abc"}
    for changes, name_verdict, home_verdict in (
        ({"node": "snow", "writer": "snow.abc", "boot_id": "2"}, FINE, FINE),
        ({"boot_id": "2"}, DANGER, DANGER),
        ({"pid_namespace": "pid:[2]"}, WARNING, FINE),
        ({"node": "snow", "boot_id": "2"}, FINE, DANGER),
        ({}, WARNING, FINE),
        ({"writer": "", "boot_id": "2"}, DANGER, FINE),
    ):
        peer = {**me, **changes}
        assert compare_names("pair", me, peer).verdict == name_verdict, changes
        assert compare_ledger_homes("pair", me, peer).verdict == home_verdict, changes


def test_a_pair_with_other_jars_versions_paths_or_clocks_is_told() -> None:
    me = {
        "node": "rain",
        "boot_id": "1",
        "writer": "",
        "jar_id": "a",
        "home": "/jar",
        "version": "1",
        "clock_offset_s": 0.0,
        "clock_doubt_s": 0.01,
    }
    same = {**me, "node": "snow", "boot_id": "2"}

    def differing(**changes: object) -> dict[str, str]:
        found = compare_nodes("pair", me, {**same, **changes})
        return {finding.check: finding.verdict for finding in found if finding.verdict != FINE}

    assert differing() == {}
    assert differing(jar_id="b") == {"jar": DANGER}
    assert differing(version="2") == {"version": WARNING}
    assert differing(home="/mnt/jar") == {"mount path": NOTE}
    assert differing(clock_offset_s=-600.0) == {"clocks": WARNING}
    assert differing(clock_offset_s=3.0) == {"clocks": NOTE}
