"""The cost of a claim and a completion with many jobs queued, compared with few."""

from __future__ import annotations

import os
import time
from pathlib import Path

from measure import SCRIPT, alternate, make_parser, median_ratio, parse, print_table, spread, temporary_jar, verdict

from jobjar.attempts.attempt import SUCCEEDED, AttemptEnd, Claimer
from jobjar.attempts.verdict import Verdict
from jobjar.jar import Jar, open_jar
from jobjar.job_file.names import id_in_name, make_name, new_id
from jobjar.ledger.rebuild import fill_ledger
from jobjar.stages.claim import claim_next
from jobjar.stages.complete import Ending, WhileRefused, complete
from jobjar.worker.next_job import asked_categories

WANTED = 1.3
_CHUNK = 1000


def fill(jar: Jar, jobs: int) -> None:
    """Queue jobs in the state that submissions leave, but without the fsyncs; then bring the ledger up to date."""
    for start in range(0, jobs, _CHUNK):
        entries = []
        for _ in range(min(_CHUNK, jobs - start)):
            name = make_name(0, None)
            path = f"{jar.layout.unclaimed}/{name}"
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o700)
            os.write(descriptor, SCRIPT.encode())
            os.close(descriptor)
            uid, now = id_in_name(name), time.time()
            submitted = {"entry": "submitted", "job": uid, "name": name, "category": "", "submitter": "bench"}
            moved = {"entry": "moved", "job": uid, "number": 1, "from": f"limbo/{name}", "to": f"unclaimed/{name}"}
            entries.append({**submitted, "submitted_at": now})
            entries.append({**moved, "moved_at": now, "reason": "submitted", "by": "bench"})
        jar.journal.append(entries)
    fill_ledger(jar.ledger)


def make_claimer(jar: Jar) -> Claimer:
    """A claimer like a worker's, with its directories."""
    paths = jar.layout.worker("bench.1")
    for path in (paths.path, paths.jobs):
        os.mkdir(path)
    return Claimer(jar, new_id(), paths, asked_categories(()))


def measure_turns(claimer: Claimer, turns: int) -> float:
    """Microseconds for a claim and a completion, without the run between them."""
    started = time.perf_counter()
    for _ in range(turns):
        job = claim_next(claimer, time.time(), print)
        if job is None:
            raise SystemExit("no job is left; ask for fewer rounds or turns")
        end = AttemptEnd(SUCCEEDED, 0, None, 0.001, 0.0005, 0.0005, 1000, None, None)
        verdict_of_job = Verdict.complete()
        complete(claimer, Ending(job, end, verdict_of_job, time.time()), WhileRefused(lambda: False, print))
    return (time.perf_counter() - started) / turns * 1e6


def main() -> None:
    parser = make_parser(__doc__, rounds=15)
    parser.add_argument("--turns", type=int, default=50, help="claims in each round (default: 50)")
    parser.add_argument("--few", type=int, default=1_000, help="jobs queued in one jar (default: 1000)")
    parser.add_argument("--many", type=int, default=100_000, help="jobs queued in the other (default: 100000)")
    options = parse(parser)

    def prepare(home: Path, jobs: int) -> Claimer:
        jar = open_jar(environment={"JJ_HOME": str(home), "JJ_CONFIG_FILE": os.devnull})
        fill(jar, jobs)
        return make_claimer(jar)

    with temporary_jar(options.directory) as home:
        few = prepare(home, options.few)
        with temporary_jar(options.directory) as other_home:
            many = prepare(other_home, options.many)
            os.sync()  # pending writes of the filling are no part of a claim
            values = alternate(
                options.rounds,
                {
                    "few": lambda: measure_turns(few, options.turns),
                    "many": lambda: measure_turns(many, options.turns),
                },
            )
            many.jar.close()
        few.jar.close()
    ratio = median_ratio(values["many"], values["few"])
    print_table(
        ("jobs queued", "claim + complete", "beside few", "wanted"),
        [
            (f"{options.few:,}", spread(values["few"], "µs"), "1", ""),
            (f"{options.many:,}", spread(values["many"], "µs"), f"{ratio:.3f}", verdict(ratio, WANTED, False)),
        ],
    )


if __name__ == "__main__":
    main()
