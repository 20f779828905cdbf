"""The names of this host and of users, from the system or from JJ_NODE."""

from __future__ import annotations

import os

# Host names that many machines have.
NAMES_OF_MANY = ("localhost", "localhost.localdomain", "(none)")


def login() -> str:
    """Return the login of the user that this process runs as; the uid if there is no login."""
    return login_of(os.geteuid())


def login_of(uid: int) -> str:
    """Return a user's login; the uid if it has none on this node."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def node_name() -> str:
    """Return this node's name: JJ_NODE in the environment, otherwise what `hostname` prints. It is part of worker names, and the
    implicit category. It does not show whether a process is alive (liveness.py does)."""
    return os.environ.get("JJ_NODE") or os.uname().nodename


def host_name() -> str:
    """Return this machine's name on the network, whatever JJ_NODE is."""
    return os.uname().nodename
