"""The view: how long the server takes for each page of a jar with a million ended jobs and an array of a million tasks, and what
it uses while nothing happens and five pages listen.

The jar is made as benchmarks/large_jars.py makes one; `--home` measures one that is there. The array's ends are made as in
bench_arrays.py.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from bench_arrays import make_ends, submit
from large_jars import make_large_jar
from measure import PROJECT, make_directory, make_parser, parse, print_table, shown, verdict

from jobjar.jar import open_jar
from jobjar.ledger.fold import fold_journals

WANTED_MS = 150.0
WANTED_IDLE_PERCENT = 1.0
_IDLE_S = 30.0
# Between two pages comes so long: the server looks anew, and draws the page anew.
_PAUSE_S = 1.2


class Server:
    def __init__(self, home: Path) -> None:
        program = shutil.which("jobjar", path=str(PROJECT / ".venv" / "bin")) or "jobjar"
        self.process = subprocess.Popen(
            [program, "web", "--home", str(home), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        address = urlsplit(self.process.stdout.readline().strip())
        self.host, self.port = str(address.hostname), int(address.port or 0)
        self.headers = {"Authorization": f"Bearer {address.query.removeprefix('token=')}"}

    def ask(self, path: str) -> tuple[float, str]:
        """How many milliseconds the answer took, and its text."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=60)) as connection:
            began = time.perf_counter()
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            took = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
        return took, text

    def wait_until_counted(self) -> None:
        """Wait until the week's chart is whole: it is counted in pieces, once."""
        while "older ends are being counted" in self.ask("/?span=week")[1]:
            time.sleep(0.2)

    def idle_percent(self, listeners: int) -> float:
        with contextlib.ExitStack() as stack:
            for _ in range(listeners):
                connection = stack.enter_context(
                    contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=60))
                )
                connection.request("GET", "/events", headers=self.headers)
                connection.getresponse().readline()
            before = psutil.Process(self.process.pid).cpu_times()
            time.sleep(_IDLE_S)
            after = psutil.Process(self.process.pid).cpu_times()
        return (after.user + after.system - before.user - before.system) / _IDLE_S * 100


def last_page(server: Server, path: str, pages: int) -> str:
    """The address of the page after so many."""
    for _ in range(pages):
        found = re.search(r'rel="next" href="([^"]+)"', server.ask(path)[1])
        if found is None:
            return path
        path = found[1].replace("&amp;", "&")
    return path


def main() -> None:
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="jobs that ended (default: 1000000)")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks of the array (default: 1000000)")
    parser.add_argument("--pages", type=int, default=1000, help="how far to go through the jobs (default: 1000)")
    parser.add_argument("--home", type=Path, help="a jar that is there, in place of one that is made")
    options = parse(parser)
    home = options.home
    if home is None:
        home = make_directory(options.directory) / "jar"
        make_large_jar(home, 2000, options.jobs).close()
        array = submit(home, options.tasks)
        jar = open_jar({}, environment={"JJ_HOME": str(home)})
        with open(f"{jar.layout.journals}/other.0001.jsonl", "w", encoding="ascii") as journal:
            journal.writelines(make_ends(jar, array))
        with jar.ledger.writing() as connection:
            fold_journals(connection, jar.layout)
        jar.close()
    server = Server(home)
    try:
        server.wait_until_counted()
        job = re.findall(r"/job\?id=\w+", server.ask("/jobs?state=ended")[1])[0]
        arrays = re.findall(r"/array\?id=\w+", server.ask("/arrays")[1])[:1]
        paths = {
            "overview, hour": "/",
            "overview, week": "/?span=week",
            "jobs": "/jobs",
            "jobs, failed": "/jobs?outcome=failed",
            "jobs, by name": "/jobs?search=rain7",
            "jobs, newest": "/jobs?order=newest",
            f"jobs, page {options.pages}": last_page(server, "/jobs?state=ended", options.pages),
            "a job": job,
            "arrays": "/arrays",
            "batches": "/batches",
            "workers": "/workers",
            "failures": "/failures",
            "metrics": "/metrics",
        }
        for path in arrays:
            paths["the array"], paths["a tile of the array"] = path, f"{path}&first=5000"
            paths["a task"] = f"{path.replace('/array', '/task')}&number=5000"
        rows = []
        for name, path in paths.items():
            taken = []
            for _ in range(options.rounds):
                time.sleep(_PAUSE_S)
                taken.append(server.ask(path)[0])
            median = statistics.median(taken)
            rows.append(
                (name, shown(median, "ms"), shown(max(taken), "ms"), verdict(median, WANTED_MS, at_least=False))
            )
        print_table(("page", "median", "longest", "wanted, ms"), rows)
        percent = server.idle_percent(5)
        rss = psutil.Process(server.process.pid).memory_info().rss / 2**20
        print(
            f"idle with 5 pages that listen: {percent:.2f} % of a core ({verdict(percent, WANTED_IDLE_PERCENT, False)}); "
            f"{rss:.0f} MiB"
        )
    finally:
        server.process.terminate()
        server.process.wait(30)


if __name__ == "__main__":
    main()
