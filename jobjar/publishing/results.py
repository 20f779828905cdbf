"""Read a job's own reports in its working directory: monitored variables, and files that it stored itself.

They are read when the attempt has ended; for plain jobs only where the directory was touched. monitor.py reads the variables
before that. Reads only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobjar.publishing.variables import MONITORED, STAGED_OUT, read_stored, read_variables


class Results(NamedTuple):
    """The variables, one dict per stored file, and the warnings about both."""

    variables: dict[str, str]
    stored: list[dict[str, Any]]
    warnings: list[str]


def read_results(directory: str) -> Results:
    """Read the reports in a working directory in which no process writes any more. Unreadable files become warnings."""
    try:
        said = read_variables(f"{directory}/{MONITORED}")
        stored = read_stored(f"{directory}/{STAGED_OUT}")
    except OSError as error:
        return Results({}, [], [f"what the job said of itself cannot be read: {error.strerror or error}"])
    return Results(said.values, stored.records, said.warnings + stored.warnings)
