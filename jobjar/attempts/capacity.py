"""What a worker has for its jobs: cores, memory, GPUs and named resources; and what of it each job has at the moment.

What start_worker does not say is found out: what the process may use by its affinity, its control groups, and the allocation that
it runs in. Reads these; writes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import math
import os
from collections.abc import Collection, Mapping
from typing import NamedTuple

from jobjar.job_file.request import Capacity, Request, request_of_class
from jobjar.settings.layers import Settings

ALL = "all"
_CGROUPS = "/sys/fs/cgroup"
# A limit above this is none (cgroup v1 has a number that large for that).
_NO_LIMIT = 1 << 60


class Offer(NamedTuple):
    """What start_worker was told that its jobs may have. None, and "" for GPUs: nothing was said."""

    slots: int | None = None
    cores: int | str | None = None
    memory: int | str | None = None
    gpus: str = ""
    resources: tuple[tuple[str, int], ...] = ()

    @property
    def is_said(self) -> bool:
        return self != Offer() and self != Offer(slots=1)

    def words(self) -> list[str]:
        """The options of start_worker that say the same."""
        said = [("--slots", self.slots), ("--cores", self.cores), ("--memory", self.memory), ("--gpus", self.gpus)]
        words = [f"{name}={value}" for name, value in said if value not in (None, "")]
        return words + [f"--resource={name}={number}" for name, number in self.resources]


def offer_of(
    settings: Settings,
    slots: int | None = None,
    cores: int | str | None = None,
    memory: int | str | None = None,
    gpus: str | None = None,
    resources: Mapping[str, int] | None = None,
) -> Offer:
    """What a worker is told: what is given here, and by the settings else."""
    named = settings.resources if resources is None else resources
    return Offer(
        settings.slots if slots is None else slots,
        settings.cores if cores is None else cores,
        settings.memory if memory is None else memory,
        settings.gpus if gpus is None else gpus,
        tuple(sorted(named.items())),
    )


class Share(NamedTuple):
    """What one job has of it. `gpus` is None for a worker that was told nothing of GPUs, and a job that asks for none."""

    cores: int
    memory_bytes: int
    gpus: tuple[str, ...] | None


class Room:
    """The capacity of one worker, and what its jobs have of it. Jobs that ask for nothing take a core each where the worker was
    told what it has; else they take nothing."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.counts_all = offer.is_said
        self._taken: dict[str, tuple[Request, tuple[str, ...]]] = {}

    @functools.cached_property
    def capacity(self) -> Capacity:
        return find_capacity(self.offer)

    def may_ever_fit(self, request_class: str) -> bool:
        """Whether the worker is large enough for a class of jobs."""
        return (not request_class and not self.counts_all) or self.capacity.fits(request_of_class(request_class))

    def fits(self, request_class: str) -> bool:
        """Whether a job of a class fits into what is free now."""
        if not request_class and not self.counts_all:
            return True
        return self.free().fits(request_of_class(request_class))

    def free(self) -> Capacity:
        """What no job has. Its slots are counted elsewhere."""
        capacity, taken = self.capacity, [request for request, _ in self._taken.values()]
        if not taken:
            return capacity
        used: dict[str, int] = {}
        for request in taken:
            for name, number in request.resources:
                used[name] = used.get(name, 0) + number
        return Capacity(
            capacity.slots,
            capacity.cores - sum(request.cores for request in taken),
            capacity.memory_bytes - sum(request.memory_bytes for request in taken),
            self._free_gpus(),
            {name: number - used.get(name, 0) for name, number in capacity.resources.items()},
        )

    def _free_gpus(self) -> tuple[str, ...]:
        used = {gpu for _, gpus in self._taken.values() for gpu in gpus}
        return tuple(gpu for gpu in self.capacity.gpus if gpu not in used)

    def take(self, uid: str, request_class: str) -> Share | None:
        """Give a job what it asks for. Returns None for a job that asks for nothing of a worker that was told nothing."""
        if not request_class and not self.counts_all:
            return None
        request = request_of_class(request_class)
        gpus = self._free_gpus()[: request.gpus] if request.gpus or self.offer.gpus else ()
        self._taken[uid] = request, gpus
        return Share(request.cores, request.memory_bytes, gpus if request.gpus or self.offer.gpus else None)

    def keep(self, held: Collection[str]) -> bool:
        """Take back what jobs have that are not `held` any more. Returns whether there was any."""
        gone = [uid for uid in self._taken if uid not in held]
        for uid in gone:
            del self._taken[uid]
        return bool(gone)


def find_capacity(offer: Offer) -> Capacity:
    """What a worker with this offer has: never more than this process may use."""
    cores_here, memory_here = usable_cores(), usable_memory()
    if offer.cores is None:
        # Slots are also for jobs that wait more than they work.
        cores = max(cores_here, offer.slots or 1)
    else:
        cores = cores_here if offer.cores == ALL else min(int(offer.cores), cores_here)
    memory = memory_here if offer.memory in (None, ALL) else min(int(offer.memory or 0), memory_here)
    slots = offer.slots or (cores if offer.cores is not None else 1)
    return Capacity(slots, cores, memory, _choose_gpus(offer.gpus), dict(offer.resources))


def _choose_gpus(said: str) -> tuple[str, ...]:
    visible = visible_gpus()
    if not said:
        return visible or ()
    if said == "none":
        return ()
    if said == ALL:
        return found_gpus() if visible is None else visible
    named = tuple(word for word in said.split(",") if word)
    return named if visible is None else tuple(gpu for gpu in named if gpu in visible)


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that this process may use, by its environment; None if that does not say."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        text = os.environ.get(name)
        if text is not None:
            names = (word.strip() for word in text.split(","))
            return tuple(word for word in names if word and word not in ("-1", "NoDevFiles", "void", "none"))
    return None


def found_gpus() -> tuple[str, ...]:
    """The GPUs of this node, by their numbers."""
    nvidia = glob.glob("/dev/nvidia[0-9]*")
    count = len(nvidia) or len(glob.glob("/sys/class/kfd/kfd/topology/nodes/*/mem_banks"))
    return tuple(map(str, range(count)))


def usable_cores() -> int:
    """How many cores this process may use."""
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for directory in _cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = _read(f"{directory}/cpu.max").split()
            found.append(math.ceil(int(quota) / int(period)))
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = _read(f"{directory}/cpu.cfs_quota_us"), _read(f"{directory}/cpu.cfs_period_us")
            found += [math.ceil(int(quota) / int(period))] if int(quota) > 0 else []
    found += _numbers("SLURM_CPUS_PER_TASK") or _numbers("SLURM_CPUS_ON_NODE") or _numbers("NCPUS")
    return max(1, min(found))


def usable_memory() -> int:
    """How many bytes of memory this process may use."""
    found = [_NO_LIMIT]
    with contextlib.suppress(OSError, ValueError, IndexError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for directory in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                found.append(int(_read(f"{directory}/{name}")))
    found += [number << 20 for number in _numbers("SLURM_MEM_PER_NODE")]
    for number in _numbers("SLURM_MEM_PER_CPU"):
        found.append((number << 20) * usable_cores())
    return min(found)


def _numbers(name: str) -> list[int]:
    text = os.environ.get(name, "")
    return [int(text)] if text.isdecimal() and int(text) else []


def _cgroups(controller: str) -> list[str]:
    """The directories of this process's control groups that may limit it, and those above them (cgroups(7))."""
    try:
        lines = _read("/proc/self/cgroup").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = f"{_CGROUPS}/{controllers}" if controllers else _CGROUPS
        found.append(top)
        parts = [part for part in path.split("/") if part and part != ".."]
        found += ["/".join([top, *parts[: number + 1]]) for number in range(len(parts))]
    return found


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()
