"""A process that has everything imported, and forks a child for each order: a child that may be killed takes a few
milliseconds to start, and is reaped at once when it is dead.

The tests' side is `Nursery`; the other side, run as `python -m tests.crash.nursery`, reads orders from its standard input
and answers on its standard output, one JSON object a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.killer import Plan

ROOT = Path(__file__).parent.parent.parent


class Answer(NamedTuple):
    """What became of a child. `killed`: it died of SIGKILL; `result`: what the scenario returned; `points`: labels."""

    killed: bool
    result: Any
    points: list[str]


class Nursery:
    """The tests' side."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JJ_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )

    def do(self, home: Path, scenario: str, plan: Plan | None = None, **arguments: Any) -> Answer:
        """Have a child do `scenario` (a function of scenarios.py or array_scenarios.py). With a plan its writes are counted, and
        it may die."""
        assert self._process.stdin is not None and self._process.stdout is not None
        order = {"home": str(home), "scenario": scenario, "plan": plan, "arguments": arguments}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery has died"
        answer = json.loads(line)
        assert not answer["error"], f"{scenario} {plan}: {answer['error']}"
        return Answer(answer["killed"], answer["result"], answer["points"])

    def close(self) -> None:
        self._process.communicate(timeout=60)


def main() -> None:
    """The other side: one order at a time, until standard input ends."""
    import daemon  # noqa: F401
    import portalocker  # noqa: F401
    import psutil  # noqa: F401

    import tests.crash.array_scenarios
    import tests.crash.scenarios
    import tests.frozen  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_carry_out(json.loads(line))) + "\n")
        answers.flush()


def _carry_out(order: dict[str, Any]) -> dict[str, Any]:
    result_reader, result_writer = os.pipe()
    trace_reader, trace_writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(result_reader)
        os.close(trace_reader)
        _be_a_child(order, result_writer, trace_writer)
    os.close(result_writer)
    os.close(trace_writer)
    with os.fdopen(trace_reader, "rb") as trace, os.fdopen(result_reader, "rb") as results:
        points = [json.loads(label) for label in trace.read().splitlines()]
        answer = results.read()
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9
    said: dict[str, Any] = json.loads(answer) if answer else {"result": None, "error": None}
    if not answer and not killed:
        said["error"] = f"the child ended with wait status {status}"
    return {**said, "killed": killed, "points": points}


def _be_a_child(order: dict[str, Any], results: int, trace: int) -> None:
    from tests.crash import array_scenarios, killer, scenarios

    answer: dict[str, Any] = {"result": None, "error": None}
    write = os.write
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        home = order["home"]
        above = os.path.dirname(home)
        os.environ.update({"JJ_HOME": home, "JJ_GRACE_TIME": "1", "HOME": above, "JJ_INPUT_CACHE": f"{above}/cache"})
        os.environ["JJ_EXIT_ON_FAILURE"] = "no"
        os.environ["TMPDIR"] = tempfile.tempdir = above  # for what it does not come to remove
        if order["plan"] is not None:
            killer.arm(Plan(*order["plan"]), trace)
        where = scenarios if hasattr(scenarios, order["scenario"]) else array_scenarios
        answer["result"] = getattr(where, order["scenario"])(**order["arguments"])
    except BaseException:
        answer["error"] = traceback.format_exc()
    write(results, json.dumps(answer).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
