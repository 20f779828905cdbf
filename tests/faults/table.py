"""The table of what was broken and what was lost: from the results of `make faults`, as Markdown.

python -m tests.faults.table build/faults/result.json                         print it
python -m tests.faults.table build/faults/result.json --into docs/faults.md   put it between the two marks there
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

BEGIN = "<!-- faults: begin (made by python -m tests.faults.table) -->"
END = "<!-- faults: end -->"


def make_table(result: dict[str, Any]) -> str:
    """The table: for each group of faults what was lost, and under it each kind with its number."""
    lines = [
        "| fault | times | jobs lost | completed twice | history lost |",
        "|---|---:|---:|---:|---:|",
    ]
    crash = result.get("crash")
    if crash:
        total = sum(case["killed"] for case in crash)
        lost = sum(case["failed"] for case in crash)
        lines.append(
            f"| **a process killed before or after each of its writes** | **{total:,}** | {_three(lost, crash)} |"
        )
        lines += [f"| {case['scenario']} | {case['killed']:,} | | | |" for case in crash]
    for storm in result.get("storms", []):
        where = "a ledger home each" if "own" in storm["command"] else "one ledger home"
        title = (
            f"storm: {storm['jobs']:,} jobs, {storm['workers']} workers on {storm['nodes']} nodes, {where}, "
            f"seed {storm['seed']}"
        )
        total = sum(storm["faults"].values())
        counted = f"{storm['jobs_lost']} | {storm['completed_twice']} | {storm['history_lost']}"
        lines.append(f"| **{title}** | **{total:,}** | {counted} |")
        if storm.get("tasks"):
            title = f"the tasks in it: {storm['tasks']:,} of {storm['arrays']} arrays"
            lines.append(f"| **{title}** | | {storm['tasks_lost']} | {storm['tasks_ended_twice']} | |")
        lines += [f"| {name} | {count:,} | | | |" for name, count in storm["faults"].items()]
    lines += ["", _describe(result)]
    return "\n".join(lines)


def _three(failed: int, crash: list[dict[str, Any]]) -> str:
    """A crash case that failed says in words what was wrong; all that the table knows is how many did."""
    return "0 | 0 | 0" if not failed else f"{failed} cases failed | |"


def _describe(result: dict[str, Any]) -> str:
    versions = result["versions"]
    words = [f"`{result['command']}`, {result['duration_s'] / 60:.0f} minutes, {result['date']}"]
    words.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    for storm in result.get("storms", []):
        attempts = storm["attempts"]
        words.append(
            f"in the storm of seed {storm['seed']} ({storm['duration_s']:.0f} s) {storm['run_more_than_once']:,} jobs ran "
            f"more than once (attempts: {attempts.get('stranded', 0)} stranded by a death, "
            f"{attempts.get('stranded by lease', 0)} by a lease that ran out, {attempts.get('lost', 0)} lost by a worker that "
            "came back after that), "
            f"{storm['submissions_refused']:,} submissions were refused with an error"
            + (f", {storm['tasks_run_more_than_once']:,} tasks ran more than once" if storm.get("tasks") else "")
        )
    for step in result.get("steps", []):
        words.append(f"{step['name']}: {step['said']}")
    return "; ".join(words) + "."


def put_into(path: Path, table: str) -> None:
    """Replace what is between the two marks. Raises ValueError where they are not there."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines\n{BEGIN}\n{END}")
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.table")
    parser.add_argument("result", type=Path)
    parser.add_argument("--into", type=Path, default=None, help="a file with the two marks")
    options = parser.parse_args(words)
    table = make_table(json.loads(options.result.read_text(encoding="utf-8")))
    if options.into is None:
        print(table)
        return 0
    try:
        put_into(options.into, table)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
