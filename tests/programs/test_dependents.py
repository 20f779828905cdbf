"""Jobs that wait for others to end, by the real programs: `after`, `after_any`, `after_failed`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jobjar
from jobjar.errors import BadScript, UnknownTarget
from tests.rig import Result, Rig


def submit(rig: Rig, *words: str) -> str:
    """Submit as people type it; returns the id."""
    return rig.run_forked("jobjar", "submit", "--scratch", *words).stdout.strip()


def steer(rig: Rig, verb: str, *words: str, fails: bool = False) -> Result:
    result = rig.run_forked("jobjar", verb, *words, check=False)
    assert result.returncode == int(fails), (result.stdout, result.stderr)
    return result


def states(rig: Rig, *jobs: str) -> list[str]:
    """The word that `jobjar list` has for each job."""
    listed = json.loads(rig.run_forked("jobjar", "list", "--format", "json", *jobs).stdout)["jobs"]
    return [str(job["outcome"] or job["state"]) if job["state"] == "completed" else _word(job) for job in listed]


def _word(job: dict[str, str]) -> str:
    is_dependent = (job["held_reason"] or "").startswith("dependent on ")
    return "dependent" if is_dependent else "held" if job["held_reason"] else job["state"]


def message(rig: Rig, job: str) -> str:
    return str(rig.show(job)["attempts"][-1]["message"])


def test_a_dependent_goes_on_or_is_cancelled_with_what_depends_on_it_when_its_prerequisites_end(
    rig: Rig, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first = submit(rig, "--name", "first", f"echo first >> {log}")
    failing = submit(rig, "--name", "failing", f"echo failing >> {log}; exit 3")
    second = submit(rig, "--after", "first", "-c", "LATER", "-p", "7", f"echo second >> {log}")
    third = submit(rig, "--after", first[:8], "--after", second, f"echo third >> {log}")
    never = submit(rig, "--after", first, "--after", failing, f"echo never >> {log}")
    cascade = submit(rig, "--after", never, f"echo never >> {log}")
    cleanup = submit(rig, "--after-failed", cascade, f"echo cleanup >> {log}")
    not_needed = submit(rig, "--after-failed", first, f"echo never >> {log}")
    anyway = submit(rig, "--after-any", never, "--after-any", third, f"echo anyway >> {log}")
    dependents = (second, third, never, cascade, cleanup, not_needed, anyway)
    assert states(rig, *dependents) == ["dependent"] * 7
    assert len(rig.names("limbo")) == 7
    shown = rig.show(second)
    assert (shown["held_reason"], shown["category"]) == (f"dependent on {first}", "LATER")
    assert rig.show(third)["held_reason"].startswith("dependent on ") and "and 1 more" in rig.show(third)["held_reason"]
    assert [move["reason"] for move in shown["moves"]] == ["submitted"]
    assert f"it is to run once {first} has succeeded (waits now)" in rig.explain(second)[0]["sentence"]
    listed = rig.run_forked("jobjar", "list", "--state", "dependent", "--columns", "id").stdout
    assert sorted(listed.split()[2:]) == sorted(dependents)
    status = rig.status()
    assert (status["jobs"]["dependent"], status["jobs"]["held"]) == (7, [])
    rig.assert_clean()
    rig.run_forked("jobjar", "rebuild")
    assert states(rig, *dependents) == ["dependent"] * 7

    rig.run_until_idle("LATER")  # `wait --all` waits for dependents too
    assert states(rig, first, failing, *dependents) == [
        *("succeeded", "failed", "succeeded", "succeeded", "cancelled", "cancelled"),
        *("succeeded", "cancelled", "succeeded"),
    ]
    ran = log.read_text().split()
    assert sorted(ran) == ["anyway", "cleanup", "failing", "first", "second", "third"]
    assert ran.index("first") < ran.index("second") < ran.index("third") < ran.index("anyway")
    assert message(rig, never) == f"its prerequisite {failing} failed"
    assert message(rig, cascade) == f"its prerequisite {never} was cancelled"
    assert message(rig, not_needed) == f"its prerequisite {first} succeeded, and it was to run only if that did not"
    assert f"its prerequisite {failing} failed" in rig.run_forked("jobjar", "explain", never).stdout
    moves = rig.show(second)["moves"]
    assert [move["reason"] for move in moves] == ["submitted", "released", "claimed", "completed"]
    assert moves[1]["to"].startswith("unclaimed/LATER/")  # the worker moved it, or who waited
    assert rig.names("limbo") == [] and list((rig.home / "limbo").iterdir()) == []
    rig.assert_clean()
    before = [rig.show(job) for job in dependents]
    rig.run_forked("jobjar", "rebuild")
    assert [rig.show(job) for job in dependents] == before


def test_what_has_ended_decides_at_once_and_an_unknown_prerequisite_is_refused(rig: Rig) -> None:
    good, bad = submit(rig, "--name", "good", "true"), submit(rig, "--name", "bad", "false")
    rig.run_until_idle()
    # No worker runs: whoever submits a dependent looks at what has ended.
    ready, doomed = submit(rig, "--after", "good", "true"), submit(rig, "--after", bad, "true")
    assert states(rig, ready, doomed) == ["unclaimed", "cancelled"]
    for words, said in (
        (("--after", "nosuch"), "after: nosuch: no job of this name or id, and no batch"),
        (("--after-any", good[:3]), f"after_any: {good[:3]}: no job"),
        (("--after", ""), "after: "),
    ):
        refused = rig.run("jobjar", "submit", *words, "true", check=False)
        assert refused.returncode == 1 and refused.stdout == "", refused
        assert said in refused.stderr and "Traceback" not in refused.stderr
    both = [submit(rig, "--name", "twice", "true") for _ in range(2)]
    refused = rig.run_forked("jobjar", "submit", "--after-failed", "twice", "true", check=False)
    assert refused.returncode == 1 and all(job in refused.stderr for job in both)
    script = rig.home.parent / "script"
    script.write_text(f"#!/bin/sh\n#JJ after = {good}\n#JJ after = nosuch\ntrue\n")
    script.chmod(0o755)
    refused = rig.run_forked("jobjar", "submit", "-f", str(script), check=False)
    assert refused.returncode == 1 and "nosuch" in refused.stderr
    rig.drop("by-hand", "#!/bin/sh\ntrue\n")
    refused = rig.run_forked("jobjar", "submit", "--after", "by-hand", "true", check=False)
    assert "by-hand was put into the jar by hand, and has no id until a worker claims it" in refused.stderr
    assert rig.names("limbo") == []
    rig.assert_clean()


def test_verbs_know_dependents(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    prior = submit(rig, "--name", "prior", "true")
    steer(rig, "hold", prior)
    jobs = {word: submit(rig, "--name", word, "--after", prior, f"echo {word} >> {log}") for word in "abcdef"}
    held_first = submit(rig, "--hold", "--after", prior, f"echo held-first >> {log}")
    assert states(rig, held_first) == ["held"]
    # A held prerequisite is named with what to do.
    assert "is in limbo now" in rig.explain(jobs["a"])[0]["sentence"]
    # `release` of what filters select means held jobs; a dependent that is named goes on without waiting.
    assert steer(rig, "release", "--dry-run", "--all").stdout == "would release 2 held jobs\n"
    assert steer(rig, "release", jobs["a"]).stdout == "released 1 dependent job\n"
    assert states(rig, jobs["a"]) == ["unclaimed"]
    # One that is held keeps its prerequisites, and waits for them again after its release.
    assert steer(rig, "hold", jobs["b"], jobs["c"]).stdout == "held 2 dependent jobs\n"
    assert states(rig, jobs["b"], jobs["c"]) == ["held", "held"]
    assert steer(rig, "release", jobs["b"]).stdout == "released 1 held job\n"
    assert states(rig, jobs["b"]) == ["dependent"]
    steer(rig, "priority", jobs["d"], "9")
    steer(rig, "move", jobs["d"], "RUN")
    shown = rig.show(jobs["d"])
    assert (shown["priority"], shown["category"], states(rig, jobs["d"])) == (9, "RUN", ["dependent"])
    assert steer(rig, "cancel", jobs["e"], "--reason", "no need").stdout == "cancelled 1 dependent job\n"
    assert "no need" in message(rig, jobs["e"])
    refused = steer(rig, "retry", jobs["f"], fails=True).stderr
    assert "was not retried: it waits for its prerequisites" in refused
    assert "waiting for its prerequisites" in rig.run_forked("jobjar", "kill", jobs["f"], check=False).stderr
    # A rename by hand changes nothing, and a hand may let it go on.
    found = next((rig.home / "limbo").glob("*-f.0"))
    found.rename(found.with_name("renamed.0"))
    rig.run_forked("recover_jobs")
    assert states(rig, jobs["f"]) == ["dependent"]
    rig.assert_clean()
    steer(rig, "release", prior)
    rig.run_until_idle("RUN")
    assert sorted(log.read_text().split()) == ["a", "b", "d", "f"]
    assert states(rig, jobs["c"], held_first) == ["held", "held"]
    assert steer(rig, "release", jobs["c"], held_first).stdout == "released 2 held jobs\n"
    assert states(rig, jobs["c"], held_first) == ["unclaimed", "unclaimed"]
    rig.assert_clean()


def test_retried_jobs_take_along_what_was_cancelled_because_of_them(rig: Rig, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    first = submit(rig, "--name", "first", f"test -e {mended}")
    second = submit(rig, "--after", first, "true")
    third = submit(rig, "--after", second, "true")
    other = submit(rig, "--after", first, "true")
    steer(rig, "cancel", other)
    rig.run_until_idle()
    assert states(rig, first, second, third, other) == ["failed", "cancelled", "cancelled", "cancelled"]
    # Alone, it waits as before for what can still end as it wants; here nothing can: it runs.
    assert steer(rig, "retry", third).stdout == "retried 1 ended job\n"
    assert states(rig, third) == ["unclaimed"]
    rig.run_until_idle()
    assert states(rig, third) == ["succeeded"]
    mended.touch()
    assert steer(rig, "retry", "--with-dependents", "--dry-run", first).stdout == "would retry 2 ended jobs\n"
    assert steer(rig, "retry", "--with-dependents", first).stdout == "retried 2 ended jobs\n"
    assert states(rig, first, second, third) == ["unclaimed", "dependent", "succeeded"]
    assert steer(rig, "retry", third).stdout == "retried 1 ended job\n"
    assert states(rig, third) == ["dependent"]
    rig.assert_clean()
    rig.run_until_idle()
    assert states(rig, first, second, third, other) == ["succeeded", "succeeded", "succeeded", "cancelled"]
    moves = [move["reason"] for move in rig.show(second)["moves"]]
    assert moves == ["submitted", "cancelled", "again", "released", "claimed", "completed"]
    rig.assert_clean()


def test_a_lost_prerequisite_keeps_its_dependents_and_says_so(rig: Rig) -> None:
    jobs = [submit(rig, "--name", word, "true") for word in ("gone", "taken")]
    removed, ended_by_hand, anyway = (
        submit(rig, kind, job, "true")
        for kind, job in (("--after", jobs[0]), ("--after", jobs[1]), ("--after-any", jobs[1]))
    )
    next((rig.home / "unclaimed").glob("*-gone.0")).unlink()
    taken = next((rig.home / "unclaimed").glob("*-taken.0"))
    taken.rename(rig.home / "completed" / taken.name)
    rig.run_forked("recover_jobs")
    assert states(rig, removed, ended_by_hand, anyway) == ["dependent", "dependent", "unclaimed"]
    explained = rig.explain(removed, ended_by_hand)
    assert [job["causes"][0]["cause"] for job in explained] == ["lost_prerequisite", "lost_prerequisite"]
    assert f"its prerequisite {jobs[0]} was removed before it had ended" in explained[0]["sentence"]
    assert f"its prerequisite {jobs[1]} ended, and nothing tells how" in explained[1]["sentence"]
    assert f"`jobjar release {removed}` lets it run" in explained[0]["what_to_do"][0]
    standing = [one for one in rig.status()["standing"] if one["cause"] == "lost_prerequisite"]
    assert [one["jobs"] for one in standing] == [1, 1]
    steer(rig, "release", removed, ended_by_hand)
    rig.run_until_idle()
    assert states(rig, removed, ended_by_hand, anyway) == ["succeeded"] * 3
    rig.assert_clean()


BATCH = 'batch\nname = "{name}"\nseeds = "1-2"\nretries = 0\nrun_command = "{command}"\n'


def submit_batch(rig: Rig, name: str, command: str) -> None:
    path = rig.home.parent / f"{name}.jug"
    path.write_text(BATCH.format(name=name, command=command))
    rig.run_forked("submit_batch", str(path))


def test_jobs_wait_for_whole_batches_and_no_circle_can_come_of_it(rig: Rig) -> None:
    submit_batch(rig, "fine", "true")
    submit_batch(rig, "broken", "false")
    after, failed, never = (
        submit(rig, *words, "true")
        for words in (
            ("--after", "fine"),
            ("--after", "fine", "--after-failed", "batch:broken"),
            ("--after", "broken"),
        )
    )
    assert rig.show(after)["held_reason"] == "dependent on batch fine"
    assert rig.explain(after)[0]["causes"][0]["cause"] == "dependent"
    # A batch grows: a job of it that waits for it, or for what waits for it, would never run.
    script = rig.home.parent / "script"
    for words in ("fine", after):
        script.write_text(f"#!/bin/sh\n#JJ batch = fine\n#JJ run_command = true\n#JJ after = {words}\n")
        script.chmod(0o755)
        refused = rig.run_forked("jobjar", "submit", "-f", str(script), check=False)
        assert "a job of batch fine would wait for that batch itself, and never run" in refused.stderr
    script.write_text("#!/bin/sh\n#JJ batch = fine\n#JJ run_command = true\n#JJ after = broken\n")
    member = rig.run_forked("jobjar", "submit", "-f", str(script)).stdout.strip()
    assert "dependent" in rig.run_forked("batch_status", "fine").stdout
    rig.run_until_idle()
    assert states(rig, member, never) == ["cancelled", "cancelled"]
    # With the member that was cancelled the batch has not succeeded.
    assert states(rig, after, failed) == ["cancelled", "cancelled"]
    assert message(rig, after) == "its prerequisite batch fine did not succeed in all its jobs"
    rig.run_forked("abort_batch", "--restart", "fine")
    again = submit(rig, "--after", "fine", "--after-failed", "broken", "true")
    assert states(rig, again) == ["dependent"]
    rig.run_until_idle()
    assert states(rig, again) == ["succeeded"]
    submit_batch(rig, "aborted", "true")
    last = submit(rig, "--after-any", "aborted", "true")
    rig.run_forked("abort_batch", "aborted")
    assert states(rig, last) == ["unclaimed"]
    rig.assert_clean()


def test_the_library_and_scripts_say_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)
    jobjar.set_home(str(rig.home))
    first = jobjar.submit(["true"], scratch=True)
    second = jobjar.submit("true", scratch=True, after=first, hold=False)
    name = jobjar.submit_job("true", after=[first, second], after_any=second)
    names = jobjar.submit_jobs([{"command": "true", "after_failed": first} for _ in range(3)])
    script = f"#!/bin/sh\n#JJ after = {first} {second}\n#JJ after = {second}\ntrue\n"
    third = jobjar.submit(script=script, after=first, after_any=name, scratch=True)
    jobs = jobjar.list_jobs(state="dependent")
    assert len(jobs) == 6 and {job.state for job in jobs} == {"limbo"}
    waits_for = {(one["kind"], one["job"], one["state"]) for one in rig.show(third)["prerequisites"]}
    assert waits_for == {
        ("after", first, "unclaimed"),
        ("after", second, "limbo"),
        ("after_any", str(jobjar.job(name).id), "limbo"),
    }
    assert f"after {first} (unclaimed), " in rig.run_forked("jobjar", "show", third).stdout
    for after, error in (("nosuch", UnknownTarget), ([], BadScript)):
        with pytest.raises(error):
            jobjar.submit("true", scratch=True, after=after)
    rig.run_until_idle()
    assert {jobjar.job(one).outcome for one in names} == {"cancelled"}
    assert [jobjar.job(one).outcome for one in (name, third)] == ["succeeded", "succeeded"]
    done = jobjar.retry(first, with_dependents=True)
    assert len(done.jobs) == 4 and {jobjar.job(one).state for one in names} == {"limbo"}
    jobjar.cancel(first)  # so it has not succeeded
    assert {jobjar.job(one).state for one in names} == {"unclaimed"}
    rig.assert_clean()


def test_a_file_that_a_hand_drops_waits_for_what_its_lines_say(rig: Rig, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = submit(rig, "--name", "first", f"echo first >> {log}")
    for name, lines in (
        ("waits", "#JJ after = first"),
        ("held", f"#JJ after = {first}\n#JJ hold = yes"),
        ("wrong", "#JJ after = nosuch"),
        ("described", f"#JJ run_command = echo described >> {log}\n#JJ after = {first}"),
    ):
        rig.drop(f"{name}.5", f"#!/bin/sh\n{lines}\necho {name} >> {log}\n")
    rig.run_until_idle()
    assert log.read_text().split()[0] == "first" and sorted(log.read_text().split()[1:]) == ["described", "waits"]
    assert [move["reason"] for move in rig.show("waits.5")["moves"]] == [
        *("found", "held", "released", "claimed", "completed"),
    ]
    assert rig.show("waits.5")["prerequisites"][0]["job"] == first
    assert states(rig, "held.5") == ["held"]
    assert "after: nosuch: no job of this name or id" in rig.show("wrong.5")["held_reason"]
    steer(rig, "release", "held.5")
    rig.assert_clean()
    rig.run_until_idle()
    assert states(rig, "held.5") == ["succeeded"]
    rig.assert_clean()
