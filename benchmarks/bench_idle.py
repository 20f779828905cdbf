"""What idle workers cost a network disk: the operations that its client counts, after they had nothing to do for ten minutes.

Mounts MooseFS in namespaces (root; `make packages`), makes a jar there with the default settings, starts some workers on a host,
and waits. Then it watches for a while what the mount's file `.stats` counts: calls of the kernel (`fuse_ops`), and packets to
the file server (`master`). The same is counted before any worker runs, and subtracted. It takes a quarter of an hour:
python benchmarks/bench_idle.py
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from measure import PROJECT, make_directory, make_parser, parse, print_table, verdict

sys.path.insert(0, str(PROJECT))

from tests.hosts.rigs.moosefs import MooseFS, why_no_moosefs
from tests.hosts.rigs.space import Space

WANTED_PER_S = 100.0
BIN = Path(sys.executable).parent
# The sum of the calls, each kind, and what the client asks of the master. Parts of a kind have another dot.
_CALLS, _PACKETS = "fuse_ops", "master.packets_sent"
_COUNTED = re.compile(rf"^({_CALLS}(?:\.[\w-]+)?|{_PACKETS}): (\d+)$", re.MULTILINE)
Counts = dict[str, float]


def watch(host: Space, mount_point: Path, seconds: float) -> Counts:
    """How often a minute each kind was counted."""

    def read() -> Counts:
        text = host.path(f"{mount_point}/.stats").read_text(encoding="ascii")
        return {kind: float(count) for kind, count in _COUNTED.findall(text)}

    before = read()
    time.sleep(seconds)
    return {kind: (count - before.get(kind, 0.0)) * 60 / seconds for kind, count in read().items()}


def main() -> None:
    parser = make_parser(__doc__, rounds=1)
    parser.add_argument("--workers", type=int, default=10, help="workers on the host (default: 10)")
    parser.add_argument("--settle", type=float, default=600.0, help="seconds before they are watched (default: 600)")
    parser.add_argument("--watch", type=float, default=300.0, help="seconds to watch them (default: 300)")
    options = parse(parser)
    reason = why_no_moosefs()
    if reason is not None:
        print(f"cannot run here: {reason}")
        return
    directory = make_directory(options.directory)
    rig = MooseFS(directory)
    try:
        host = rig.start_host("rain")
        home = f"{rig.mount_point}/jar"
        paths = {"JJ_HOME": home, "JJ_LEDGER_HOME": f"{directory}/home", "HOME": str(directory)}
        environment = {**os.environ, **paths, "PATH": f"{BIN}:{os.environ['PATH']}"}
        host.start("jobjar", "init", home, environment=environment).communicate()
        alone = watch(host, rig.mount_point, options.watch / 5)
        for _ in range(options.workers):
            worker = host.start("start_worker", "--foreground", environment=environment)
            assert worker.stdout is not None
            worker.stdout.readline()
        time.sleep(options.settle)
        counted = watch(host, rig.mount_point, options.watch)
    finally:
        rig.close()
    mine = {kind: (count - alone.get(kind, 0.0)) / options.workers for kind, count in counted.items()}
    kinds = [kind for kind, count in sorted(mine.items()) if kind not in (_CALLS, _PACKETS) and count > 0]
    print_table(("of one worker", "a minute"), [(kind, f"{mine[kind]:.2f}") for kind in (*kinds, _CALLS, _PACKETS)])
    # The client answers the other calls by itself.
    a_second = mine[_PACKETS] * 1000 / 60
    print(f"1,000 idle workers: {a_second:.0f} {_PACKETS} a second; {verdict(a_second, WANTED_PER_S, False)}")


if __name__ == "__main__":
    main()
