"""pause_worker: have workers claim no further job until unpaused; print their names."""

from __future__ import annotations

from collections.abc import Sequence

from jobjar import control
from jobjar.programs.control_workers import control_workers


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "pause_worker") -> int:
    description = (
        "Pause workers: each finishes the job that it runs, and claims no other until unpaused. Prints their names."
    )
    return control_workers(program, description, control.pause, argv, program_path)
