"""The tokens of limits (limits.py) that one worker takes and gives back.

It takes them in a fixed order before it claims a job, and gives them back after the job's end, all by renames. A kill at any
point leaves its tokens in `taken/` under its name, and recovery gives them back.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable

from jobjar.attempts.limits import (
    BATCH,
    Token,
    keys_of,
    list_all_taken,
    list_free,
    list_keys,
    list_taken,
    read_count,
    read_limit,
    return_token,
)
from jobjar.attempts.put_off import PutOff
from jobjar.errors import CannotUseJar
from jobjar.jar import Jar
from jobjar.shared_disk.files import is_gone, rename

# A limit counts as used up after so many tries in which other workers were quicker.
_TRIES = 64
# The search for limits takes at most this share of a worker's time. A look for tokens that are back takes so long at once.
_SHARE = 0.05
_LOOK_S = 0.1


class Tokens:
    """The tokens that one worker takes and holds. Without limits, this costs a look at `limits/` per JJ_POLL_TIME."""

    def __init__(self, jar: Jar, worker: str, worker_id: str) -> None:
        self._jar = jar
        self._worker = worker
        self._worker_id = worker_id
        self._known: frozenset[str] = frozenset()
        self._next_look = 0.0
        self._takes = itertools.count(1)
        self._held: set[Token] = set()
        self._has_strays = False
        # Limits that had no token for this worker. Their jobs are not tried again for a while.
        self._used_up: PutOff[str] = PutOff(jar.settings.poll_time_s)
        # How many looks `may_go_on` has made, to take these limits in turn.
        self._asked = 0

    def look(self) -> None:
        """List the limits of the jar, if that is due. Raises CannotUseJar."""
        now = time.monotonic()
        if now < self._next_look:
            return
        try:
            self._known = frozenset(list_keys(self._jar.layout))
            self.return_strays()
        except OSError as error:
            raise CannotUseJar(action="read", path=self._jar.layout.limits, reason=error.strerror) from error
        ended = time.monotonic()
        self._next_look = ended + max(self._jar.settings.poll_time_s, (ended - now) / _SHARE)

    def know_batches(self) -> bool:
        """Whether any batch has a limit. Raises CannotUseJar."""
        self.look()
        return any(key.startswith(f"{BATCH}.") for key in self._known)

    def is_used_up(self, category: str, batch: str | None) -> bool:
        """Whether a job's limits had no token for this worker, a moment ago."""
        return bool(self._used_up) and any(key in self._used_up for key in keys_of(category, batch))

    def used_up_batches(self) -> list[str]:
        """The batches whose limits had no token for this worker, a moment ago."""
        prefix = f"{BATCH}."
        return [key[len(prefix) :] for key in self._used_up.keys() if key.startswith(prefix)]  # noqa: SIM118

    def take(self, category: str, batch: str | None) -> tuple[Token, ...] | None:
        """Take the tokens that a job of this category and batch needs. Returns () if nothing limits it, None if a token is not
        to be had. Raises CannotUseJar; then none is taken, or all go back at the next look."""
        self.look()
        if not self._known:
            return ()
        if self.is_used_up(category, batch):
            return None
        tokens: list[Token] = []
        for key in keys_of(category, batch):
            if key not in self._known:
                continue
            started = time.monotonic()
            try:
                token, is_limited = self._take_one(key)
            except OSError as error:
                self._has_strays = True
                self.give_back(tokens)
                raise CannotUseJar(
                    action="take a token of", path=f"{self._jar.layout.limits}/{key}", reason=error.strerror
                ) from error
            if token is not None:
                tokens.append(token)
            elif is_limited:
                self.give_back(tokens)
                self._used_up.add(key, time.monotonic() - started)
                return None
        return tuple(tokens)

    def _take_one(self, key: str) -> tuple[Token | None, bool]:
        """Take a token of one limit. Returns it or None, and whether this limit exists. Raises OSError."""
        layout = self._jar.layout
        paths = layout.limit(key)
        is_network = self._jar.ledger_home.has_other_homes
        count = read_count(paths, is_network)
        if count is None:
            return None, False
        numbers = list_free(paths, count)
        random.shuffle(numbers)  # so that workers do not all try the same one
        for number in numbers[:_TRIES]:
            token = Token(key, number, next(self._takes), self._worker, self._worker_id)
            try:
                rename(paths.free_token(number), token.path(layout))  # COMMIT: from here the token is this worker's
            except FileNotFoundError:
                continue
            self._held.add(token)
            # The token is ours, so check now: the limit may have been lowered. If more jobs run than are allowed and several
            # workers take a token at once, the last one sees the others' tokens, and all of them may give way.
            count = read_count(paths, is_network)
            if count is None or (number <= count and len({taken.number for taken in list_taken(layout, key)}) <= count):
                return token, True
            self.give_back([token])
            return None, True
        return None, True

    def still_holds(self, tokens: Iterable[Token]) -> bool:
        """Whether this worker still holds all these tokens. With leases, others may have taken them back."""
        if not self._jar.settings.lease_time_s:
            return True
        return not any(is_gone(token.path(self._jar.layout), is_patient=False) for token in tokens)

    def give_back(self, tokens: Iterable[Token]) -> None:
        """Make tokens free again. If the disk refuses, the next look tries again, and in the end recovery does."""
        for token in tokens:
            self._held.discard(token)
            self._used_up.discard(token.limit)
            try:
                return_token(self._jar.layout, token)
            except OSError:
                self._has_strays = True

    def return_strays(self) -> None:
        """Give back the tokens that this worker holds for no job: the disk was in trouble when it took them or gave them back.
        Raises OSError."""
        if not self._has_strays:
            return
        for token in list_all_taken(self._jar.layout):
            if token.worker_id == self._worker_id and token not in self._held:
                return_token(self._jar.layout, token)
        self._has_strays = False

    def may_go_on(self) -> bool:
        """Whether a limit that was used up has a token again. A sleeping worker asks this once per JJ_POLL_TIME. Raises
        OSError."""
        keys = self._used_up.all_keys()
        until = time.monotonic() + _LOOK_S
        for _ in keys:
            # Take the limits in turn, and stop after a moment, because orders wait meanwhile.
            self._asked += 1
            key = keys[self._asked % len(keys)]
            if read_limit(self._jar.layout, key).left != 0:
                self._used_up.discard(key)
                return True
            if time.monotonic() > until:
                break
        return False
