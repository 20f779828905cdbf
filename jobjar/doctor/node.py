"""All that one node can find out about a jar, in order. The called modules say what they read and try."""

from __future__ import annotations

import contextlib

from jobjar.doctor import filesystem, ledger_home, permissions, probe, space, system, workers
from jobjar.doctor.findings import Finding, examine
from jobjar.errors import JarError
from jobjar.jar import Jar


def examine_node(jar: Jar) -> list[Finding]:
    """All findings of this node."""
    layout = jar.layout
    paths = {"jar": layout.home, "workers": layout.workers, "/tmp": "/tmp"}
    with contextlib.suppress(JarError):  # the ledger's check reports this
        paths["ledger home"] = jar.ledger_home.path
    findings = [
        *examine(probe.GROUP, "file system", lambda: filesystem.look_at_file_system(probe.GROUP, layout.home)),
        *examine(probe.GROUP, "disk", lambda: probe.look_at_disk(layout)),
        *examine(space.GROUP, "space", lambda: space.look_at_space(paths)),
        *examine(permissions.GROUP, "permissions", lambda: permissions.look_at_permissions(jar)),
        *examine(ledger_home.GROUP, "ledger", lambda: ledger_home.look_at_ledger(jar)),
        *examine(system.GROUP, "node", lambda: system.look_at_node(jar)),
    ]
    offset_s = 0.0
    with contextlib.suppress(OSError), probe.own_directory(layout) as own:
        offset_s, _ = probe.clock_offset(f"{own}/clock")
    findings += examine(workers.GROUP, "workers", lambda: workers.look_at_workers(jar, offset_s))
    return findings
