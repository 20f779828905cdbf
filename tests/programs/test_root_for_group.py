"""Who may submit to a jar runs code as whoever runs its workers; so root runs none for others unless somebody says so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.others import UNNAMED, create_group_jar, open_place
from tests.rig import Rig

pytestmark = pytest.mark.root
MEMBER, GROUP = UNNAMED, UNNAMED + 1
PROGRAMS = [
    ("start_worker",),
    ("start_worker", "--foreground"),
    ("start_worker", "--storage", "tape"),
    ("check_workers",),
]


@pytest.fixture
def group() -> Iterator[Rig]:
    """A jar of a group with a member, where the member can reach it."""
    with open_place() as place:
        create_group_jar(place / "jar", GROUP)
        rig = Rig(place / "jar", make=False)
        yield rig
        rig.end_everything()


def submit_as_member(rig: Rig, name: str) -> None:
    script = (
        f"umask 007; printf '#!/bin/sh\\nid -u\\n' > limbo/{name}; chmod 770 limbo/{name}; mv limbo/{name} unclaimed"
    )
    subprocess.run(["sh", "-ec", script], cwd=rig.home, user=MEMBER, group=GROUP, extra_groups=[], check=True)


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_root_starts_no_worker_in_a_group_s_jar_without_being_told_to(group: Rig, words: tuple[str, ...]) -> None:
    submit_as_member(group, "members.1")
    result = group.run(*words, check=False)
    assert result.returncode == 1 and result.stdout == ""
    assert f"{group.home} belongs to root (mode 2770)" in result.stderr
    assert "--as-root-for-group" in result.stderr
    assert group.names("unclaimed") == ["members.1"]
    assert os.listdir(group.home / "workers") == []


def test_root_runs_members_jobs_as_root_when_that_is_said(group: Rig) -> None:
    submit_as_member(group, "members.1")
    group.run_until_idle("--as-root-for-group")
    assert group.run("jobjar", "output", "members.1").stdout == "0\n"
    names = group.run("check_workers", "--as-root-for-group", JJ_MAX_WORKERS="1").stdout
    assert group.run("stop_worker", "all").stdout == names


@pytest.mark.parametrize("place", ["", "limbo", "unclaimed", "unclaimed/LINUX"])
@pytest.mark.parametrize("how", ["a group", "another owner"])
def test_one_directory_that_others_may_put_jobs_into_is_enough(rig: Rig, place: str, how: str) -> None:
    (rig.home / "unclaimed/LINUX").mkdir()
    if how == "a group":
        (rig.home / place).chmod(0o770)
    else:
        os.chown(rig.home / place, MEMBER, GROUP)
    result = rig.run("start_worker", check=False)
    assert result.returncode == 1
    assert "--as-root-for-group" in result.stderr
    rig.stop_worker(rig.start_worker("--as-root-for-group"))


def test_in_a_jar_of_its_own_root_is_not_asked(rig: Rig) -> None:
    name = rig.submit("id -u")
    rig.run_until_idle()
    assert rig.run("jobjar", "output", name).stdout == "0\n"
