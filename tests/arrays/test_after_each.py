"""Arrays that wait: task by task for another array (`--after-each`), or as a whole for jobs and batches (`--after`)."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobjar
from jobjar.errors import BadScript
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.timeout(120)
QUICK = {"JJ_POLL_TIME": "0.1"}


def submit(rig: Rig, *words: str, fails: bool = False) -> str:
    result = rig.run_forked("jobjar", "submit", *words, check=False)
    assert result.returncode == 2 * fails, result
    return (result.stderr if fails else result.stdout).strip()


def outcomes(rig: Rig, array: str, last: int) -> list[str | None]:
    return [rig.show(f"{array}[{index}]").get("outcome") for index in range(1, last + 1)]


def message(rig: Rig, array: str, index: int) -> str:
    return str(rig.show(f"{array}[{index}]")["message"])


def rows(rig: Rig) -> list[object]:
    """What the ledger has that a rebuild has to find again."""
    return [rig.show(array) for array in sorted(path.name for path in (rig.home / "batches").iterdir())]


def test_a_task_runs_after_its_partner_and_is_cancelled_with_the_reason_if_that_failed(
    rig: Rig, tmp_path: Path
) -> None:
    log, mended = tmp_path / "log", tmp_path / "mended"
    first = submit(
        rig, "--array", "1-8", "--chunk", "3", f"echo A$1 >> {log}; case $1 in 2|7|8) test -e {mended};; esac"
    )
    second = submit(rig, "--after-each", first, "--array", "1-8", "--chunk", "2", f"echo B$1 >> {log}")
    third = submit(
        rig, "--after-each", second[:6], "--each-line", lines(tmp_path, 8), f"echo C$JJ_ARRAY_INDEX >> {log}"
    )
    after = submit(rig, "--after", second, "--array", "1-2", f"echo late >> {log}")
    cleanup = submit(rig, "--after-failed", second, "--array", "1-2", f"echo D$1 >> {log}")
    assert len(rig.names("limbo")) == 4 + 8 + 2 + 2 and len(rig.names("unclaimed")) == 3
    [explained] = rig.explain(second)
    assert f"it is to run once the tasks {first}[1-2] have ended" in explained["sentence"], explained
    assert f"`jobjar explain {first}[1-2]`" in " ".join(explained["what_to_do"])
    [one] = rig.explain(f"{second}[5]")
    assert one["state"] == "dependent" and f"{first}[5-6]" in one["sentence"]
    rig.assert_clean()
    before = rows(rig)
    rig.run_forked("jobjar", "rebuild")
    assert rows(rig) == before
    rig.run_until_idle(**QUICK)
    bad = [2, 7, 8]
    expected = ["cancelled" if index in bad else "succeeded" for index in range(1, 9)]
    assert outcomes(rig, first, 8) == [word.replace("cancelled", "failed") for word in expected]
    assert outcomes(rig, second, 8) == outcomes(rig, third, 8) == expected
    assert message(rig, second, 2) == f"its prerequisite {first}[2] failed"
    assert message(rig, third, 7) == f"its prerequisite {second}[7] was cancelled"
    assert [rig.show(array)["not_run"] for array in (after, cleanup)] == [2, 0]
    ran = log.read_text().split()
    good = [index for index in range(1, 9) if index not in bad]
    assert sorted(ran) == sorted(
        [f"A{index}" for index in range(1, 9)] + [f"{array}{index}" for array in "BC" for index in good] + ["D1", "D2"]
    )
    assert all(ran.index(f"A{i}") < ran.index(f"B{i}") < ran.index(f"C{i}") for i in good)
    assert rig.names("limbo") == []
    rig.assert_clean()
    before = rows(rig)
    rig.run_forked("jobjar", "rebuild")
    assert rows(rig) == before

    # Retried with what was cancelled because of it; a task that had run is not run again.
    mended.touch()
    retry = ("jobjar", "retry", "--with-dependents", first)
    would = rig.run_forked(*retry, "--dry-run").stdout
    tasks = ", ".join(f"3 tasks of {array}" for array in (first, second, third))
    assert would == f"would retry 1 array (2 ended chunks), {tasks}\n"
    done = rig.run_forked(*retry).stdout
    assert done == f"retried 1 array (2 ended chunks), {tasks}\n"
    assert rig.show(f"{second}[2]")["state"] == "dependent"
    rig.assert_clean()
    rig.run_until_idle(**QUICK)
    assert {rig.show(array)["succeeded"] for array in (first, second, third)} == {8}
    # What waits for the whole second array runs now, too: it was cancelled because of that.
    again = [f"{array}{index}" for array in "ABC" for index in bad] + ["late", "late"]
    assert sorted(log.read_text().split()[len(ran) :]) == sorted(again)
    rig.assert_clean()


def lines(directory: Path, count: int) -> str:
    path = directory / "lines"
    path.write_text("".join(f"line {number}\n" for number in range(count)))
    return str(path)


def test_the_first_tasks_go_on_while_others_of_the_first_array_run(rig: Rig, tmp_path: Path) -> None:
    log, go_on = tmp_path / "log", tmp_path / "go"
    wait = f"while [ $1 = 4 ] && ! [ -e {go_on} ]; do sleep 0.05; done"
    first = submit(rig, "--array", "1-4", "--chunk", "2", f"{wait}; [ $1 != 3 ]")
    workers = [rig.start_worker(**QUICK) for _ in range(2)]
    # It is submitted while the first runs.
    second = submit(rig, "--after-each", first, "--array", "1-4", "--chunk", "1", f"echo $1 >> {log}")
    wait_until(lambda: outcomes(rig, second, 4)[:3] == ["succeeded", "succeeded", "cancelled"], "the first three")
    assert rig.show(f"{second}[4]")["state"] == "dependent"
    # A person may let one go on without waiting, or hold it: then it waits again.
    chunk = rig.names("limbo")[0]
    assert rig.run_forked("jobjar", "hold", second).stdout == "held 1 array (1 dependent chunk)\n"
    go_on.touch()
    rig.run_forked("jobjar", "wait", "--timeout", "60s", first, check=False)
    assert rig.names("limbo") == [chunk]
    rig.run_forked("jobjar", "release", second)
    rig.run_forked("jobjar", "wait", "--timeout", "60s", second, check=False)
    assert sorted(log.read_text().split()) == ["1", "2", "4"]
    for worker in workers:
        rig.stop_worker(worker)
    # All of the first has ended: no worker is needed to say what becomes of the second's tasks.
    third = submit(rig, "--after-each", first, "--array", "2-4:2", "true")
    fourth = submit(rig, "--after-each", first, "--array", "3", "true")
    assert (len(rig.names("unclaimed")), len(rig.names("limbo"))) == (2, 0)
    assert message(rig, fourth, 3) == f"its prerequisite {first}[3] failed"
    # What was cancelled runs if a person wants it, though its prerequisite has failed.
    assert rig.run_forked("jobjar", "retry", fourth).stdout == f"retried 1 task of {fourth}\n"
    rig.run_until_idle(**QUICK)
    assert {rig.show(array)["succeeded"] for array in (third, fourth)} == {2, 1}
    rig.assert_clean()


def test_tasks_that_never_ran_count_as_failed_and_an_array_without_partners_is_refused(
    rig: Rig, own_library: None
) -> None:
    first = jobjar.submit_array("true", indexes="1-4", chunk=2)
    script = f"#!/bin/sh\n#JJ after_each = {first}\ntrue\n"
    second = jobjar.submit_array(script=script, indexes="1-3", after_any=[jobjar.submit("true")])
    for indexes in ("1-5", "0-4", "2-8:2"):
        said = f"{first} has the indexes 1-4, and this array {indexes}: each task needs a partner"
        with pytest.raises(BadScript, match=said):
            jobjar.submit_array("true", indexes=indexes, after_each=first)
    with pytest.raises(BadScript, match="after_each is for the tasks of an array"):
        jobjar.submit(script=script)
    refused = submit(rig, "--array", "1-3", "--after-each", "nosuch", "true", fails=True)
    assert "after_each: nosuch: there is no such array" in refused
    rig.run_forked("jobjar", "cancel", first)
    rig.run_until_idle(**QUICK)
    assert message(rig, second, 3) == f"its prerequisite {first}[3] did not run"
    assert rig.show(second)["cancelled"] == 3
    dropped = rig.drop("by-hand", script)
    rig.run_until_idle(**QUICK)
    assert "after_each is for the tasks of an array" in rig.show(dropped.name)["held_reason"]
    rig.assert_clean()
