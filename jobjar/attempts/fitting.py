"""Which waiting jobs fit what a worker has left, in the order of the queue; and for which one it keeps what becomes free.

A job that does not fit is passed over. After JJ_PASS_OVER the worker claims nothing that comes after it, until it fits: else
large jobs would wait as long as there are small ones. Asks the ledger; writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from jobjar.attempts.attempt import Claimer
from jobjar.ledger.ask_claiming import Candidate, candidates_of_classes, claim_candidates, waiting_classes
from jobjar.ledger.driver import Connection


def find_candidates(
    claimer: Claimer,
    connection: Connection,
    category: str,
    now: float,
    limit: int,
    without: Collection[str],
    is_passed_over: Callable[[str], bool] | None,
) -> tuple[list[Candidate], bool]:
    """The first candidates of a category that fit. Also returns whether the worker keeps what becomes free for a job that has
    waited for long, so that nothing comes after these."""
    classes, room = waiting_classes(connection, category), claimer.room
    left_s, has_time = (None, None) if claimer.time_left is None else claimer.time_left.left_and_fits()
    fitting = [request for request in classes if room.fits(request)]
    if len(fitting) == len(classes):
        return claim_candidates(connection, category, now, limit, without, is_passed_over, left_s, has_time), False
    found = candidates_of_classes(connection, category, fitting, now, limit, without, is_passed_over, has_time)
    claimer.waiting.forget_old()
    kept_for: Candidate | None = None
    for request in classes:
        if request not in fitting and room.may_ever_fit(request):
            first = candidates_of_classes(connection, category, [request], now, 1, without, is_passed_over, has_time)
            if first and claimer.waiting.note(first[0].row) and (kept_for is None or first[0].order < kept_for.order):
                kept_for = first[0]
    if kept_for is None:
        return found, False
    return [candidate for candidate in found if candidate.order < kept_for.order], True
