"""Starting a worker on a disk that refuses in the midst of it."""

from __future__ import annotations

from tests.rig import Rig

# Starts a worker whose log cannot be opened: the disk became read-only just then.
_START = """
import errno, os
import jobjar.worker.daemon, jobjar.errors, jobjar.jar
real_open = os.open
def refuse_log(path, *rest, **options):
    if str(path).endswith("/worker.log"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
    return real_open(path, *rest, **options)
os.open = refuse_log
try:
    jobjar.worker.daemon.run_in_foreground(jobjar.jar.open_jar(), ())
except jobjar.errors.WorkerFailed as error:
    print(error)
"""


def test_a_disk_that_refuses_the_worker_s_log_is_said_in_words(rig: Rig) -> None:
    said = rig.run("python", "-c", _START).stdout
    assert "worker.log: Read-only file system" in said
    assert "noted that it died" in rig.run("recover_jobs").stdout
    rig.assert_clean()
