"""Whether the counts that triggers keep (schema/0006) are right. Takes the driver's connection and only reads."""

from __future__ import annotations

from typing import Any

# How the rows of each table of counts are counted.
_COUNTED = {
    "job_count": "SELECT state, category, CASE state WHEN 'unclaimed' THEN priority ELSE 0 END AS of_priority, kind, count(*) "
    "FROM job GROUP BY state, category, of_priority, kind",
    "attempt_count": "SELECT CAST(ended_at / 60 AS INTEGER) AS minute, outcome, is_final, count(*) FROM attempt "
    "WHERE ended_at IS NOT NULL AND outcome IS NOT NULL GROUP BY minute, outcome, is_final",
}


def find_wrong_counts(connection: Any) -> list[str]:
    """A line for each row of a table of counts that differs from what counting gives."""
    lines = []
    for table, query in _COUNTED.items():
        counted = set(connection.execute(query))
        kept = {row for row in connection.execute(f"SELECT * FROM {table}") if row[-1]}
        lines += [f"{table}: {row} is kept, and is not what the rows come to" for row in sorted(kept - counted)]
        lines += [f"{table}: {row} is not kept" for row in sorted(counted - kept)]
    return lines
