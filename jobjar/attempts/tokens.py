"""The tokens of limits (limits.py) that one worker takes and gives back.

Takes them before it claims a job, in a fixed order, and gives them back after the job's end, all by renames. Killed anywhere,
what it holds is in `taken/` under its name, and recovery gives it back.
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
from jobjar.shared_disk.files import is_taken_away, rename

# So many of a limit's free tokens are reached for before it counts as used up; others were quicker each time.
_TRIES = 64
# Looking which limits there are takes at most this share of a worker's time; whether a token is back, so long at once.
_SHARE = 0.05
_LOOK_S = 0.1


class Tokens:
    """The tokens that one worker takes and holds. Where there are no limits it costs a look at `limits/` per JJ_POLL_TIME."""

    def __init__(self, jar: Jar, worker: str, worker_id: str) -> None:
        self._jar = jar
        self._worker = worker
        self._worker_id = worker_id
        self._known: frozenset[str] = frozenset()
        self._next_look = 0.0
        self._takes = itertools.count(1)
        self._held: set[Token] = set()
        self._has_strays = False
        # Limits that had no token for this worker: their jobs are not tried again for a while.
        self._used_up: PutOff[str] = PutOff(jar.settings.poll_time_s)
        # How often `may_go_on` looked at one of them.
        self._asked = 0

    def look(self) -> None:
        """See which limits there are, if that is due. Raises CannotUseJar."""
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
        """Whether there is a limit of any batch. Raises CannotUseJar."""
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
        """The tokens that a job of this category and batch needs, now held by this worker: () where nothing limits it, None
        where one is not to be had. Raises CannotUseJar (none is taken then, or all go back at the next look)."""
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
        """A token of one limit, or None; and whether there is such a limit at all. Raises OSError."""
        layout = self._jar.layout
        paths = layout.limit(key)
        is_network = self._jar.ledger_home.has_other_homes
        count = read_count(paths, is_network)
        if count is None:
            return None, False
        numbers = list_free(paths, count)
        random.shuffle(numbers)  # so that workers do not all reach for the same one
        for number in numbers[:_TRIES]:
            token = Token(key, number, next(self._takes), self._worker, self._worker_id)
            try:
                rename(paths.free_token(number), token.path(layout))  # COMMIT: from here the token is this worker's
            except FileNotFoundError:
                continue
            self._held.add(token)
            # Looked at now, when nobody else can have it: the limit may have been lowered, before or just now. Of several
            # who take one at once where more run than are allowed, the last sees the others, and all may give way.
            count = read_count(paths, is_network)
            if count is None or (number <= count and len({taken.number for taken in list_taken(layout, key)}) <= count):
                return token, True
            self.give_back([token])
            return None, True
        return None, True

    def still_holds(self, tokens: Iterable[Token]) -> bool:
        """Whether none of these was taken back, as leases allow, since this worker took it."""
        if not self._jar.settings.lease_time_s:
            return True
        return not any(is_taken_away(token.path(self._jar.layout)) for token in tokens)

    def give_back(self, tokens: Iterable[Token]) -> None:
        """Make tokens free again. What the disk refuses is tried again at the next look, and in the end by recovery."""
        for token in tokens:
            self._held.discard(token)
            self._used_up.discard(token.limit)
            try:
                return_token(self._jar.layout, token)
            except OSError:
                self._has_strays = True

    def return_strays(self) -> None:
        """Give back what this worker holds for no job: taken, or not given back, while the disk was in trouble. Raises
        OSError."""
        if not self._has_strays:
            return
        for token in list_all_taken(self._jar.layout):
            if token.worker_id == self._worker_id and token not in self._held:
                return_token(self._jar.layout, token)
        self._has_strays = False

    def may_go_on(self) -> bool:
        """Whether a limit that was used up has a token again. For a worker that sleeps, once per JJ_POLL_TIME. Raises
        OSError."""
        keys = self._used_up.all_keys()
        until = time.monotonic() + _LOOK_S
        for _ in keys:
            # Each in its turn, and no more of them at once than somebody who waits for orders has time for.
            self._asked += 1
            key = keys[self._asked % len(keys)]
            if read_limit(self._jar.layout, key).left != 0:
                self._used_up.discard(key)
                return True
            if time.monotonic() > until:
                break
        return False
