"""A jar in a mount namespace of its own: small disks that fill up, mounts that are read-only."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.rig import BIN, Rig, wait_until


class SpaceRig(Rig):
    """A rig whose programs run in a private mount namespace. `inside` is the jar as they see it."""

    def __init__(self, home: Path, make: bool = True) -> None:
        super().__init__(home, make)
        self._logs = 0
        self._space = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._space.stdout is not None
        assert self._space.stdout.readline() == "ready\n"
        self.before = ["/usr/bin/nsenter", "--mount", "--target", str(self._space.pid), "--"]
        self.inside = self.seen(home)

    def seen(self, path: Path) -> Path:
        """`path` as the programs see it."""
        return Path(f"/proc/{self._space.pid}/root{path}")

    def root_shell(self, script: str) -> None:
        """Run a shell script as root in the namespace: mounts, and what fills a disk."""
        self.run("/bin/sh", "-ec", script)

    def mount_small_disk(self, path: Path, size: str = "4m") -> None:
        path.mkdir(exist_ok=True)
        self.root_shell(f"mount -t tmpfs -o size={size},mode=0700 tmpfs '{path}'")

    def mount_read_only(self, path: Path) -> None:
        self.root_shell(f"mount --bind '{path}' '{path}'; mount -o remount,ro,bind '{path}'")

    def unmount(self, path: Path) -> None:
        self.root_shell(f"umount --lazy '{path}'")

    def fill(self, disk: Path) -> Path:
        """Take all space that is left on a disk; returns the file that has it."""
        filler = self.seen(disk) / "filler"
        # Page by page at the end: a file that got only a part of a page leaves nothing for the next one.
        self.root_shell(f"dd if=/dev/zero of='{disk}/filler' bs=4k 2>/dev/null || true")
        assert filler.stat().st_size > 0 or os.statvfs(filler).f_bavail == 0
        return filler

    def start_logged_worker(self, log: Path, *words: str, **changes: str) -> subprocess.Popen[str]:
        """A worker in the namespace; what it says goes to `log`, on a disk that does not fill up."""
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*self.before, str(BIN / "start_worker"), "--foreground", *words],
                env={**self.environment, **changes},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        wait_until(lambda: ", version " in log.read_text(), "the start of a worker")
        return process

    def start_worker(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        self._logs += 1
        return self.start_logged_worker(self.home.parent / f"worker{self._logs}.log", *words, **changes)

    def names(self, jar: str) -> list[str]:
        directory = self.inside / jar
        return sorted(path.name for path in directory.iterdir() if not path.is_dir()) if directory.exists() else []

    def end_everything(self) -> None:
        super().end_everything()
        assert self._space.stdin is not None
        self._space.stdin.close()
        self._space.wait()
