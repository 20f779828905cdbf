"""Bring the ledger up to date for a reader, or use a private one; and name the source of the answers."""

from __future__ import annotations

import os
import time
from typing import Any

from jobjar.errors import CannotUseJar, LedgerError, LedgerUnavailable
from jobjar.jar import Jar
from jobjar.ledger.looks import Unseen, look_at_small
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.ledger.store import FROM_JOURNALS, FROM_SNAPSHOT, Ledger
from jobjar.units import format_seconds

_PATIENCE_S = 10.0


def refresh_ledger(jar: Jar, patience_s: float = _PATIENCE_S, needs_history: bool = True) -> list[Unseen]:
    """Fold new entries and look at the directories. Returns the directories that are too large for a question. If the ledger
    cannot be written, or this user may only read the jar, a private ledger answers instead; it starts from a copy of the jar's
    own ledger or of the snapshot. Raises LedgerUnavailable only if not even the journals can be read.

    `needs_history=False` is for callers that can also answer from the directories, so they do not wait for a new ledger: if
    this user may write to the jar, and the jar's own ledger is missing or unusable, it is neither made nor replaced. Raises
    LedgerError, CannotUseJar.
    """
    is_last_word = False
    try:
        if not needs_history and os.access(jar.layout.journals, os.W_OK):
            is_last_word = not jar.ledger_home.has_other_homes
            if is_last_word and not os.path.exists(jar.ledger_home.database):
                raise LedgerUnavailable(path=jar.ledger_home.database, reason="there is none")
        return look_at_small(jar.ledger, jar.layout, patience_s, jar.open_journal)
    except (LedgerError, CannotUseJar):
        if is_last_word:
            raise
        return refresh_private_ledger(jar)


def refresh_private_ledger(jar: Jar) -> list[Unseen]:
    """Use a private ledger from now on, and bring it up to date; writes nothing into the jar."""
    try:
        return _fill_private_ledger(jar, jar.use_private_ledger(from_live=True))
    except LedgerUnavailable:
        # The copy was damaged.
        return _fill_private_ledger(jar, jar.use_private_ledger(from_copy=False))


def _fill_private_ledger(jar: Jar, ledger: Ledger) -> list[Unseen]:
    if ledger.source != FROM_JOURNALS:
        return look_at_small(ledger, jar.layout)
    reconcile_in_pieces(ledger, jar.layout)
    return []


def describe_source(jar: Jar) -> dict[str, Any]:
    """The source of the answers: `source` (ledger, snapshot, journals), and the snapshot's age in seconds if there is one.

    The age is by this node's clock, since a user who may only read cannot ask the disk for its time.
    """
    made_at = jar.ledger.made_at
    return {
        "source": jar.ledger.source,
        "snapshot_age_s": None if made_at is None else round(max(0.0, time.time() - made_at), 3),
    }


def name_source(source: str, snapshot_age_s: float | None) -> str | None:
    """For people: what a private ledger was made from; None if the node's own ledger answered."""
    if source == FROM_SNAPSHOT and snapshot_age_s is not None:
        return f"from the snapshot of {format_seconds(snapshot_age_s)} ago and the journals since"
    return "from the journals alone: no snapshot could be used" if source == FROM_JOURNALS else None
