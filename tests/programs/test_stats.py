"""jobjar stats: what jobs take and how they end, as the jobs themselves say."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import pytest

import jobjar
from tests.rig import Rig


def read_stats(rig: Rig, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rig.run("jobjar", "stats", "--format", "json", *words).stdout)
    return found


def spread(values: list[float]) -> dict[str, float]:
    values = sorted(values)
    return {
        "median": statistics.median(values),
        "p95": values[math.ceil(0.95 * len(values)) - 1],
        "max": values[-1],
    }


@pytest.mark.usefixtures("own_library")
def test_statistics_are_what_the_jobs_say_of_themselves(rig: Rig) -> None:
    empty = rig.run("jobjar", "stats")
    assert empty.stdout.startswith("No job has ended.\n")
    good = [
        rig.submit("-c", "LINUX", "--id", "good", f"test $(seq {number}000 | wc -l) -gt 0") for number in range(1, 6)
    ]
    bad = [
        rig.submit("--id", "bad", f"echo first; echo 'step {number} of 9: no such thing'; exit 3") for number in (1, 2)
    ]
    again = rig.submit("--id", "bad", "--retries", "1", "test $JJ_ATTEMPT = 2")
    quiet = rig.submit("kill -9 $$")
    rig.run_until_idle("LINUX")
    rig.submit("-c", "LATER", "true")
    held = rig.submit("-c", "LATER", "true")
    (rig.home / "unclaimed" / "LATER" / held).rename(rig.home / "limbo" / held)

    stats = read_stats(rig)
    groups = {group["group"]: group for group in stats["groups"]}
    assert list(groups) == ["LINUX", None, "LATER"]
    assert (stats["ended"], stats["of"], stats["by"]) == (9, 9, "category")
    assert groups["LINUX"]["outcomes"] == {"succeeded": 5} and groups[None]["outcomes"] == {"succeeded": 1, "failed": 3}
    assert (groups["LATER"]["waiting"], groups["LATER"]["ended"], groups["LATER"]["waited_s"]) == (1, 0, None)
    assert groups[None]["limbo"] + groups["LATER"]["limbo"] == 1
    shown = [rig.show(name) for name in good]
    last = [one["attempts"][-1] for one in shown]
    assert groups["LINUX"]["run_time_s"] == spread([attempt["wall_time_s"] for attempt in last])
    assert groups["LINUX"]["max_rss_kib"] == spread([attempt["max_rss_kib"] for attempt in last])
    cpu = spread([attempt["user_cpu_s"] + attempt["system_cpu_s"] for attempt in last])
    assert groups["LINUX"]["cpu_time_s"] == pytest.approx(cpu)
    waited = [one["attempts"][0]["started_at"] - one["submitted_at"] for one in shown]
    assert groups["LINUX"]["waited_s"] == pytest.approx(spread(waited), abs=1e-4)
    assert stats["all"]["ended"] == 9 and stats["all"]["outcomes"] == {"succeeded": 6, "failed": 3}
    # A job that was tried again waited until its first attempt.
    one = read_stats(rig, again)["all"]
    first = rig.show(again)["attempts"][0]["started_at"] - rig.show(again)["submitted_at"]
    assert one["waited_s"]["max"] == pytest.approx(first, abs=1e-4)

    # What failed alike is one line; it says what the newest said.
    said = [
        (failure["jobs"], failure["exit_status"], failure["signal"], failure["said"]) for failure in stats["failures"]
    ]
    assert said == [(2, 3, None, "step 2 of 9: no such thing"), (1, None, 9, None)]
    assert stats["failures"][1]["newest"] == rig.show(quiet)["id"]

    # Other groups, filters, and fewer jobs.
    by_name = {group["group"]: group["ended"] for group in read_stats(rig, "--by", "name")["groups"]}
    assert by_name == {"good": 5, "bad": 3, None: 1}
    node = rig.show(quiet)["attempts"][0]["worker"].rpartition(".")[0]
    assert read_stats(rig, "--by", "node")["groups"][0]["group"] == node
    assert read_stats(rig, "--outcome", "failed", "--by", "submitter")["all"]["ended"] == 3
    assert read_stats(rig, "--name", "bad", "--category", "")["all"]["ended"] == 3
    assert read_stats(rig, bad[0], good[0])["all"]["ended"] == 2
    some = read_stats(rig, "--limit", "2")
    assert (some["ended"], some["of"]) == (2, 9)
    for words in (["--by", "nmae"], ["--state", "ended"], ["--limit", "-1"]):
        assert rig.run("jobjar", "stats", *words, check=False).returncode == 2
    assert "did you mean name?" in rig.run("jobjar", "stats", "--by", "nmae", check=False).stderr

    # For people.
    text = rig.run("jobjar", "stats").stdout
    assert text.startswith("9 jobs that ended since ") and max(map(len, text.splitlines())) <= 110
    assert "no such thing" in text and "(no category)" in text and "95 %" in text
    assert "(of 9); --limit 0 takes all." in rig.run("jobjar", "stats", "--limit", "2").stdout
    # The same from the library.
    found = jobjar.stats(by="name", outcome="succeeded")
    assert {group.group: group.ended for group in found.groups} == {"good": 5, "bad": 1}
    assert found.groups[0].run_time_s is not None
    assert found.groups[0].run_time_s._asdict() == groups["LINUX"]["run_time_s"]
