"""What a job asks for: cores, memory, GPUs, and named resources such as licences.

Each is a `#JJ` line, an option of `jobjar submit` and an argument of the library. Together with what else a job was given they
are in the field `given` of journals. A ledger also keeps them as one short text, the class of the request: jobs of one class fit
the same workers. Most jobs ask for nothing, which is the class "". Reads and writes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobjar.units import format_bytes, parse_size

RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_MOST = 1_000_000
_MOST_BYTES = 1 << 60
# The fields of `given` that are a request.
FIELDS = ("cores", "memory_bytes", "gpus", "resources")


class Request(NamedTuple):
    """What a job asks for. `resources` are (name, number), by name."""

    cores: int = 1
    memory_bytes: int = 0
    gpus: int = 0
    resources: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.cores} core{'s' if self.cores > 1 else ''}"]
        parts += [f"{format_bytes(self.memory_bytes)} memory"] if self.memory_bytes else []
        parts += [f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        parts += [f"{number} {name}" for name, number in self.resources]
        return ", ".join(parts)


NOTHING = Request()


def parse_number(value: Any, least: int = 0) -> int:
    """A number of cores, GPUs or the like. Raises ValueError."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,7}", value.strip()) else value
    if type(number) is not int or not least <= number <= _MOST:
        raise ValueError(f"{value!r} is not a number from {least} to {_MOST}")
    return number


def parse_resources(value: Any) -> dict[str, int]:
    """Named resources: words NAME=N (NAME alone is one), or a mapping. Raises ValueError, TypeError."""
    if isinstance(value, Mapping):
        pairs = [(name, number) for name, number in value.items()]
    else:
        words = value.replace(",", " ").split() if isinstance(value, str) else list(value)
        pairs = [(name, number or "1") for name, _, number in (word.partition("=") for word in words)]
    found = {}
    for name, number in pairs:
        if not isinstance(name, str) or not RESOURCE.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a resource: give NAME=N")
        found[name] = parse_number(number)
    return found


def are_resources(value: Any) -> bool:
    """Whether this is what journals hold of named resources."""
    return type(value) is dict and all(
        isinstance(name, str) and RESOURCE.fullmatch(name) is not None and _is_number(number, _MOST)
        for name, number in value.items()
    )


def is_cores(value: Any) -> bool:
    return _is_number(value, _MOST) and value > 0


def is_gpus(value: Any) -> bool:
    return _is_number(value, _MOST)


def is_memory(value: Any) -> bool:
    return _is_number(value, _MOST_BYTES)


def _is_number(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _parse_memory(value: Any) -> int:
    size = parse_size(value.strip()) if isinstance(value, str) else value
    if not is_memory(size):
        raise ValueError(f"{value!r} is not a number of bytes such as 500M or 8G")
    return int(size)


# Name as people write it -> parser, which returns the fields; and what a field has to be.
PARSERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "cores": lambda value: {"cores": parse_number(value, 1)},
    "memory": lambda value: {"memory_bytes": _parse_memory(value)},
    "gpus": lambda value: {"gpus": parse_number(value)},
    "resource": lambda value: {"resources": parse_resources(value)},
}
CHECKS: dict[str, Callable[[Any], bool]] = {
    "cores": is_cores,
    "gpus": is_gpus,
    "memory_bytes": is_memory,
    "resources": are_resources,
}


def read_request(fields: Mapping[str, Any]) -> Request:
    """The request in the fields that journals hold. Raises ValueError if one is not what belongs there."""
    cores, memory, gpus = fields.get("cores", 1), fields.get("memory_bytes", 0), fields.get("gpus", 0)
    resources = fields.get("resources", {})
    if not (is_cores(cores) and is_memory(memory) and is_gpus(gpus) and are_resources(resources)):
        raise ValueError("a request cannot be that")
    named = tuple(sorted((name, number) for name, number in resources.items() if number))
    return Request(cores, memory, gpus, named)


def class_of(fields: Any) -> str:
    """The class of a request, by the fields that journals hold; "" for none, and for one that makes no sense."""
    if not isinstance(fields, dict) or not any(name in fields for name in FIELDS):
        return ""
    try:
        request = read_request(fields)
    except ValueError:
        return ""  # who claims the job says so
    if request == NOTHING:
        return ""
    words = [
        f"{request.cores} {request.memory_bytes} {request.gpus}",
        *(f"{name}={n}" for name, n in request.resources),
    ]
    return " ".join(words)


@functools.lru_cache(maxsize=1024)
def request_of_class(text: str) -> Request:
    """The request of a class."""
    if not text:
        return NOTHING
    cores, memory, gpus, *named = text.split(" ")
    pairs = ((name, int(number)) for name, _, number in (word.partition("=") for word in named))
    return Request(int(cores), int(memory), int(gpus), tuple(pairs))


def request_lines(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The names and values of the `#JJ` lines that say the same."""
    lines = [(name, str(fields[name])) for name in ("cores", "gpus") if name in fields]
    lines += [("memory", str(fields["memory_bytes"]))] if "memory_bytes" in fields else []
    named = " ".join(f"{name}={number}" for name, number in sorted(fields.get("resources", {}).items()))
    return [*lines, ("resource", named)] if named else lines


def lines_of_request(given: Mapping[str, Any]) -> str:
    """The `#JJ` lines of a chunk that say what its tasks ask for: only one of them runs at a time."""
    return "".join(f"#JJ {name} = {value}\n" for name, value in request_lines(given))


class Capacity(NamedTuple):
    """What a worker has in all. `gpus` are the names by which programs choose them."""

    slots: int
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    resources: Mapping[str, int]

    def fits(self, request: Request) -> bool:
        """Whether it is large enough for a job."""
        return (
            request.cores <= self.cores
            and request.memory_bytes <= self.memory_bytes
            and request.gpus <= len(self.gpus)
            and all(number <= self.resources.get(name, 0) for name, number in request.resources)
        )


def describe_capacity(capacity: Capacity) -> dict[str, Any]:
    """A capacity as worker.json has it."""
    return {**capacity._asdict(), "gpus": list(capacity.gpus), "resources": dict(capacity.resources)}


def read_capacity(said: Any) -> Capacity | None:
    """What worker.json says of it; None if that is nothing that makes sense, or of an earlier release."""
    with contextlib.suppress(TypeError, ValueError, KeyError):
        slots, cores, memory = (int(said[name]) for name in ("slots", "cores", "memory_bytes"))
        resources = {str(name): int(number) for name, number in said["resources"].items()}
        return Capacity(slots, cores, memory, tuple(map(str, said["gpus"])), resources)
    return None
