"""How long answers take as a jar grows, in waiting jobs and in completed jobs.

For each size it makes two jars (large_jars.py), one of each kind; an empty jar is the base. In each jar it measures: the
programs that people use to look (from start to end, the median of the rounds), a query in SQL, `submit_jobs`, the disk
operations of an idle worker (system calls that name a path of the jar, as strace counts them), and, last and once,
`jobjar check` and `jobjar rebuild`. Prints a table, and draws it; `--into README.md` puts the table between the marks there.
A million jobs of each kind takes half an hour, and some 5 GB of disk until it ends:
python benchmarks/scale.py --sizes 1000,10000,100000,1000000 --into README.md
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from chart import draw_chart
from large_jars import make_large_jar
from measure import (
    PROJECT,
    READY_PATIENCE_S,
    make_directory,
    make_parser,
    parse,
    print_table,
    put_between,
    running_workers,
    shown,
)

from jobjar.jar import Jar
from jobjar.journal.append import Journal
from jobjar.ledger.fold import fold_journals
from jobjar.ledger.store import driver
from jobjar.version import VERSION

BEGIN = "<!-- sizes: begin (made by python benchmarks/scale.py --into README.md) -->"
END = "<!-- sizes: end -->"
# No worker asks for this category, so a worker is idle beside any number of its jobs.
CATEGORY = "LATER"
BATCH = "measured"
SUBMITTED = 1_000
# A new worker looks more often than one that has been idle for a while.
SETTLING_S = 3.0
KINDS = ("waiting", "completed")
QUESTION = (
    f"SELECT name, submitted_at FROM job WHERE category = '{CATEGORY}' AND state = 'unclaimed' "
    "ORDER BY priority DESC LIMIT 20"
)
# The measures, in the order of the table, and their units.
MEASURES = {
    "`system_status`": "s",
    "`jobjar list`": "s",
    "`jobjar list --state ended --since 1h`": "s",
    "`jobjar show JOB`": "s",
    "`jobjar explain JOB`, the last to be claimed": "s",
    "`jobjar output JOB`": "s",
    "`jobjar stats`": "s",
    "`jobjar.claimed_jobs()`": "s",
    "`batch_status BATCH`": "s",
    "`jobjar wait JOB`, which has ended": "s",
    "the first 20 by `category`, `state` and `priority`, by SQL": "s",
    "`jobjar check`": "s",
    "`jobjar rebuild`": "s",
    "`submit_jobs`": "jobs/s",
    "an idle worker": "operations/min",
}
# A figure for each measure. A column of the table is one kind and size of jar.
Column = dict[str, float]


class Site:
    """A jar of one kind and size, and the measurements in it."""

    def __init__(self, home: Path, kind: str, size: int, rounds: int) -> None:
        self.home, self.rounds = home, rounds
        waiting, completed = (size, 1) if kind == "waiting" else (0, max(1, size))
        jar = make_large_jar(home, waiting, completed, CATEGORY)
        try:
            put_into_batch(jar)
            self.database = jar.ledger_home.database
            self.job = jar.ledger.connection.execute("SELECT name FROM job WHERE state = 'completed'").fetchone()[0]
            # The last to be claimed; one that has ended where none waits.
            order = "ORDER BY state = 'unclaimed' DESC, priority, submitted_at DESC LIMIT 1"
            self.last = jar.ledger.connection.execute(f"SELECT name FROM job {order}").fetchone()[0]
        finally:
            jar.close()
        self.environment = {**os.environ, "JJ_HOME": str(home)}

    def measure(self, idle_s: float) -> Column:
        """All figures by name. A failed measurement is reported and omitted."""
        library = [sys.executable, "-c", "import jobjar; assert jobjar.claimed_jobs() == []"]
        actions: tuple[Callable[[], float | None], ...] = (
            lambda: self.time_program("system_status"),
            lambda: self.time_program("jobjar", "list"),
            lambda: self.time_program("jobjar", "list", "--state", "ended", "--since", "1h"),
            lambda: self.time_program("jobjar", "show", self.job),
            lambda: self.time_program("jobjar", "explain", self.last),
            lambda: self.time_program("jobjar", "output", self.job),
            lambda: self.time_program("jobjar", "stats"),
            lambda: self.median(lambda: self.run(library)),
            lambda: self.time_program("batch_status", BATCH),
            lambda: self.time_program("jobjar", "wait", self.job),
            lambda: self.median(self.ask),
            lambda: self.time(lambda: self.run_program("jobjar", "check")),
            lambda: self.time(lambda: self.run_program("jobjar", "rebuild")),
            self.submit,
            lambda: self.count_operations(idle_s),
        )
        column: Column = {}
        for name, action in zip(MEASURES, actions, strict=True):
            try:
                figure = action()
            except subprocess.CalledProcessError as error:
                print(f"{self.home.name}: {name}: {error}\n{error.stdout}{error.stderr}", file=sys.stderr, flush=True)
                continue
            if figure is not None:
                column[name] = figure
        return column

    @staticmethod
    def time(action: Callable[[], object]) -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    def median(self, action: Callable[[], object]) -> float:
        return statistics.median(self.time(action) for _ in range(self.rounds))

    def time_program(self, *words: str) -> float:
        return self.median(lambda: self.run_program(*words))

    def run_program(self, name: str, *words: str) -> None:
        self.run([f"{self.home}/bin/{name}", *words])

    def run(self, words: list[str]) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
        )
        return done.stdout

    def ask(self) -> None:
        with contextlib.closing(driver.connect(self.database)) as connection:
            connection.execute(QUESTION).fetchall()

    def submit(self) -> float:
        """Jobs a second, without the start of the process that submits them."""
        return SUBMITTED / float(self.run([sys.executable, "-c", _SUBMIT]))

    def count_operations(self, seconds: float) -> float | None:
        """System calls a minute of an idle worker that name a path of the jar or use an open file of it. None if strace is
        missing, or may not trace."""
        strace = shutil.which("strace")
        if strace is None or seconds <= 0:
            return None
        with _environment(JJ_HOME=str(self.home)), running_workers(self.home, 1) as (worker,):
            time.sleep(min(SETTLING_S, seconds))
            with tempfile.TemporaryDirectory() as directory:
                calls = Path(directory) / "calls"
                command = [
                    strace,
                    "-f",
                    "-y",
                    "-qq",
                    "-e",
                    "trace=%file,%desc",
                    "-o",
                    str(calls),
                    "-p",
                    str(worker.pid),
                ]
                tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    tracer.wait(seconds)
                except subprocess.TimeoutExpired:
                    tracer.terminate()
                    tracer.wait(READY_PATIENCE_S)
                else:
                    return None  # strace ended: it may not trace
                text = calls.read_text(errors="replace") if calls.exists() else ""
        named = [line for line in text.splitlines() if str(self.home) in line and not _WAITS.search(line)]
        return len(named) * 60 / seconds


_SUBMIT = f"""
import time, jobjar
started = time.perf_counter()
jobjar.submit_jobs([{{"command": "/bin/true", "category": "{CATEGORY}"}}] * {SUBMITTED})
print(time.perf_counter() - started)
"""
# A wait for a descriptor asks nothing of a disk.
_WAITS = re.compile(r"^\d+ +(?:p?select6?|ppoll|poll|epoll_\w+)\(")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def put_into_batch(jar: Jar) -> None:
    """Make the completed jobs those of a batch. This works by earlier `submitted` entries, since the earliest one counts."""
    journal = Journal(f"{jar.layout.journals}/batch.0000.jsonl")
    rows = jar.ledger.connection.execute(
        "SELECT uid, name, submitted_at FROM job WHERE state = 'completed' ORDER BY id"
    ).fetchall()
    told: dict[str, Any] = {
        "submitter": "ann",
        "submitted_at": time.time(),
        "changed_at": time.time(),
        "description": "",
    }
    journal.append([{"entry": "batch", "batch": BATCH, "jobs": len(rows), **told}])
    for start in range(0, len(rows), 10_000):
        said: dict[str, Any] = {
            "entry": "submitted",
            "category": "",
            "submitter": "ann",
            "kind": "described",
            "batch": BATCH,
        }
        journal.append(
            {**said, "job": uid, "name": name, "submitted_at": submitted_at - 1, "seed": number}
            for number, (uid, name, submitted_at) in enumerate(rows[start : start + 10_000], start)
        )
    journal.close()
    with jar.ledger.writing() as connection:
        fold_journals(connection, jar.layout)


def measure_all(directory: Path, sizes: list[int], rounds: int, idle_s: float) -> Iterator[tuple[str, Column]]:
    """Yield each column once it is measured: `empty`, and `<kind> <size>` for each kind and size."""
    for kind, size in [("empty", 0), *((kind, size) for size in sizes for kind in KINDS)]:
        name = f"{kind} {size}" if size else kind
        started = time.perf_counter()
        site = Site(directory / name.replace(" ", "-"), kind, size, rounds)
        made_s = time.perf_counter() - started
        column = site.measure(idle_s)
        print(f"{name}: made in {made_s:.0f} s, measured in {time.perf_counter() - started - made_s:.0f} s", flush=True)
        yield name, column


def make_rows(columns: dict[str, Column], sizes: list[int]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table: the measure, the kind of jobs, the figure for an empty jar, and one for each size."""
    headers = ["", "jobs", "none", *(f"{size:,}" for size in sizes)]
    rows = []
    for measure, unit in MEASURES.items():
        for kind in KINDS:
            names = ["empty", *(f"{kind} {size}" for size in sizes)]
            figures = [columns.get(name, {}).get(measure) for name in names]
            cells = ["–" if figure is None else _shown(figure, unit) for figure in figures]
            rows.append([measure, kind, *cells])
    return headers, rows


def _shown(figure: float, unit: str) -> str:
    if unit == "s":
        return shown(figure, "s") if figure >= 1 else f"{figure * 1e3:.{0 if figure >= 0.01 else 2}f} ms"
    return f"{figure:,.0f}{'/s' if unit == 'jobs/s' else '/min'}"


def make_table(result: dict[str, Any]) -> str:
    """The table as Markdown, and how it was made."""
    headers, rows = make_rows(result["columns"], result["sizes"])
    lines = [f"| {' | '.join(headers)} |", f"|---|---|{'---:|' * (len(headers) - 2)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", f"`{result['command']}`, {result['date']}; {result['on']}."])


def main() -> None:
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of jobs (default: 1000,10000,100000)")
    parser.add_argument(
        "--idle", type=float, default=30.0, help="seconds to watch an idle worker; 0: not (default: 30)"
    )
    parser.add_argument("--result", default=str(PROJECT / "build" / "scale.json"), help="where the figures go, as JSON")
    parser.add_argument("--draw", default=str(PROJECT / "build" / "scale.svg"), help="where the drawing goes, as SVG")
    parser.add_argument("--into", default="", help="a file with the two marks, to put the table there")
    options = parse(parser)
    sizes = sorted({int(word) for word in options.sizes.split(",")})
    directory = make_directory(options.directory)
    result: dict[str, Any] = {
        "command": f"python benchmarks/scale.py --sizes {','.join(map(str, sizes))}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "on": f"jobjar {VERSION}, python {platform.python_version()}, sqlite {driver.sqlite_version}, {os.cpu_count()} cores",
        "sizes": sizes,
        "columns": {},
    }
    for path in (options.result, options.draw):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    for name, column in measure_all(directory, sizes, options.rounds, options.idle):
        # Write the file after each column, so that a later failure loses no earlier measurement.
        result["columns"][name] = column
        Path(options.result).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(*make_rows(result["columns"], sizes))
    Path(options.draw).write_text(draw(result), encoding="utf-8")
    print(f"drawn in {options.draw}")
    if options.into:
        put_between(Path(options.into), BEGIN, END, make_table(result))


def draw(result: dict[str, Any]) -> str:
    """Draw all measures in seconds over the sizes."""
    lines = {}
    for measure in (name for name, unit in MEASURES.items() if unit == "s"):
        for kind in KINDS:
            columns = [(size, result["columns"].get(f"{kind} {size}", {})) for size in result["sizes"]]
            points = [(size, column[measure]) for size, column in columns if measure in column]
            lines[f"{measure.replace('`', '')} ({kind})"] = points
    return draw_chart("jobs in the jar", "seconds", lines)


if __name__ == "__main__":
    main()
