"""Give up workers and nodes that a person declares gone for good: what cannot be known here is taken for dead.

Notes that in each worker's worker.json, so that every later recovery, on any node, takes over what the worker left. Makes its
STOP file, so that it leaves if it is alive after all. Gives up the changes of batches that processes of the node were making
(batches/change.py). A kill midway leaves some given up and others not; the same command goes on then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from jobjar import control
from jobjar.batches.change import read_change
from jobjar.batches.unfinished import give_up
from jobjar.errors import CannotUseJar, JarError, NotGone, UnknownGone
from jobjar.hearing import Hearing
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.liveness import ALIVE, UNKNOWN, gone_nodes, liveness
from jobjar.roster import WorkerState, list_workers
from jobjar.shared_disk.contents import WORKER, Unreadable, read_document
from jobjar.shared_disk.files import replace_file
from jobjar.shared_disk.listing import list_directory, list_held
from jobjar.units import format_seconds


class Gone:
    """What a person declares gone: these workers, and these nodes with the batches that their processes were changing."""

    def __init__(self, workers: list[WorkerState], batches: list[str], nodes: list[str]) -> None:
        self.workers = workers
        self.batches = batches
        self.nodes = nodes

    def describe(self, jar: Jar) -> str:
        """Text for the person: what is about to be taken for dead, and what that means."""
        hearing = Hearing(jar.layout)
        lines = []
        for worker in self.workers:
            count = sum(1 for _ in list_held(worker.paths))
            silent_s = hearing.silent_s(worker)
            heard = "never heard of" if silent_s is None else f"silent for {format_seconds(silent_s)}"
            lines.append(f"{worker.name}: {heard}, holds {count} {'job' if count == 1 else 'jobs'}")
        lines += [f"batch {name}: being changed from there" for name in self.batches]
        lines.append("Their jobs go back, and are run again. What still runs of them somewhere would run twice.")
        return "\n".join(lines)


def find_gone(jar: Jar, nodes: Iterable[str], names: Iterable[str]) -> Gone:
    """Find the workers and batches to give up, by names of nodes and workers. Raises UnknownGone, or NotGone if one of them is
    alive here or was heard of lately. Nothing is given up then."""
    names, nodes = list(names), list(nodes)
    workers = [worker for worker in list_workers(jar.layout) if not worker.set_aside]
    batches = {name: held for name, held in _changes_elsewhere(jar) if held in nodes}
    for name in (*nodes, *names):
        is_known = any(name in (worker.name, worker.process.node) for worker in workers) or name in batches.values()
        if not is_known:
            raise UnknownGone(name=name)
    meant = [worker for worker in workers if worker.name in names or worker.process.node in nodes]
    hearing = Hearing(jar.layout)
    living = [
        worker for worker in meant if worker.alive == ALIVE or (worker.alive == UNKNOWN and hearing.beats(worker))
    ]
    if living:
        raise _not_gone(living, meant, hearing)
    return Gone([worker for worker in meant if worker.alive == UNKNOWN], list(batches), nodes)


def _changes_elsewhere(jar: Jar) -> Iterable[tuple[str, str]]:
    """The batches, each with a node's name, that a process is changing of which this node does not know whether it lives."""
    for entry in list_directory(jar.layout.batches):
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        change = read_change(jar, entry.name)
        if change is not None and liveness(change.process) == UNKNOWN:
            yield entry.name, change.process.node


def _not_gone(living: list[WorkerState], meant: list[WorkerState], hearing: Hearing) -> JarError:
    said = []
    for worker in living:
        age_s = hearing.age_s(worker) or 0.0
        is_here = worker.alive == ALIVE
        said.append(
            f"{worker.name} {'runs here' if is_here else f'was heard of {format_seconds(max(0.0, age_s))} ago'}"
        )
    others = " ".join(f"--worker {worker.name}" for worker in meant if worker not in living and worker.alive == UNKNOWN)
    advice = f"; name those that are gone: recover_jobs {others}" if others else ""
    return NotGone(living=", ".join(said), advice=advice)


def give_up_gone(jar: Jar, gone: Gone) -> None:
    """Give up these workers and batches: from now on they count as dead. Raises OSError, CannotUseJar, BatchBusy."""
    gone_nodes.update(gone.nodes)
    for worker in gone.workers:
        control.touch(worker.paths.stop_file)
        try:
            data = read_document(worker.paths.identity_file, WORKER)
        except Unreadable as error:  # it was damaged after it was listed
            raise CannotUseJar(action="read", path=worker.paths.identity_file, reason=error) from error
        said = {
            "given_up_at": round(jar.disk_now(), 6),
            "given_up_by": f"{login()}, process {os.getpid()} of node {node_name()}",
        }
        replace_file(worker.paths.identity_file, (json.dumps({**data, **said}, indent=1) + "\n").encode())
    for name in gone.batches:
        give_up(jar, name)
