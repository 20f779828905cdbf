"""How evenly workers share an array whose tasks take very different times: when the last worker ends, beside the ideal.

Simulated, with the rules of the code for how large chunks are and what is given away (arrays/indexes.py, arrays/sharing.py). The
ideal is the sum of all lengths over the workers, or the longest task if that is more; it takes knowing the lengths, so beside it
stands who takes one task at a time off a single queue. With --really, real workers run one such array of short sleeps too.
"""

from __future__ import annotations

import heapq
import math
import os
import random
import statistics
import subprocess
import time

from measure import make_parser, parse, print_table, release, shown, spread, temporary_jar, verdict

from jobjar.arrays.chunk_size import choose_size
from jobjar.arrays.sharing import HELD_S, count_to_give

WANTED = 1.1
# A worker looks for idle ones so often (JJ_POLL_TIME), and an idle one finds a chunk so soon.
LOOK_S, CLAIM_S = 1.0, 0.02


def draw_lengths(tasks: int, widest: float, rng: random.Random) -> list[float]:
    """Log-normal lengths of median 1, so that the longest of so many is about `widest`; none is longer."""
    sigma = math.log(widest) / statistics.NormalDist().inv_cdf(1 - 1 / tasks)
    return [min(widest, rng.lognormvariate(0, sigma)) for _ in range(tasks)]


def ideal(lengths: list[float], workers: int) -> float:
    """When the last task would end if somebody knew all lengths: the sum over the workers, or the longest."""
    return max(sum(lengths) / workers, max(lengths))


def one_by_one(lengths: list[float], workers: int) -> float:
    """When the last task ends if each worker that is free takes the next one, at no cost. Nobody who does not know the lengths
    does better on the whole."""
    free_at = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(free_at, free_at[0] + length)
    return max(free_at)


class Worker:
    """A simulated worker: the tasks of its chunk that have not begun, when it claimed that, and when the running one ends."""

    def __init__(self) -> None:
        self.left: list[float] = []
        self.claimed_at = self.ends_at = 0.0
        self.is_idle = True


def simulate(lengths: list[float], workers: int, look_s: float = LOOK_S, claim_s: float = CLAIM_S) -> float:
    """When the last task ends, in units of the lengths."""
    size = choose_size(len(lengths))
    chunks = [lengths[start : start + size] for start in range(0, len(lengths), size)][::-1]
    crew = [Worker() for _ in range(workers)]
    last = 0.0
    # (when, number of the event, worker, whether its task has ended; else it looks for idle ones)
    events: list[tuple[float, int, Worker, bool]] = []
    number = 0

    def at(when: float, worker: Worker, is_end: bool) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, worker, is_end))

    def begin(worker: Worker, now: float) -> None:
        nonlocal last
        if not worker.left and chunks:
            worker.left, now = chunks.pop(), now + claim_s
            worker.claimed_at = now
        worker.is_idle = not worker.left
        if worker.left:
            worker.ends_at = now + worker.left.pop(0)
            last = max(last, worker.ends_at)
            at(worker.ends_at, worker, True)

    def share(worker: Worker, now: float, is_running: bool) -> None:
        if not any(other.is_idle for other in crew) or now - worker.claimed_at < HELD_S:
            return
        given = count_to_give(len(worker.left), is_running)
        if given:
            chunks.append(worker.left[-given:])
            del worker.left[-given:]
            begin(next(other for other in crew if other.is_idle), now)

    for worker in crew:
        begin(worker, 0.0)
        at(look_s, worker, False)
    while events:
        now, _, worker, is_end = heapq.heappop(events)
        if is_end:
            begin(worker, now)
        elif any(not other.is_idle for other in crew):
            if not worker.is_idle:
                share(worker, now, True)
            at(now + look_s, worker, False)
    return last


def run_really(directory: str, lengths: list[float], workers: int) -> float:
    """How long real workers take for an array of sleeps of these lengths, in seconds."""
    with temporary_jar(directory) as home:
        lines = home.parent / "lengths"
        lines.write_text("".join(f"{length:.4f}\n" for length in lengths))
        command = [f"{home}/bin/jobjar", "submit", "--each-line", str(lines), "--scratch", 'sleep "$1"']
        array = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        def wait() -> float:
            subprocess.run([f"{home}/bin/jobjar", "wait", array], check=True, stderr=subprocess.DEVNULL)
            return time.time()

        return release(home, workers, wait)


def main() -> None:
    parser = make_parser(__doc__, rounds=50)
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of the array (default: 2000)")
    parser.add_argument("--workers", type=int, default=16, help="workers that share it (default: 16)")
    parser.add_argument("--widest", type=float, default=1000, help="the longest task, by the median (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the lengths (default: 1)")
    parser.add_argument("--really", type=float, default=0.0, help="run one too, with this median in seconds")
    options = parse(parser)
    arrays = [
        draw_lengths(options.tasks, options.widest, random.Random(options.seed + number))
        for number in range(options.rounds)
    ]
    took = [simulate(lengths, options.workers) for lengths in arrays]
    best = [one_by_one(lengths, options.workers) for lengths in arrays]
    known = [ideal(lengths, options.workers) for lengths in arrays]
    by_best = [one / other for one, other in zip(took, best, strict=True)]
    rows = [
        ("simulated, by one task at a time", spread(by_best), verdict(statistics.median(by_best), WANTED, False)),
        ("simulated, by the ideal", spread([one / other for one, other in zip(took, known, strict=True)]), ""),
        ("one task at a time, by the ideal", spread([one / other for one, other in zip(best, known, strict=True)]), ""),
    ]
    if options.really:
        lengths = [options.really * length for length in arrays[0]]
        really_s, best_s = run_really(options.directory, lengths, options.workers), options.really * best[0]
        rows.append((f"real workers, {shown(really_s, 's')}, by one at a time", shown(really_s / best_s), ""))
    print_table(("the end of the last task", "median (least to most)", "wanted"), rows)


if __name__ == "__main__":
    os.environ.setdefault("JJ_CONFIG_FILE", os.devnull)
    main()
