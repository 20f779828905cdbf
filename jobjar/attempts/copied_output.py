"""The output of a job that opens `/dev/stderr` or the like by name: a pipe, and a process that copies it into the output file.

`> /dev/stderr` opens the file behind the descriptor anew and empties it (proc(5)); a pipe has nothing to empty. A pipe for every
job would cost each a process. So only a job gets one whose text names such a file. A submission sees that and keeps it in the
file's sticky bit, which has no meaning for plain files (chmod(2)). A hand-made file is read at its claim. After a kill the
copier goes on, as the job does, until no process writes any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

MARK = stat.S_ISVTX
# The end of the name may be a variable. A name too many costs a process, one too few costs output.
_NAMED = re.compile(rb"/dev/(?:std(?!in\b)|fd/(?!0\b)|[$\"'])|/proc/[^/\s]{1,40}/fd/(?!0\b)")
# How long to wait for the rest of the output once the job is over. A process that left its session may hold the pipe for ever.
_REST_S = 5.0


def names_its_output(text: bytes) -> bool:
    """Whether a script opens its standard output or error by name."""
    return _NAMED.search(text) is not None


class CopiedOutput:
    """A pipe for one attempt, and a process that copies its content to `output`. Raises OSError if it cannot be made."""

    def __init__(self, output: int) -> None:
        from jobjar.processes.children import start_awaited  # a submission only asks for the name
        from jobjar.processes.ending import END_NOW

        reader, self.descriptor = os.pipe2(os.O_CLOEXEC)
        try:
            # The copier ends only when its input ends. If a signal to all of a worker's processes ended it, SIGPIPE would end
            # the job.
            self._pid = start_awaited(
                lambda: os.posix_spawn(
                    "/bin/cat",
                    ["cat"],
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, reader, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                    ],
                    setsid=True,
                    setsigmask=END_NOW,
                )
            )
        except OSError:
            os.close(self.descriptor)
            raise
        finally:
            os.close(reader)

    def finish(self) -> bool:
        """Wait until the output is in the file. Returns whether that is all of it; False if a process may still write."""
        import select

        from jobjar.processes.children import give_up, reap

        os.close(self.descriptor)
        ended = None
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self._pid)
            try:
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(_REST_S * 1000)
            finally:
                os.close(pidfd)
            ended = reap(self._pid)
        give_up(self._pid)
        return ended is not None
