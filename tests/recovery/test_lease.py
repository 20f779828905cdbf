"""Leases in one process: what counts as standing still, and the fence, forced step by step."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.attempts.attempt import LOST, STRANDED, SUCCEEDED, AttemptEnd, ClaimedJob, Claimer
from jobjar.attempts.verdict import Verdict, decide
from jobjar.hearing import Hearing
from jobjar.host import login
from jobjar.ledger.apply import apply_entry
from jobjar.ledger.migrate import migrate
from jobjar.ledger.rebuild import fill_ledger
from jobjar.ledger.store import driver
from jobjar.recovery import recover
from jobjar.recovery.lease import HeartbeatWatch, Holder, Leases, find_holders, recover_expired
from jobjar.recovery.recover import Recovery
from jobjar.reports.jobs import find_output
from jobjar.reports.refresh import refresh_ledger
from jobjar.roster import WorkerState, read_worker
from jobjar.selecting.named import find_job
from jobjar.selecting.selection import make_selection
from jobjar.settings.layers import heartbeat_interval_s, load_settings
from jobjar.stages import complete
from jobjar.stages.complete import Ending, WhileRefused, entry_of_end
from jobjar.stages.submit import describe_command, submit
from jobjar.steering import cancel
from jobjar.steering.steer import steer
from tests.race.test_lost_races import before, claim_next, entries, finish, make_claimer
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.slow

LEASE_S = 80.0  # of which each pair of looks counts for at most 10
BEAT = 1_000


class Look:
    """Drives a HeartbeatWatch: the clocks go as they are told."""

    def __init__(self) -> None:
        self.watch = HeartbeatWatch(LEASE_S)
        self.server = 5e9
        self.own = 100.0

    def after(self, own_s: float, server_s: float | None = None, beat: int = BEAT, takes_s: float = 0.0) -> float:
        """Look again after so many seconds of each clock; returns for how long the heartbeat stood still."""
        self.own += own_s
        self.server += own_s if server_s is None else server_s
        self.watch.observe({"w": beat}, self.server, self.own, self.own + takes_s)
        self.own += takes_s
        return self.watch.still_s("w")


def test_a_heartbeat_that_stands_still_is_counted_from_the_first_look_at_it() -> None:
    look = Look()
    assert [look.after(8) for _ in range(5)] == [0, 8, 16, 24, 32]


def test_a_heartbeat_that_moves_counts_from_nothing_again_forwards_or_backwards() -> None:
    look = Look()
    assert [look.after(8, beat=beat) for beat in (5, 5, 6, 6, 4, 4)] == [0, 8, 0, 8, 0, 8]


def test_a_server_whose_clock_stands_still_or_goes_back_takes_nobody_s_lease() -> None:
    look = Look()
    look.after(8)
    assert [look.after(8, server_s=0) for _ in range(50)] == [0] * 50
    assert [look.after(8, server_s=-3600) for _ in range(50)] == [0] * 50
    assert look.after(8) == 8


def test_a_server_whose_clock_jumps_forward_counts_for_no_more_than_what_passed_here() -> None:
    look = Look()
    look.after(8)
    assert look.after(2, server_s=3600) == 2


def test_an_observer_that_was_stopped_for_hours_counts_at_most_an_eighth_of_a_lease() -> None:
    look = Look()
    look.after(8)
    assert look.after(7200) == LEASE_S / 8
    assert look.after(8) == LEASE_S / 8 + 8


def test_a_server_that_was_away_in_the_middle_of_a_look_counts_for_nothing() -> None:
    look = Look()
    look.after(8, takes_s=3600)
    # Its clock was read before it went away; the heartbeats after.
    assert look.after(1, server_s=3601) == 1


def test_after_an_outage_of_the_server_everybody_has_most_of_a_lease_to_beat_again() -> None:
    look = Look()
    # A worker that beats every quarter of a lease was about to when the server went away.
    while look.after(2) < LEASE_S / 4:
        pass
    assert look.after(86400) <= LEASE_S * 3 / 8


def test_a_worker_that_was_not_seen_in_a_look_is_watched_anew() -> None:
    look = Look()
    look.after(8)
    assert look.after(8) == 8
    look.watch.observe({}, look.server, look.own, look.own)
    assert look.after(8) == 0


def settings_of(**values: str) -> tuple[float, float]:
    settings = load_settings(environment={"JJ_HOME": "/jar", "HOME": "/nobody", **values})
    return settings.lease_time_s, heartbeat_interval_s(settings)


def test_workers_beat_four_times_in_a_lease_at_least() -> None:
    assert settings_of() == (0, 30)
    assert settings_of(JJ_LEASE_TIME="1h") == (3600, 30)
    assert settings_of(JJ_LEASE_TIME="60") == (60, 15)
    assert settings_of(JJ_LEASE_TIME="60", JJ_HEARTBEAT_TIME="5") == (60, 5)


def test_a_lease_of_less_than_a_second_is_refused() -> None:
    from jobjar.errors import ConfigError

    with pytest.raises(ConfigError, match=r"JJ_LEASE_TIME: '0.5' is less than 1 second.*0 turns leases off"):
        settings_of(JJ_LEASE_TIME="0.5")


# With a jar and its files


def make_worker(rig: Rig, name: str, heartbeat_time_s: float = 0.2, **changes: str) -> Claimer:
    """Somebody who claims, and looks like a worker of another node to everybody; it beats when it is told to."""
    rig.environment.update(changes)
    claimer = make_claimer(rig, name)
    Path(claimer.paths.discarded_links).mkdir()
    os.symlink(claimer.paths.jobs, claimer.jar.layout.claimed_alias(name))
    node, _, pid = name.partition(".")
    identity = {
        "worker": name,
        "worker_id": claimer.worker_id,
        "node": node,
        "pid": int(pid),
        "boot_id": "another",
        "process_started": 1.0,
        "heartbeat_time_s": heartbeat_time_s,
    }
    Path(claimer.paths.identity_file).write_text(json.dumps(identity))
    Path(claimer.paths.heartbeat).touch()
    return claimer


def claim(claimer: Claimer) -> ClaimedJob:
    fill_ledger(claimer.jar.ledger)
    job = claim_next(claimer)
    assert job is not None
    return job


def take_back(claimer: Claimer, holder_of: Claimer) -> Recovery:
    """Take back what a worker holds, as one whose lease has run out."""
    recovery = Recovery(claimer.paths.name)
    leases = Leases(claimer.jar, claimer.worker_id, recovery.log, claimer.paths.name)
    [holder] = [holder for holder in leases.look() if holder.worker.worker_id == holder_of.worker_id]
    leases.take_back(holder, recovery)
    return recovery


@pytest.fixture
def leased(rig: Rig) -> Rig:
    rig.environment["JJ_LEASE_TIME"] = "1"
    return rig


def worker_of(claimer: Claimer) -> WorkerState:
    """The worker that it plays, as others see it."""
    worker = read_worker(claimer.jar.layout, claimer.paths.name)
    assert worker is not None
    return worker


def attempts_of(rig: Rig, name: str) -> list[tuple[int, str, str]]:
    return [(attempt["number"], attempt["worker"], attempt["outcome"]) for attempt in rig.show(name)["attempts"]]


def last_move(rig: Rig, name: str) -> tuple[str, str, str]:
    """Why, from where, and by whom a job was moved last."""
    move = rig.show(name)["moves"][-1]
    return move["reason"], move["from"], move["by"]


def test_the_job_of_a_silent_worker_is_returned_and_the_attempt_says_by_whom_and_why(leased: Rig) -> None:
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(silent.jar, describe_command("true"))
    claim(silent)
    said: list[str] = []
    leases = Leases(idle.jar, idle.worker_id, said.append, idle.paths.name)
    wait_until(leases.take_back_expired, "the end of the lease")
    assert leased.names("unclaimed") == [name] and leased.names("workers/rain.7/jobs") == []
    assert [link for link in os.listdir(leased.home / "claimed") if not link.startswith(".")] == []
    assert any("rain.7: returned" in line for line in said)
    [attempt] = leased.show(name)["attempts"]
    assert attempt["outcome"] == STRANDED
    for words in (
        "heartbeat of its worker rain.7 stood still for",
        "JJ_LEASE_TIME 1",
        "taken back by snow.8",
        "1st time",
    ):
        assert words in attempt["message"]
    assert last_move(leased, name) == ("recovered", f"workers/rain.7/jobs/{name}", "snow.8")
    leased.assert_clean()


def test_idle_workers_of_a_node_on_a_network_disk_watch_in_turns_and_together(
    leased: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(silent.jar, describe_command("true"))
    claim(silent)
    looks, asked, look = list[int](), list[int](), Leases.look

    def count_looks(self: Leases) -> list[Holder]:
        looks.append(1)
        return look(self)

    monkeypatch.setattr(Leases, "look", count_looks)

    def is_taken_back() -> bool:
        asked.append(1)
        # Each time another worker, which has not seen a heartbeat yet.
        return Leases(idle.jar, idle.worker_id, print).take_back_expired()

    wait_until(is_taken_back, "the end of the lease")
    assert leased.names("unclaimed") == [name] and 8 <= len(looks) < len(asked)


@pytest.mark.parametrize("seen", ["", "[]", '["another run", 9e99, [1, 1, {}]]', "\0" * 99])
def test_a_worker_that_was_stopped_while_it_looked_or_was_killed_keeps_no_other_from_it(
    leased: Rig, tmp_path: Path, seen: str
) -> None:
    leased.environment["JJ_LEDGER_HOME"] = str(tmp_path / "home")
    silent, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    submit(silent.jar, describe_command("true"))
    claim(silent)
    watch = Path(idle.jar.ledger_home.watch_file)
    watch.write_text(seen)
    leases = Leases(idle.jar, idle.worker_id, print)
    with watch.open() as file:
        if not seen:
            fcntl.flock(file, fcntl.LOCK_EX)
        wait_until(leases.take_back_expired, "the end of the lease")


def test_recover_jobs_says_whom_it_watches_and_takes_back_what_does_not_move(
    leased: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, slow, beating = (make_worker(leased, name) for name in ("rain.7", "hail.7", "snow.7"))
    names = [submit(silent.jar, describe_command("true")) for _ in range(3)]
    for worker in (silent, slow, beating):
        claim(worker)
        os.utime(worker.paths.heartbeat, (1e9, 1e9))
    looks: list[int] = []
    beating_now = [beating]
    look = Leases.look

    def look_while_they_beat(self: Leases) -> list[Holder]:
        looks.append(1)
        if len(looks) == 2:  # before it is asked whether the lease has run out, however late this comes
            beating_now.append(slow)
        for worker in beating_now:
            os.utime(worker.paths.heartbeat)
        return look(self)

    monkeypatch.setattr(Leases, "look", look_while_they_beat)
    recovery, said = Recovery(), list[str]()
    recover_expired(leased.open(), recovery, said.append)
    assert said == ["watching hail.7, rain.7 for 1.0 s"] or said == ["watching rain.7, hail.7 for 1.0 s"]
    assert recovery.returned == 1
    assert leased.names("unclaimed") == [names[0]]
    assert leased.names("workers/hail.7/jobs") == [names[1]]
    assert leased.names("workers/snow.7/jobs") == [names[2]]
    looks.clear()
    recover_expired(leased.open(), recovery, said.append)
    assert len(said) == 1 and len(looks) == 1


def test_a_worker_that_promised_to_beat_seldom_has_a_lease_of_four_beats(leased: Rig) -> None:
    seldom = make_worker(leased, "rain.7", heartbeat_time_s=30)
    submit(seldom.jar, describe_command("true"))
    claim(seldom)
    leases = Leases(leased.open(), "", print)
    [holder] = leases.look()
    assert leases.time_of(holder.worker) == 120


def test_without_leases_nobody_is_watched_and_nobody_s_job_is_touched(rig: Rig) -> None:
    silent, idle = make_worker(rig, "rain.7"), make_worker(rig, "snow.8")
    name = submit(silent.jar, describe_command("true"))
    claim(silent)
    os.utime(silent.paths.heartbeat, (1e9, 1e9))
    said: list[str] = []
    leases = Leases(idle.jar, idle.worker_id, said.append)
    assert not any(leases.take_back_expired() for _ in range(100))
    assert "0 jobs returned, 0 completed" in rig.run("recover_jobs").stdout
    recover_expired(idle.jar, Recovery(), said.append)
    assert said == [] and rig.names("workers/rain.7/jobs") == [name]


@pytest.mark.parametrize("ahead_s", [600.0, -600.0])
def test_a_node_s_own_clock_has_no_part_in_it(leased: Rig, monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    beating = make_worker(leased, "rain.7")
    submit(beating.jar, describe_command("true"))
    claim(beating)
    honest = time.time
    monkeypatch.setattr(time, "time", lambda: honest() + ahead_s)
    said: list[str] = []
    leases = Leases(leased.open(), "", said.append)
    began = time.monotonic()
    while time.monotonic() < began + 1.5:
        os.utime(beating.paths.heartbeat)
        assert not leases.take_back_expired()
    recover_expired(leased.open(), Recovery(), said.append)
    assert said == []
    wait_until(leases.take_back_expired, "the end of the lease of one that beats no more")


def test_a_worker_that_beats_between_the_last_look_and_the_act_keeps_its_job(leased: Rig) -> None:
    late, idle = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(late.jar, describe_command("true"))
    claim(late)
    [holder] = find_holders(idle.jar)
    os.utime(late.paths.heartbeat)
    recovery = Recovery()
    Leases(idle.jar, idle.worker_id, print).take_back(holder, recovery)
    assert recovery.lines == [] and leased.names("workers/rain.7/jobs") == [name]


# The fence


def test_a_worker_that_comes_back_completes_nothing_and_leaves_the_winner_s_link(leased: Rig) -> None:
    old, new = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    lost = claim(old)
    assert take_back(new, old).returned == 1
    won = claim(new)
    assert (won.uid, won.attempt) == (lost.uid, 2)
    link = leased.home / "claimed" / name
    assert os.readlink(link).startswith(".snow.8/")
    held, said = finish(old, lost)
    assert not held and "the lease is lost" in said[0]
    assert os.readlink(link).startswith(".snow.8/")
    # It wrote no outcome that somebody could have taken for the job's.
    assert [entry["outcome"] for entry in entries(old.jar) if entry["entry"] == "ended"] == [STRANDED, LOST]
    assert finish(new, won)[0]
    assert attempts_of(leased, name) == [(1, "rain.7", LOST), (2, "snow.8", SUCCEEDED)]
    assert leased.show(name)["outcome"] == SUCCEEDED
    assert leased.status()["undecided_attempts"] == [{"outcome": LOST, "last_hour": 1, "last_day": 1}]
    leased.assert_clean()


def test_a_worker_that_completes_while_a_recovery_is_about_to_move_its_job_keeps_its_outcome(
    leased: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(slow.jar, describe_command("true"))
    job = claim(slow)
    done: list[bool] = []
    before(recover, "move_ended_job", lambda: done.append(finish(slow, job)[0]), monkeypatch)
    # Both are of one home here: the recovery holds its lock meanwhile.
    monkeypatch.setattr(slow.jar, "_ledger", None)
    assert take_back(other, slow).returned == 0
    assert done == [True]
    assert leased.names("completed") == [name]
    assert leased.show(name)["outcome"] == SUCCEEDED
    assert attempts_of(leased, name) == [(1, "rain.7", SUCCEEDED)]
    leased.assert_clean()


def test_a_job_that_recovery_completed_by_the_worker_s_own_word_is_that_worker_s(
    leased: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(slow.jar, describe_command("true"))
    job = claim(slow)
    recoveries: list[Recovery] = []
    before(complete, "move_ended_job", lambda: recoveries.append(take_back(other, slow)), monkeypatch)
    held, said = finish(slow, job)
    assert recoveries[0].completed == 1
    assert not held and "was completed by recovery" in said[0]
    assert leased.show(name)["outcome"] == SUCCEEDED
    assert attempts_of(leased, name) == [(1, "rain.7", SUCCEEDED)]
    assert last_move(leased, name) == ("completed", f"workers/rain.7/jobs/{name}", "snow.8")
    leased.assert_clean()


def test_a_job_that_crashed_for_the_last_time_stays_crashed_when_its_worker_comes_back(leased: Rig) -> None:
    old, new = make_worker(leased, "rain.7", JJ_CRASH_LIMIT="1"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    job = claim(old)
    assert take_back(new, old).completed == 1
    held, said = finish(old, job)
    assert not held and "was completed by recovery" in said[0]
    assert leased.show(name)["outcome"] == "crashed"
    leased.assert_clean()


def cancel_in_vain(rig: Rig, monkeypatch: pytest.MonkeyPatch, job: str) -> str:
    """Cancel a job whose worker does not answer. Returns what is said of that."""
    monkeypatch.setattr(cancel, "_END_WITHIN_S", -10.0)
    jar = rig.open()
    refresh_ledger(jar)
    [error] = steer(jar, make_selection([job]), cancel.Cancel(login())).errors
    return str(error)


@pytest.mark.parametrize("how", ["its lease runs out", "it is given up"])
def test_a_job_that_was_cancelled_while_its_worker_was_silent_ends_as_cancelled(
    leased: Rig, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    old, new = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    job = claim(old)
    assert "worker rain.7 was asked to end it, and has not yet" in cancel_in_vain(leased, monkeypatch, job.uid)
    if how == "it is given up":
        wait_until(lambda: Hearing(old.jar.layout).beats(worker_of(old)) is False, "its silence")
        assert "0 jobs returned, 1 completed" in leased.run("recover_jobs", "--worker", "rain.7", "--yes").stdout
    else:
        assert take_back(new, old).completed == 1
    held, said = finish(old, job)
    assert not held and "was completed by recovery" in said[0]
    shown = leased.show(name)
    assert (shown["outcome"], shown["attempts"][0]["message"]) == ("cancelled", f"cancelled by {login()}")
    assert len(shown["attempts"]) == 1 and not os.path.exists(old.paths.kill_file(job.uid))
    leased.assert_clean()


@pytest.mark.parametrize("before", ["its claim is journaled", "it goes back"])
def test_a_cancellation_holds_wherever_the_worker_died(
    leased: Rig, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    old, new = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("false", attributes={"retries": "3"}))
    if before == "it goes back":
        job = claim(old)
        ended = entry_of_end(old, Ending(job, AttemptEnd("failed", 1), Verdict.retry(0), old.jar.disk_now()))
        cancel_in_vain(leased, monkeypatch, job.uid)
        old.jar.journal.append([ended])
    else:
        os.rename(f"{leased.home}/unclaimed/{name}", f"{old.paths.jobs}/{name}")
        cancel_in_vain(leased, monkeypatch, name)
    assert take_back(new, old).completed == 1
    ran = [(1, "rain.7", "failed")] if before == "it goes back" else []
    assert attempts_of(leased, name) == [*ran, (len(ran) + 1, "rain.7", "cancelled")]
    leased.assert_clean()


def test_lost_leases_do_not_count_towards_the_crash_limit(leased: Rig) -> None:
    old, new = make_worker(leased, "rain.7", JJ_CRASH_LIMIT="2"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    for _ in range(3):
        job = claim(old)
        assert take_back(new, old).returned == 1
        assert not finish(old, job)[0]
    assert leased.names("unclaimed") == [name]
    assert [outcome for _, _, outcome in attempts_of(leased, name)] == [LOST] * 3
    leased.assert_clean()


def test_a_job_taken_back_before_it_was_run_is_lost_too(leased: Rig) -> None:
    old, new = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    job = claim(old)
    take_back(new, old)
    said: list[str] = []
    with pytest.raises(FileNotFoundError):
        complete.give_back(old, job, "for a test")
    complete.end_unrun(old, job, time.time(), WhileRefused(lambda: False, said.append))
    assert "the lease is lost" in said[0]
    assert attempts_of(leased, name) == [(1, "rain.7", LOST)]


def test_the_winner_s_output_is_shown_although_the_loser_s_attempt_has_the_same_number(leased: Rig) -> None:
    old, new = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(old.jar, describe_command("true"))
    lost = claim(old)
    take_back(new, old)
    won = claim(new)._replace(attempt=lost.attempt)
    for claimer, job in ((new, won), (old, lost)):
        output = f"{name}.{job.attempt}.out"
        Path(f"{claimer.paths.output}/{output}").write_text(f"{claimer.paths.name}\n")
        end = AttemptEnd(SUCCEEDED, 0, None, 0.1, 0.1, 0.1, 1000, output)
        now = time.time() + (claimer is old)
        verdict = decide(job, end, 0, now)
        complete.complete(claimer, Ending(job, end, verdict, now), WhileRefused(lambda: False, lambda line: None))
    jar = leased.open()
    refresh_ledger(jar)
    job_report = find_job(jar, name)

    def output_of(*which: object) -> str:
        path = find_output(jar, job_report, *which)  # type: ignore[arg-type]
        return Path(path).read_text() if path else ""

    assert output_of() == output_of(1) == output_of(None, "snow.8") == "snow.8\n"
    assert output_of(1, "rain.7") == "rain.7\n"
    assert leased.run("jobjar", "output", "--worker", "rain.7", name).stdout == "rain.7\n"
    failed = leased.run("jobjar", "output", "--attempt", "7", "--worker", "rain.7", name, check=False)
    assert failed.returncode == 1 and "it has no attempt 7 by rain.7" in failed.stderr


def test_a_lost_attempt_s_output_is_shown_only_where_it_is_named_or_the_only_one(leased: Rig) -> None:
    dead, back = make_worker(leased, "rain.7"), make_worker(leased, "snow.8")
    name = submit(dead.jar, describe_command("true"))
    claim(dead)
    Path(f"{dead.paths.output}/{name}.1.out").write_text("of the crash\n")
    take_back(back, dead)
    job = claim(back)
    take_back(dead, back)
    output = f"{name}.2.out"
    Path(f"{back.paths.output}/{output}").write_text("of the loser\n")
    end = AttemptEnd(SUCCEEDED, 0, None, 0.1, 0.1, 0.1, 1000, output)
    now = time.time()
    ending = Ending(job, end, decide(job, end, 0, now), now)
    complete.complete(back, ending, WhileRefused(lambda: False, lambda line: None))
    assert [outcome for _, _, outcome in attempts_of(leased, name)] == [STRANDED, LOST]
    assert leased.run("jobjar", "output", name).stdout == "of the crash\n"
    assert leased.run("jobjar", "output", "--attempt", "2", name).stdout == "of the loser\n"


# What entries say of one attempt, in any order: the fence's last word is the one that stands.
def _end(outcome: str, final: bool, at: float) -> dict[str, object]:
    who = {"job": "j", "attempt": 1, "worker": "rain.7", "worker_uid": "w"}
    return {"entry": "ended", **who, "outcome": outcome, "final": final, "ended_at": at}


@pytest.mark.parametrize(
    ("words", "stands"),
    [
        ([("stranded", False, 1.0), ("succeeded", True, 2.0)], ("succeeded", 1)),
        ([("stranded", False, 1.0), ("failed", False, 2.0)], ("failed", 0)),
        ([("crashed", True, 1.0), ("failed", False, 2.0)], ("crashed", 1)),
        ([("crashed", True, 1.0), ("succeeded", True, 2.0)], ("succeeded", 1)),
        ([("stranded", False, 1.0), ("succeeded", True, 2.0), ("lost", False, 3.0)], ("lost", 0)),
        ([("stranded", False, 2.0), ("stranded", False, 1.0)], ("stranded", 0)),
    ],
)
def test_which_word_on_an_attempt_stands(words: list[tuple[str, bool, float]], stands: tuple[str, int]) -> None:
    for some in (words, words[::-1]):
        connection = driver.connect(":memory:", isolation_level=None)
        migrate(connection, ":memory:")
        for word in some:
            apply_entry(connection, _end(*word))
        assert connection.execute("SELECT outcome, is_final FROM attempt").fetchone() == stands


@pytest.mark.slow
@pytest.mark.parametrize(
    "remove",
    [
        lambda path: path.rename(f"{path}~aside"),
        lambda path: os.system(f"rm -r {path}"),
        lambda path: (path / "jobs").rmdir(),  # what a worker that is quick sees of an rm -r that is not
    ],
    ids=["moved", "removed", "half removed"],
)
def test_a_worker_whose_directory_was_taken_away_says_so_and_leaves(rig: Rig, remove: Callable[[Path], object]) -> None:
    rig.environment["JJ_PAUSE_TIME"] = "0.5"
    worker = rig.start_worker()
    [path] = [path for path in (rig.home / "workers").iterdir() if path.is_dir()]
    remove(path)
    name = rig.submit("true")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0 and "was moved or removed" in said and "Traceback" not in said
    # A heartbeat may have come between, so that the directory itself is still there.
    assert rig.names("unclaimed") == [name] and not (path / "jobs").exists()
