"""A report of a jar, or of a batch, as one file: it opens from a disk, prints, and can be sent. Reads the ledger."""

from __future__ import annotations

import math
import time
from typing import Any

from markupsafe import Markup

from jobjar.errors import UnknownBatch
from jobjar.jar import Jar
from jobjar.ledger.ask_batches import list_batches
from jobjar.ledger.ask_history import variables_of_batch
from jobjar.reports.batches import describe_batches
from jobjar.reports.refresh import refresh_ledger
from jobjar.reports.stats import gather_stats
from jobjar.reports.status import gather_refreshed
from jobjar.reports.working import list_working
from jobjar.selecting.selection import make_selection
from jobjar.selecting.unknown import suggest_batch
from jobjar.text import as_text
from jobjar.web import batches_view, views
from jobjar.web.looker import Seen
from jobjar.web.past import Past
from jobjar.web.render import read_asset, render

_BARS = 84
_MOST_VARIABLES = 8


def make_report(jar: Jar, since: float, batch: str | None = None) -> str:
    """The report as HTML. `since` (UTC epoch seconds) is when it begins. Brings the ledger up to date. Raises UnknownBatch,
    LedgerError, OSError."""
    unseen = refresh_ledger(jar)
    with jar.ledger.errors_named():
        now = time.time()
        status = gather_refreshed(jar, unseen)
        length_s = max(60.0, now - since)
        past = Past(length_s)
        while not past.is_whole:
            past.advance(jar.ledger.connection, 1.0)
        spans = past.read(jar.ledger.connection, status["jobs"]["unclaimed"], {"span": (length_s, _BARS)})
        seen = Seen(0, now, status, list_working(jar, now), spans)
        batches = [] if batch is None else [_report_batch(jar, as_text(batch))]
        selection = make_selection(since=since, batch=batch)
        return render(
            "report.html",
            style=Markup(read_asset("style.css").decode()),
            **views.view_frame(jar, seen),
            since=since,
            status=status,
            spans=spans["span"],
            charts=views.chart_span(spans["span"]) if batch is None else [],
            stats=gather_stats(jar, selection, "category"),
            failures=views.gather_failures(jar, since) if batch is None else None,
            workers=seen.workers,
            batches=batches,
            all_batches=describe_batches(jar, None) if batch is None else [],
            title=f"batch {batch}" if batch is not None else "Report",
            command="",
            days=math.ceil(length_s / 86400),
        )


def _report_batch(jar: Jar, name: str) -> dict[str, Any]:
    if not list_batches(jar.ledger, name):
        raise UnknownBatch(name=name, home=jar.layout.home, hint=suggest_batch(jar, name))
    (batch,) = describe_batches(jar, name)
    variables = variables_of_batch(jar.ledger.connection, name, batches_view.MOST_JOBS)
    named = [variable for variable, _ in variables if variable != batches_view.WORK_DONE][:_MOST_VARIABLES]
    charts = [chart for variable in named for chart in batches_view.chart_variable(jar, name, variable)]
    return {"batch": batch, "work": batches_view.chart_work(jar, name), "charts": charts}
