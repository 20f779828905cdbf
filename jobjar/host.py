"""Which host this is, and who runs this process: names as the system gives them, or as JJ_NODE says."""

from __future__ import annotations

import os


def login() -> str:
    """The name of the user that this process runs as; its number where there is no name."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def node_name() -> str:
    """This node's name: JJ_NODE in the environment, else what `hostname` prints. Part of worker names, and the implicit
    category. It says who is meant, and nothing of who is alive (liveness.py)."""
    return os.environ.get("JJ_NODE") or os.uname().nodename


def host_name() -> str:
    """What the network calls this machine, whatever JJ_NODE says."""
    return os.uname().nodename
