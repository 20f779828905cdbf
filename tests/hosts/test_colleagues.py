"""A group's jar: a file or a directory of a colleague that a worker's user may not use keeps that worker from nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.others import BY_PERMISSION_BITS, DAEMON, NOBODY, GroupRig
from tests.rig import Rig, wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
WHOSE = "it belongs to daemon, mode {}"


def told(rig: GroupRig, place: str, mode: str) -> None:
    """The status, `jobjar show` and `jobjar check` say that what is at a place is passed over, and whose it is."""
    [line] = [line for line in rig.status()["warnings"] if line.startswith(f"{place} is passed over: ")]
    assert WHOSE.format(mode) in line or f"that belongs to daemon, mode {mode}" in line
    checked = rig.run("jobjar", "check", check=False)
    assert f"{place} is passed over: nobody may not " in checked.stderr
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("mode", ["0700", "0711", "0750"])
def test_a_file_that_the_worker_s_user_may_not_run_is_passed_over_until_it_is_mended(
    group: GroupRig, mode: str
) -> None:
    path = group.drop_by_colleague("theirs.9", int(mode, 8))
    worker = group.start_worker()
    others = [group.submit("true") for _ in range(3)]
    group.drop("by hand", "#!/bin/sh\n")
    expected = {*others, "by hand", *(["theirs.9"] if mode == "0750" else [])}
    wait_until(lambda: set(group.names("completed")) == expected, "the others")
    if mode != "0750":
        told(group, "unclaimed/theirs.9", mode)
        [reason, *_] = group.show("theirs.9")["waits_because"]
        assert reason.startswith("nobody may not read and run it") and WHOSE.format(mode) in reason
        assert "chmod a+rx" in reason
        [one] = group.explain("theirs.9")
        assert one["causes"][0]["cause"] == "not_permitted" and "chmod a+rx" in one["what_to_do"][0]
        path.chmod(0o755)
        wait_until(lambda: "theirs.9" in group.names("completed"), "the mended one")
    said = group.stop_worker(worker)
    assert said.count("theirs.9 is passed over") == (mode != "0750")
    group.assert_clean()


@pytest.mark.parametrize("mode", ["02700", "02711", "02755"])
def test_a_category_s_directory_made_with_a_narrow_umask_is_passed_over_until_it_is_mended(
    group: GroupRig, mode: str
) -> None:
    path = group.drop_by_colleague("theirs", 0o755, "LINUX", int(mode, 8))
    worker = group.start_worker("LINUX")
    others = [group.submit("true") for _ in range(3)]
    wait_until(lambda: set(group.names("completed")) == set(others), "the others")
    told(group, "unclaimed/LINUX/", mode[1:])
    if mode != "02755":
        unlisted = (
            f"unclaimed/LINUX/ was not looked into: nobody may not list it, it belongs to daemon, mode {mode[1:]}"
        )
        for words in (["show", "theirs"], ["output", "unclaimed/LINUX/theirs"], ["wait", "theirs"], ["wait", "th*"]):
            assert unlisted in group.run("jobjar", *words, check=False).stderr
    path.parent.chmod(0o2775)
    wait_until(lambda: "theirs" in group.names("completed"), "what is in the mended one")
    said = group.stop_worker(worker)
    assert 1 <= said.count("is passed over") <= 2
    group.assert_clean()


def test_a_journal_that_may_not_be_read_is_told_with_its_owner_and_jobs_go_on_once_it_is_mended(
    group: GroupRig,
) -> None:
    """What it says may be needed to know whose a job is, so it is not passed over."""
    journal = group.home / "ledger" / "journals" / "rain.abcd1234.jsonl"
    journal.write_text("")
    os.chown(journal, DAEMON, NOBODY)
    journal.chmod(0o600)
    told = f"{journal}: {journal} belongs to daemon (mode 0600), and user nobody may not read it; ask daemon"
    worker = group.start_worker()
    name = group.submit("true")
    for words in (["system_status"], ["jobjar", "show", name], ["recover_jobs"], ["recover_jobs", "--nightly"]):
        refused = group.run(*words, check=False)
        # The status tells what the directories say.
        assert refused.returncode == (words != ["system_status"]) and told in refused.stdout + refused.stderr, refused
    journal.chmod(0o660)
    wait_until(lambda: group.names("completed") == [name], "the job's end")
    assert told in group.stop_worker(worker)


def test_a_job_that_the_sticky_bit_of_its_directory_keeps_there_is_told(group: GroupRig) -> None:
    path = group.drop_by_colleague("theirs", 0o755, "LINUX", 0o3775)
    worker = group.start_worker("LINUX")
    other = group.submit("true")
    wait_until(lambda: group.names("completed") == [other], "the other")
    reason = (
        "nobody may not move it: it belongs to daemon, and its directory has the sticky bit; `chmod -t` that directory"
    )
    assert f"unclaimed/LINUX/theirs is passed over: {reason}" in group.status()["warnings"]
    assert group.show("theirs")["waits_because"][0] == reason
    path.parent.chmod(0o2775)
    wait_until(lambda: "theirs" in group.names("completed"), "the freed one")
    assert group.stop_worker(worker).count("is passed over") == 1


def test_a_file_or_a_directory_that_nobody_may_change_is_named(group: GroupRig) -> None:
    """`chattr +i` holds for root too. Not each file system has it."""
    path = group.drop_by_colleague("theirs", 0o755, "LINUX")
    if subprocess.run(["chattr", "+i", path], capture_output=True).returncode != 0:
        pytest.skip(f"{path} cannot be made immutable on this file system")
    worker = group.start_worker("LINUX")
    try:
        other = group.submit("true")
        wait_until(lambda: group.names("completed") == [other], "the other")
        reason = f"nobody may move it: {path} has the attribute i; `chattr -i` that, as root"
        assert group.show("theirs")["waits_because"][0] == reason
        assert f"unclaimed/LINUX/theirs is passed over: {reason}" in group.status()["warnings"]
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    subprocess.run(["chattr", "+a", path.parent], check=True)
    try:
        assert group.show("theirs")["waits_because"][0].startswith(
            f"nobody may move it: {path.parent} has the attribute a;"
        )
    finally:
        subprocess.run(["chattr", "-a", path.parent], check=True)
    wait_until(lambda: "theirs" in group.names("completed"), "the freed one")
    group.stop_worker(worker)


def test_what_is_known_in_a_directory_is_not_gone_when_it_cannot_be_listed_any_more(group: GroupRig) -> None:
    path = group.drop_by_colleague("theirs", 0o755, "LINUX")
    group.run("jobjar", "rebuild")
    assert group.status()["jobs"]["unclaimed"] == 1
    path.parent.chmod(0o700)
    assert group.status()["jobs"]["unclaimed"] == 1
    assert group.show("theirs")["state"] == "unclaimed"


def test_a_submitted_job_that_its_worker_may_not_run_goes_back_unrun(group: GroupRig) -> None:
    name = group.submit("-c", "A", "true")
    path = group.home / "unclaimed/A" / name
    os.chown(path, DAEMON, NOBODY)
    path.chmod(0o700)
    worker = group.start_worker("A")
    other = group.submit("true")
    wait_until(lambda: group.names("completed") == [other], "the other")
    shown: dict[str, Any] = group.show(name)
    assert (shown["state"], shown["attempts"]) == ("unclaimed", [])
    assert shown["waits_because"] and WHOSE.format("0700") in shown["waits_because"][0]
    path.chmod(0o750)
    wait_until(lambda: name in group.names("completed"), "the mended one")
    group.stop_worker(worker)
    assert json.loads(group.run("jobjar", "show", "--format", "json", name).stdout)["outcome"] == "succeeded"


def test_root_without_its_rights_is_told_what_it_may_not_use(tmp_path: Path) -> None:
    """As in a container without capabilities, or on a server that takes root for nobody."""
    rig = Rig(tmp_path / "jar")
    rig.before = BY_PERMISSION_BITS
    rig.environment.update(JJ_POLL_TIME="0.1", JJ_PAUSE_TIME="1")
    try:
        closed = rig.drop("theirs", "#!/bin/sh\n", mode=0o700)
        submitted = rig.submit("-c", "A", "true")
        theirs = rig.home / "unclaimed/A" / submitted
        theirs.chmod(0o700)
        inner = rig.drop("inner", "#!/bin/sh\n", "B")
        for path in (closed, theirs, inner.parent):
            os.chown(path, DAEMON, DAEMON)
        inner.parent.chmod(0o700)
        worker = rig.start_worker("--as-root-for-group", "A", "B")
        other = rig.submit("true")
        wait_until(lambda: rig.names("completed") == [other], "the other")
        warnings = rig.status()["warnings"]
        places = (("unclaimed/theirs", "0700"), (f"unclaimed/A/{submitted}", "0700"), ("unclaimed/B/", "0700"))
        for place, mode in places:
            [line] = [line for line in warnings if line.startswith(f"{place} is passed over: root may not ")]
            assert f"belongs to daemon, mode {mode}" in line
        for job in ("theirs", submitted):
            shown = rig.show(job)
            assert shown["attempts"] == [] and WHOSE.format("0700") in shown["waits_because"][0]
        assert (
            "unclaimed/B/ was not looked into: root may not" in rig.run("jobjar", "show", "inner", check=False).stderr
        )
        for path in (closed, theirs):
            path.chmod(0o755)
        os.chown(inner.parent, 0, 0)
        wait_until(lambda: len(rig.names("completed")) == 4, "what was mended")
        rig.stop_worker(worker)
        rig.assert_clean()
    finally:
        rig.end_everything()


def test_the_owner_of_a_sticky_category_may_take_what_others_put_there(group: GroupRig) -> None:
    path = group.drop_by_colleague("x.1", 0o775, "LINUX", directory_mode=0o3770)

    def verdict() -> str:
        answer = json.loads(group.run("jobjar", "doctor", "--format", "json", check=False).stdout)
        return next(str(one["verdict"]) for one in answer["findings"] if one["check"] == "waiting jobs")

    assert verdict() == "warning"
    os.chown(path.parent, NOBODY, NOBODY)
    assert verdict() == "fine"
    group.run_until_idle("LINUX")
    assert group.names("completed") == ["x.1"]
