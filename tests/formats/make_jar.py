"""Make the frozen jar of a release: `python -m tests.formats.make_jar`, once, when it is released.

Writes jar-<version>.tar.gz beside this file: a jar in which jobs succeeded, failed, were retried, held and stranded, and
two wait. A host name of its own is set in a namespace, so that this machine's is not in it. What `jobjar init` makes
again (programs, crontabs, documents) is left out.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from jobjar.ledger.rebuild import fill_ledger
from jobjar.version import VERSION
from tests.rig import Rig, wait_until

HERE = Path(__file__).parent
LEFT_OUT = ("bin", "crontabs", "documents", "config.ini", "ledger/ledger.db-wal", "ledger/ledger.db-shm")


def fill_jar(rig: Rig) -> None:
    """Give the jar a history."""
    rig.submit("-p", "5", "-i", "good", "echo", "hello")
    rig.submit("-c", "LINUX", "-i", "bad", "exit", "3")
    rig.submit("-i", "again", "--retries", "1", "exit", "4")
    rig.submit("-i", "limited", "--time-limit", "0.2", "sleep", "60")
    rig.drop("by_hand.7", "#!/bin/sh\n#JJ retries = 2\necho by hand\n", "LINUX")
    rig.drop("by_hand.7", "#!/bin/sh\necho another by hand\n")
    rig.drop("oddly", "#!/bin/sh\n#JJ colour = red\n")
    rig.run_until_idle("LINUX")
    rig.submit("-i", "stranded", "test -e $JJ_HOME/go || { touch $JJ_HOME/here; sleep 60; }")
    worker = rig.start_worker()
    wait_until(lambda: (rig.home / "here").exists(), "the start of the job to be stranded")
    worker.kill()
    worker.wait()
    (rig.home / "here").unlink()
    (rig.home / "go").touch()
    rig.run("recover_jobs")
    rig.run_until_idle()
    (rig.home / "go").unlink()
    worker = rig.start_worker()
    rig.drop("oddly", "#!/bin/sh\n#JJ colour = red\n")
    wait_until(lambda: (rig.home / "limbo/oddly").exists() and not (rig.home / "unclaimed/oddly").exists())
    rig.stop_worker(worker)
    rig.submit("-p", "-2", "-i", "waits", "echo", "waited")
    rig.submit("-p", "9", "-c", "LATER", "-i", "waits", "echo", "waited in a category")
    jar = rig.open()
    fill_ledger(jar.ledger)
    rig.assert_clean()
    jar.ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def pack_jar(home: Path, target: Path) -> None:
    """Pack a jar, without what differs from one packing to the next."""

    def tidy(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        place = member.name.removeprefix("jar/")
        if place.startswith(LEFT_OUT):
            return None
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "ann"
        return member

    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, 0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.add(home, "jar", filter=tidy)


def main() -> None:
    if os.uname().nodename != "rain":
        inner = f"hostname rain && exec {sys.executable} -m tests.formats.make_jar"
        subprocess.run(["unshare", "--uts", "sh", "-c", inner], check=True)
        return
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory) / "jar")
        try:
            fill_jar(rig)
        finally:
            rig.end_everything()
        pack_jar(rig.home, HERE / f"jar-{VERSION}.tar.gz")


if __name__ == "__main__":
    main()
