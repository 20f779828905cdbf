"""Locks on open files, between the processes of one node. The kernel frees the lock of a process that ends, however it ends.

Reads and writes nothing. Job Jar takes no lock on a file of a network disk: these lie in ledger homes and caches of this node.
portalocker takes them. A submission takes two of them and cannot afford to load it: these use the system call alone.
"""

from __future__ import annotations

import fcntl


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone. Returns False if another process has it locked. Raises OSError, also
    where the disk has no locks."""
    import portalocker

    try:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise _as_os_error(error) from error
    return True


def wait_for_lock(descriptor: int) -> None:
    """Wait in the kernel, which serves waiters in order, until this process has the lock. Raises OSError."""
    import portalocker

    try:
        portalocker.lock(descriptor, portalocker.LockFlags.EXCLUSIVE)
    except portalocker.LockException as error:
        raise _as_os_error(error) from error


def try_lock_quickly(descriptor: int) -> bool:
    """`try_lock` by the same system call, without portalocker: for the writer's lock of a ledger and the mark of a journal, which
    each submission takes. DESIGN.md (section 6) says what portalocker would cost there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back, if this process has it. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _as_os_error(error: Exception) -> OSError:
    """What the kernel said to portalocker."""
    cause = error.args[0] if error.args else error
    return cause if isinstance(cause, OSError) else OSError(str(error))
