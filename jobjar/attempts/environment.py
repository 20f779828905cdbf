"""The environment of jobs: their worker's, the JJ_… variables of worker and attempt, and what each job was given.

A described job has more. described/steps.py adds JJ_BATCH, JJ_SEED, JUG_SEED, JJ_PHASE and the description's own, and
described/store.py those of storage. packages/package.py adds JUG_RUN, JUG_STAGE_IN and JUG_STAGE_OUT. Writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from jobjar.attempts.attempt import ClaimedJob, Claimer
from jobjar.attempts.capacity import Share
from jobjar.host import node_name
from jobjar.job_file.given import Given


def environment_of_worker(claimer: Claimer) -> dict[bytes, bytes]:
    """The environment of all jobs of a worker: its own, the JJ_… variables that are the same for all, and a PATH that begins
    with the jar's programs."""
    layout = claimer.jar.layout
    of_all = {
        **os.environ,
        "JJ_HOME": layout.home,
        "JJ_WORKER_HOME": layout.workers,
        "JJ_WORKER": claimer.paths.name,
        "JJ_WORKER_ID": claimer.worker_id,
        "JJ_WORKER_DIR": claimer.paths.path,
        "JJ_NODE": node_name(),
        "PATH": f"{layout.bin}:{os.environ.get('PATH', os.defpath)}",
    }
    return {os.fsencode(name): os.fsencode(value) for name, value in of_all.items()}


def environment_of_attempt(of_worker: Mapping[bytes, bytes], job: ClaimedJob, directory: str) -> dict[bytes, bytes]:
    """The environment of an attempt in `directory`: its worker's, and the variables of the job. The guide lists them all."""
    encode = os.fsencode
    return {
        **of_worker,
        b"JJ_JOB": encode(job.name),
        b"JJ_JOB_ID": encode(job.uid),
        b"JJ_JOB_FILE": encode(job.path),
        b"JJ_SCRATCH_DIR": encode(directory),
        b"JJ_PRIORITY": b"%d" % job.priority,
        b"JJ_CATEGORY": encode(job.category),
        b"JJ_ATTEMPT": b"%d" % job.attempt,
        b"JJ_SUBMITTER": encode(job.submitter),
        **({} if job.share is None else _variables_of_share(job.share, of_worker)),
    }


def _variables_of_share(share: Share, of_worker: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The variables that say what a job has of its worker, in words that libraries understand."""
    cores = b"%d" % share.cores
    found = {b"JJ_CORES": cores, b"JJ_MEMORY": b"%d" % share.memory_bytes if share.memory_bytes else b""}
    if b"OMP_NUM_THREADS" not in of_worker:
        found[b"OMP_NUM_THREADS"] = cores
    if share.gpus is not None:
        for name in (b"JJ_GPUS", b"CUDA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES"):
            found[name] = os.fsencode(",".join(share.gpus))
    return found


def add_given(environment: Mapping[bytes, bytes], given: Given) -> dict[bytes, bytes]:
    """An attempt's environment, with the variables that its job was given. Its worker's programs stay first in PATH."""
    added = {os.fsencode(name): os.fsencode(value) for name, value in given.env.items() if not name.startswith("JJ_")}
    if b"PATH" in added:
        added[b"PATH"] = environment[b"PATH"].partition(b":")[0] + b":" + added[b"PATH"]
    if given.dir is not None:
        added[b"PWD"] = os.fsencode(given.dir)
    return {**environment, **added}
