"""`make faults`: every proof of the promise that takes minutes, one after the other, and the table of them.

    python -m tests.faults.everything [--directory build/faults] [--seed N] [--jobs 5000] [--faults 500] [--tasks 20000]

Writes `result.json` and `table.md` into the directory. Exit status 0: every step held; 1: one did not, and its output
was shown.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.conftest import LONGEST_S
from tests.faults.storm import CANNOT_RUN
from tests.faults.table import make_table
from tests.faults.verdict import versions

ROOT = Path(__file__).parent.parent.parent
# A storm of these takes some eight minutes, and all of it about twenty.
JOBS, FAULTS, TASKS = 5000, 500, 20_000
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-p",
    "no:cacheprovider",
    "--tb=short",
    "-rs",
    "-vv",
    f"--timeout={LONGEST_S}",
]


def run_pytest(name: str, words: list[str], **changes: str) -> dict[str, Any]:
    """Run tests; what came of them. No tests at all is no failure: their part of the project is not there."""
    begin(f"{name}: pytest {' '.join(words)}")
    environment = {**os.environ, **changes, "PYTHONUNBUFFERED": "1"}
    counts: list[tuple[str, str]] = []
    with subprocess.Popen([*PYTEST, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            counts = re.findall(r"(\d+) (passed|failed|error|errors|skipped)\b", line) or counts
    said = ", ".join(f"{number} {what}" for number, what in counts) or "no tests"
    return {"name": name, "status": 0 if process.returncode == 5 else process.returncode, "said": said}


def begin(what: str) -> None:
    """Say what is done now, and when."""
    print(f"== {time.strftime('%H:%M:%S')} {what}", flush=True)


def run_storm(directory: Path, homes: str, seed: int, jobs: int, faults: int, tasks: int) -> dict[str, Any] | None:
    """Run one storm; its result, or None where this host cannot run one."""
    path = directory / f"storm-{homes}.json"
    path.unlink(missing_ok=True)
    words = ["--seed", str(seed), "--jobs", str(jobs), "--faults", str(faults), "--homes", homes, "--tasks", str(tasks)]
    begin(f"storm {' '.join(words)}")
    command = [sys.executable, "-m", "tests.faults.storm", *words, "--result", str(path)]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status == CANNOT_RUN:
        return None
    if not path.exists():
        raise SystemExit(f"the storm of seed {seed} ended with status {status} and without a result")
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.everything")
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "faults")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--no-crash", action="store_true", help="leave out the processes killed at each write")
    options = parser.parse_args(words)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    options.directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    steps = []
    crash: list[dict[str, Any]] = []
    if not options.no_crash:
        tally = (options.directory / "crash.jsonl").resolve()
        tally.unlink(missing_ok=True)
        steps.append(run_pytest("killed at every write", ["tests/crash", "-n", "4"], FAULTS_TALLY=str(tally)))
        if tally.exists():
            crash = _add_up([json.loads(line) for line in tally.read_text(encoding="utf-8").splitlines()])
    storms = []
    # All nodes at one ledger home is what the processes of one node are: a shorter one is enough of that.
    for homes, share in (("own", 1.0), ("jar", 0.2)):
        storm = run_storm(
            options.directory,
            homes,
            seed,
            int(options.jobs * share),
            int(options.faults * share),
            int(options.tasks * share),
        )
        if storm is None:
            steps.append({"name": f"storm, homes: {homes}", "status": 0, "said": "cannot run on this host"})
        else:
            storms.append(storm)
    if (ROOT / "tests" / "test_model.py").exists():
        examples = ["tests/test_model.py", "-n", "2"]
        steps.append(run_pytest("model", examples, MODEL_EXAMPLES="200"))
    steps.append(run_pytest("files that say anything", ["tests/test_fuzz.py", "-m", "faults", "-n", "2"]))
    steps.append(run_pytest("pilots on Slurm", ["tests/pilots", "-m", "faults"]))
    if _has_marker("moosefs") or _has_marker("nfs"):
        marks = " or ".join(mark for mark in ("moosefs", "nfs") if _has_marker(mark))
        steps.append(run_pytest("two hosts", ["tests/hosts", "-m", marks]))
    result = {
        "command": "make faults",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "duration_s": round(time.monotonic() - started, 1),
        "versions": versions(),
        "crash": crash,
        "storms": storms,
        "steps": steps,
    }
    if (options.jobs, options.faults, options.tasks) != (JOBS, FAULTS, TASKS) or options.no_crash:
        result["command"] = f"python -m tests.faults.everything {' '.join(words)}"
    (options.directory / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = make_table(result)
    (options.directory / "table.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n{table}\n\nwritten to {options.directory}/result.json and table.md")
    bad = [step["name"] for step in steps if step["status"]] + [
        f"storm of seed {storm['seed']}" for storm in storms if storm["problems"]
    ]
    if bad:
        print(f"the promise was NOT kept: {', '.join(bad)}")
    return 1 if bad else 0


def _add_up(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each kind of process that was killed, whatever it had to do."""
    rows: dict[str, dict[str, Any]] = {}
    for case in cases:
        scenario = case["scenario"].partition(":")[0]
        row = rows.setdefault(scenario, {"scenario": scenario, "killed": 0, "failed": 0})
        row["killed"] += case["killed"]
        row["failed"] += case["failed"]
    return sorted(rows.values(), key=lambda row: -int(row["killed"]))


def _has_marker(name: str) -> bool:
    return re.search(rf"^    {name}\b", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE) is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
