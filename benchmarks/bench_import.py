"""The cost of `import jobjar`: an interpreter that imports it, compared with one that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from functools import partial

from measure import alternate, make_parser, parse, print_table, shown, spread, verdict

WANTED_MS = 20.0


def measure_python(statement: str) -> float:
    """Milliseconds that an interpreter takes for a statement."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    options = parse(make_parser(__doc__, rounds=40, on_disk=False))
    measure_python("import jobjar")  # compiles the byte code once
    statements = ("pass", "import jobjar", "import jobjar; jobjar.submit_job")
    values = alternate(options.rounds, {text: partial(measure_python, text) for text in statements})
    base = statistics.median(values["pass"])
    rows = []
    for statement in statements:
        more = statistics.median(values[statement]) - base
        wanted = verdict(more, WANTED_MS, False) if statement == "import jobjar" else ""
        rows.append((statement, spread(values[statement], "ms"), shown(more, "ms"), wanted))
    print_table(("python -c", "time", "more than pass", "wanted"), rows)


if __name__ == "__main__":
    main()
