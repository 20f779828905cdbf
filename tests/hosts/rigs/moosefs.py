"""MooseFS for tests: a master and a chunk server on one computer, mounted by others; none of it outside of namespaces.

Started by hand, with two hosts and a shell on the first: python -m tests.hosts.rigs.moosefs DIRECTORY
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.hosts.rigs.space import CannotRun, Space, make_network, plug_in, why_not

PROGRAMS = ("mfsmaster", "mfschunkserver", "mfsmount", "fusermount3")
_EMPTY_METADATA = "/var/lib/mfs/metadata.mfs.empty"
PATIENCE_S = 60.0


class MooseFS:
    """A running MooseFS. Its files lie under `directory`; hosts mount it at `mount_point`, each for itself alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.mount_point = directory / "net"
        for name in ("meta", "chunks", "disk", "net"):
            (directory / name).mkdir(parents=True)
        self.hosts: dict[str, Space] = {}
        self.server = Space("store", 1)
        try:
            make_network(self.server)
            self._configure()
            shutil.copy(_EMPTY_METADATA, directory / "meta" / "metadata.mfs")
            self.start_server()
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        directory, address = self._directory, self.server.address
        common = "WORKING_USER = root\nWORKING_GROUP = root\n"
        (directory / "exports").write_text("* / rw,alldirs,admin,maproot=0:0\n")
        (directory / "topology").write_text("")
        (directory / "disks").write_text(f"{directory / 'disk'}\n")
        (directory / "master.cfg").write_text(
            f"{common}DATA_PATH = {directory / 'meta'}\nEXPORTS_FILENAME = {directory / 'exports'}\n"
            f"TOPOLOGY_FILENAME = {directory / 'topology'}\nLOCK_MEMORY = 0\n"
            f"MATOML_LISTEN_HOST = {address}\nMATOCS_LISTEN_HOST = {address}\nMATOCL_LISTEN_HOST = {address}\n"
        )
        (directory / "chunks.cfg").write_text(
            f"{common}DATA_PATH = {directory / 'chunks'}\nHDD_CONF_FILENAME = {directory / 'disks'}\n"
            f"HDD_LEAVE_SPACE_DEFAULT = 256MiB\nMASTER_HOST = {address}\nCSSERV_LISTEN_HOST = {address}\n"
        )

    def start_server(self) -> None:
        """Start the master, and the chunk server."""
        self.server.run("mfsmaster", "-c", str(self._directory / "master.cfg"), "start")
        self.server.run("mfschunkserver", "-c", str(self._directory / "chunks.cfg"), "start")

    def stop_server(self) -> None:
        """Stop both: what hosts ask of their mounts waits meanwhile."""
        self.server.run("mfschunkserver", "-c", str(self._directory / "chunks.cfg"), "stop")
        self.server.run("mfsmaster", "-c", str(self._directory / "master.cfg"), "stop")

    def start_host(self, name: str) -> Space:
        """A computer that mounts the file system; one of the same name that was killed is replaced."""
        before = self.hosts.pop(name, None)
        if before is not None:
            before.kill()
        address = int(before.address.rpartition(".")[2]) if before else 2 + len(self.hosts)
        space = Space(name, address)
        self.hosts[name] = space
        plug_in(self.server, space)
        space.run("mfsmount", str(self.mount_point), "-H", self.server.address)
        space.end_mount_with_host(self.mount_point)
        self._wait_until_writable(space)
        return space

    def _wait_until_writable(self, space: Space) -> None:
        """A chunk server that has just started has told the master of no space yet."""
        probe = self.mount_point / f".probe-{space.name}"
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                space.run("sh", "-c", f"echo here > '{probe}' && grep -q here '{probe}' && rm '{probe}'")
                return
            except CannotRun:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """End everything."""
        for space in (*self.hosts.values(), self.server):
            space.kill()


def why_no_moosefs() -> str | None:
    """Why the rig cannot run here, or None."""
    reason = why_not(PROGRAMS, ["/dev/fuse"])
    if reason is None and not Path(_EMPTY_METADATA).exists():
        reason = f"{_EMPTY_METADATA} is missing (`make packages`)"
    return reason


def main() -> None:
    rig = MooseFS(Path(sys.argv[1]).absolute())
    try:
        spaces = [rig.start_host("rain"), rig.start_host("snow")]
        for space in spaces:
            print(f"{space.name}: {' '.join(space.words())}", flush=True)
        print(f"server: {' '.join(rig.server.words())}", flush=True)
        subprocess.run(spaces[0].words("bash"), cwd="/", check=False)
    finally:
        rig.close()


if __name__ == "__main__":
    main()
