"""Bring the ledger up to date for whoever looks, or look at a private one; and say what the answers come from."""

from __future__ import annotations

import os
import time
from typing import Any

from jobjar.errors import CannotUseJar, LedgerBusy, LedgerUnavailable
from jobjar.jar import Jar
from jobjar.ledger.looks import Unseen, look_at_small
from jobjar.ledger.reconcile_jar import reconcile_in_pieces
from jobjar.ledger.store import FROM_JOURNALS, FROM_SNAPSHOT, Ledger
from jobjar.units import format_seconds

_PATIENCE_S = 10.0


def refresh_ledger(jar: Jar, patience_s: float = _PATIENCE_S, needs_history: bool = True) -> list[Unseen]:
    """Fold what is new and look at the directories, but for those that are too large for a question, which it returns. Where
    this cannot be written, or this user may only read the jar, answer from a private ledger, which starts from a copy of the
    jar's own or of the snapshot.

    Raises LedgerUnavailable only where not even the journals can be read. Who also has an answer without history, from the
    directories, is not made to wait for one: a ledger in the jar that this user may write to is then neither made nor
    replaced; raises LedgerBusy, LedgerUnavailable, CannotUseJar.
    """
    is_last_word = False
    try:
        if not needs_history and os.access(jar.layout.journals, os.W_OK):
            is_last_word = not jar.ledger_home.has_other_homes
            if is_last_word and not os.path.exists(jar.ledger_home.database):
                raise LedgerUnavailable(path=jar.ledger_home.database, reason="there is none")
        return look_at_small(jar.ledger, jar.layout, patience_s, jar.open_journal)
    except (LedgerBusy, LedgerUnavailable, CannotUseJar):
        if is_last_word:
            raise
        return refresh_private_ledger(jar)


def refresh_private_ledger(jar: Jar) -> list[Unseen]:
    """Use a private ledger from now on, brought up to date; writes nothing into the jar."""
    try:
        return _fill_private_ledger(jar, jar.use_private_ledger(from_live=True))
    except LedgerUnavailable:
        # The copy turned out to be damaged.
        return _fill_private_ledger(jar, jar.use_private_ledger(from_copy=False))


def _fill_private_ledger(jar: Jar, ledger: Ledger) -> list[Unseen]:
    if ledger.source != FROM_JOURNALS:
        return look_at_small(ledger, jar.layout)
    reconcile_in_pieces(ledger, jar.layout)
    return []


def describe_source(jar: Jar) -> dict[str, Any]:
    """Where answers come from: `source` (ledger, snapshot, journals), and how old the snapshot is in seconds, if it is that.

    By this node's clock: who only reads the jar's disk cannot ask for its time.
    """
    made_at = jar.ledger.made_at
    return {
        "source": jar.ledger.source,
        "snapshot_age_s": None if made_at is None else round(max(0.0, time.time() - made_at), 3),
    }


def name_source(source: str, snapshot_age_s: float | None) -> str | None:
    """For people: what a private ledger was made from; None where the answer is a ledger's."""
    if source == FROM_SNAPSHOT and snapshot_age_s is not None:
        return f"from the snapshot of {format_seconds(snapshot_age_s)} ago and the journals since"
    return "from the journals alone: no snapshot could be used" if source == FROM_JOURNALS else None
