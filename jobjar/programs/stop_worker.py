"""stop_worker: have workers leave after the job that they run; print their names."""

from __future__ import annotations

from collections.abc import Sequence

from jobjar import control
from jobjar.programs.control_workers import control_workers


def main(argv: Sequence[str] | None = None, program_path: str | None = None, program: str = "stop_worker") -> int:
    description = "Stop workers: each finishes the job that it runs, and leaves. Prints the names of the workers."
    return control_workers(program, description, control.stop, argv, program_path)
