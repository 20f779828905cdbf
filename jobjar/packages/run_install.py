"""Run a package's `package/install` in a session that ends with the process that started it.

The shell's standard input is a pipe. Only this process could write to it, and never does. When this process dies in any way, the
kernel closes the pipe, and a watcher in the session kills the rest. So no installer goes on writing into a directory that
another process has begun anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from jobjar.errors import CannotInstall
from jobjar.fetching.copying import LOOKS_S, BetweenPieces, nothing
from jobjar.processes.children import start_awaited
from jobjar.processes.ending import doubt, seems_ended_on_request, wait_for_child
from jobjar.processes.starting import DEFAULT_SIGNALS
from jobjar.shared_disk.files import look

_SHOWN_BYTES = 4000
_WATCHED = """exec 3<&0 </dev/null
(read never <&3; kill -KILL 0) &
exec 3<&-
cd "$2" && exec "$1" "$2"
"""


def run_install(
    location: str, package: str, log: Callable[[str], None], between_pieces: BetweenPieces = nothing
) -> str:
    """Run `package/install`, if there is one, with `location` as its first argument and working directory. Returns the end of
    its output. `package` is its name in errors. `between_pieces` is called while it runs; an exception from it kills
    `package/install` at once, with all its processes. Raises CannotInstall with the output where it fails; OSError."""
    program = f"{location}/package/install"
    status = look(program)
    if status is None:
        return ""
    if not os.access(program, os.X_OK):
        raise CannotInstall(
            location=package, reason="its package/install has no run bit; chmod +x it, and pack it again"
        )
    with tempfile.TemporaryFile() as output:
        log(f"{location}: running package/install")
        ended = _run(program, location, output.fileno(), between_pieces)
        said = _read_end(output.fileno())
    if ended != 0:
        how = f"was ended by signal {-ended}" if ended < 0 else f"failed with status {ended}"
        raise CannotInstall(location=package, reason=f"its package/install {how}{_quote_output(said)}")
    return said


def _quote_output(said: str) -> str:
    return f"; it said:\n{said}" if said else ", and said nothing"


def _read_end(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    start = max(0, size - _SHOWN_BYTES)
    text = os.pread(descriptor, _SHOWN_BYTES, start).decode("utf-8", "replace").strip()
    return f"…{text}" if start else text


def _run(program: str, location: str, output: int, between_pieces: BetweenPieces) -> int:
    """Run the program. Returns its exit status, or the negative number of the signal that ended it."""
    read_end, write_end = os.pipe()
    try:
        files = [
            (os.POSIX_SPAWN_DUP2, read_end, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        words = ["/bin/sh", "-c", _WATCHED, "install", program, location]
        pid = start_awaited(
            lambda: os.posix_spawn(
                "/bin/sh", words, os.environ, file_actions=files, setsid=True, setsigdef=DEFAULT_SIGNALS, setsigmask=[]
            )
        )
        # Where it has to end, its files are discarded, so it gets no grace time.
        ended = wait_for_child(pid, between_pieces, LOOKS_S, 0.0)
        if seems_ended_on_request(ended):
            doubt(between_pieces)
        return ended.exit_status if ended.exit_status is not None else -(ended.signal or 0)
    finally:
        os.close(read_end)
        os.close(write_end)
