"""The commands of `jobjar map`: a template with replacement strings, and the values for them, as GNU Parallel has it.

    {}     the value                     {#}    the number of the task, from 1
    {.}    without its extension         {/}    without its directory
    {//}   its directory                 {/.}   without its directory and its extension

`{2}`, `{2.}`, `{-1/}` and the like are the same of one source of values, counted from the first or the last. Without a number
the values of all sources stand there, with blanks between them. Values are quoted for the shell; the rest is as it was typed.
A template without a replacement string gets `{}` at its end. What has another form, such as `{a,b}`, stays. Reads and writes
nothing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Values = Sequence[bytes]
# All but the empty value: what means nothing to a shell, wherever in a command it stands.
_PLAIN = re.compile(rb"[-_.+/A-Za-z0-9]+")
_REPLACED = re.compile(rb"\{(?:(#)|(-?[1-9][0-9]{0,8})?(/\.|//|/|\.)?)\}")
_UNKNOWN = ((re.compile(rb"\{%\}"), "{%}, the number of a job slot"), (re.compile(rb"\{=.*?=\}"), "{= Perl code =}"))
_EXTENSION = re.compile(rb"\.[^/.]*$")


def quote(value: bytes) -> bytes:
    """A value as one word of a shell, with quotes only where it needs them."""
    if _PLAIN.fullmatch(value):
        return value
    return b"'" + value.replace(b"'", b"'\"'\"'") + b"'"


def _without_extension(value: bytes) -> bytes:
    return _EXTENSION.sub(b"", value)


def _base(value: bytes) -> bytes:
    return value.rpartition(b"/")[2]


def _directory(value: bytes) -> bytes:
    """As dirname(1)."""
    path = value.rstrip(b"/")
    if not path:
        return b"/" if value else b"."
    above, slash, _ = path.rpartition(b"/")
    return (above.rstrip(b"/") or b"/") if slash else b"."


_PARTS: dict[bytes, Callable[[bytes], bytes]] = {
    b".": _without_extension,
    b"/": _base,
    b"//": _directory,
    b"/.": lambda value: _without_extension(_base(value)),
}


class Template:
    """A command with replacement strings. An empty one stands for the values themselves: each is a command. Raises ValueError for
    replacement strings that there are not here."""

    def __init__(self, command: bytes) -> None:
        for pattern, name in _UNKNOWN:
            if pattern.search(command):
                raise ValueError(f"there is no replacement string {name}")
        self._is_empty = not command
        if not _REPLACED.search(command):
            command += b" {}"
        self._pieces: list[bytes | Callable[[Values, int], bytes]] = []
        end = 0
        for found in _REPLACED.finditer(command):
            self._pieces += [command[end : found.start()], _replacement(*found.groups())]
            end = found.end()
        self._pieces.append(command[end:])

    def fill(self, values: Values, number: int) -> bytes:
        """The command of the task with this number, which has these values, one of each source."""
        if self._is_empty:
            return b" ".join(values)
        return b"".join([piece if isinstance(piece, bytes) else piece(values, number) for piece in self._pieces])


def _replacement(sign: bytes | None, position: bytes | None, part: bytes | None) -> Callable[[Values, int], bytes]:
    if sign is not None:
        return lambda values, number: b"%d" % number
    change = (lambda value: value) if part is None else _PARTS[part]
    if position is None:
        return lambda values, number: b" ".join([quote(change(value)) for value in values])
    at = int(position) - 1 if int(position) > 0 else int(position)

    def replace_one(values: Values, number: int) -> bytes:
        # A source that there is not has nothing, not even an empty word.
        return quote(change(values[at])) if -len(values) <= at < len(values) else b""

    return replace_one


class Source(NamedTuple):
    """Values that follow a `:::` or come from a file. A linked source (`:::+`) gives one value to each of the source before it,
    instead of all to all; what one of the two has too many is left out."""

    values: Sequence[bytes]
    is_linked: bool = False


def count_combined(sources: Sequence[Source]) -> int:
    """How many tasks the sources come to."""
    return math.prod(map(len, _pools(sources)))


def combine(sources: Sequence[Source]) -> Iterator[tuple[bytes, ...]]:
    """Each value of a source with each of the others, in the order of GNU Parallel: the last source changes first."""
    pools = _pools(sources)
    if len(pools) == 1:
        yield from pools[0]
        return
    for some in itertools.product(*pools):
        yield tuple(itertools.chain.from_iterable(some))


def _pools(sources: Sequence[Source]) -> list[list[tuple[bytes, ...]]]:
    """The sources, with those that are linked in one. Beside others an empty source has one empty value."""
    if not any(source.values for source in sources):
        return [[]]
    pools: list[list[tuple[bytes, ...]]] = []
    for source in sources:
        values = source.values or [b""]
        if source.is_linked and pools:
            pools[-1] = [(*one, value) for one, value in zip(pools[-1], values, strict=False)]
        else:
            pools.append([(value,) for value in values])
    return pools
