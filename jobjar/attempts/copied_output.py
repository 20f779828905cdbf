"""The output of a job that opens `/dev/stderr` or its like by name: a pipe, and a process that copies it into the output file.

`> /dev/stderr` opens the file behind the descriptor anew and empties it (proc(5)); a pipe has nothing to empty. A pipe for every
job would cost each a process, so only those have one whose text names such a file: what a submission saw in it is kept in the
file's sticky bit, which means nothing of a file that is no directory (chmod(2)); a file that is read at its claim tells itself.
Killed here, the copier goes on until nobody writes any more, as the job does.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

MARK = stat.S_ISVTX
_NAMED = re.compile(rb"/dev/std(?:out|err)\b|/dev/fd/[12]\b|/proc/(?:self|\$\$)/fd/[12]\b")
# How long the rest is waited for, once the job is over: what left its session may hold the pipe for ever.
_REST_S = 5.0


def names_its_output(text: bytes) -> bool:
    """Whether a script opens its standard output or error by name."""
    return _NAMED.search(text) is not None


class CopiedOutput:
    """A pipe for one attempt, whose content a process of its own copies to `output`. Raises OSError where there can be none."""

    def __init__(self, output: int) -> None:
        from jobjar.processes.session import END_NOW, start_awaited  # a submission only asks for the name

        reader, self.descriptor = os.pipe2(os.O_CLOEXEC)
        try:
            # Nothing but the end of what is written ends it: a signal to all processes of a worker would end its job by SIGPIPE.
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
        """Have what was written in the file; returns whether that is all. False where somebody still may write."""
        import select

        from jobjar.processes.session import give_up, reap

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
