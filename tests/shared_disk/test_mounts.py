from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.shared_disk.mounts import LOCAL_FILE_SYSTEMS, is_local, is_local_mount, mount_of, parse_mounts

MOUNTS = [
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "23 22 0:21 / /proc rw - proc proc rw",
    "30 22 0:40 / /home rw shared:9 - nfs4 server:/home rw,vers=4.2",
    "31 30 0:41 / /home/scratch rw - tmpfs tmpfs rw",
    "32 22 0:42 / /mnt/far rw - fuse.sshfs far:/ rw",
    "33 22 0:43 / /mnt/moose rw - fuse.mfs mfsmaster:9421 rw",
    "34 22 0:44 / /box rw - overlay overlay rw,lowerdir=/l,upperdir=/u",
    "35 22 0:45 / /with\\040space rw - cifs //server/share rw",
    "36 22 0:46 / /lustre rw - lustre mgs@tcp:/scratch rw",
    "37 22 0:47 / /twice rw - xfs /dev/sdb rw",
    "38 37 0:48 / /twice rw - nfs server:/twice rw",
    "39 22 0:49 / /new rw - hyperfs9000 none rw",
]


def is_local_in(path: str, mountinfo: list[str]) -> bool:
    return is_local_mount(mount_of(path, parse_mounts("\n".join(mountinfo))))


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/", True),
        ("/data/jar", True),
        ("/home", False),
        ("/home/ann/jar", False),
        ("/homestead/jar", True),
        ("/home/scratch/jar", True),
        ("/mnt/far/jar", False),
        ("/mnt/moose/jar", False),
        ("/box/jar", True),
        ("/with space/jar", False),
        ("/with", True),
        ("/lustre/jar", False),
        ("/twice/jar", False),
        ("/new/jar", False),
    ],
)
def test_a_disk_is_local_or_not_by_the_last_of_the_longest_mount_points(path: str, local: bool) -> None:
    assert is_local_in(path, MOUNTS) is local


@pytest.mark.parametrize("file_system", sorted(LOCAL_FILE_SYSTEMS))
def test_file_systems_of_this_host_s_own_disks_are_local(file_system: str) -> None:
    assert is_local_in("/d/jar", [f"22 1 8:1 / /d rw - {file_system} /dev/x rw"])


@pytest.mark.parametrize("file_system", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "gpfs", "fuse", "fuse.glusterfs"])
def test_file_systems_that_several_hosts_may_have_are_not_local(file_system: str) -> None:
    assert not is_local_in("/d/jar", [f"22 1 8:1 / /d rw - {file_system} x rw"])


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert not is_local(f"{tmp_path}/link")
    assert not is_local("/proc")
