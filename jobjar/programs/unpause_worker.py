"""unpause_worker: undo pause_worker; print the workers' names."""

from __future__ import annotations

from collections.abc import Sequence

from jobjar import control
from jobjar.programs.control_workers import control_workers


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "unpause_worker") -> int:
    description = (
        "Let paused workers claim jobs again; it is fine if they were not paused. Prints the names of the workers."
    )
    return control_workers(program, description, control.unpause, argv, program_path)
