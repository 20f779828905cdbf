"""The command of jobs that a `jobjar.Executor` submits: `python run_calls.py DIRECTORY GROUP`. No person types it."""

import os
import sys

if __name__ == "__main__":
    # Python put the directory of this file there, whose modules must not stand before others.
    del sys.path[0]
    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)

from jobjar.executor.run import NOTHING, run_group


def main(directory: str, group: str) -> int:
    """Run a group of calls (executor/run.py); returns the exit status."""
    status = run_group(directory, group)
    if status == NOTHING:
        print("these calls were withdrawn by their client, or it has gone: there is nothing to run")
        return 0
    return status


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.exit(status)
