"""Which jobs a person means: words that name jobs, and filters, against what the ledger has."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobjar.errors import AmbiguousJob, JarError, NothingSelected, OthersJob, UnknownBatch, UnknownJob, UsageError
from jobjar.host import login, node_name
from jobjar.jar import Jar
from jobjar.job_file.names import identifier_in_name
from jobjar.ledger.ask_selected import Filters, jobs_of_filters, latest_of_submitter, selection_queries
from jobjar.reports.refresh import refresh_ledger
from jobjar.selecting.named import find_job
from jobjar.selecting.select import select_jobs, select_jobs_to_change
from jobjar.selecting.selection import make_selection
from tests.journaled_jobs import OTHER_WORKER, WORKER, DescribedJob, journal_batch
from tests.rig import Rig

OPEN = ["running-ann", "held", "waiting-ann", "waits", "by-hand"]
ENDED = ["failed-ann", "test", "train-2", "train-1"]


@pytest.fixture
def jar(rig: Rig) -> Jar:
    """A jar with jobs in each state: this user's, which are plain, and ann's, of the batch `wc`; one more was removed."""
    for word, command in (("train-1", "true"), ("train-2", "exit 3"), ("test", "exit 4")):
        rig.submit("--id", word, "-c", "RUN", command)
    rig.run_until_idle("RUN")
    names = {word: rig.submit("--id", word, "-c", "LATER", "true") for word in ("waits", "held", "gone")}
    rig.drop("by-hand", "#!/bin/sh\n", "LATER")
    jar = rig.open()
    refresh_ledger(jar)
    (rig.home / "unclaimed/LATER" / names["held"]).rename(rig.home / "limbo" / names["held"])
    (rig.home / "unclaimed/LATER" / names["gone"]).unlink()
    journal_batch(jar, "wc")
    for seed, who in enumerate((None, WORKER, OTHER_WORKER)):
        job = DescribedJob(jar, "wc", seed, time.time() + 1000)
        if who is not None:
            job.claim(who)
        if who is OTHER_WORKER:
            job.complete("failed", exit_status=9)
    refresh_ledger(jar)
    return jar


def word_of(job: Any) -> str:
    """A job's identifier; what it does and its submitter where that has none; else its name."""
    states = {"claimed": "running", "unclaimed": "waiting"}
    identifier = identifier_in_name(job.name, job.submitter)
    return f"{job.outcome or states[job.state]}-{job.submitter}" if identifier == "" else identifier or job.name


def select(jar: Jar, *words: str, **filters: Any) -> list[str]:
    return [word_of(job) for job in select_jobs(jar, make_selection(words, **filters))]


def test_filters_select_what_fits_them_in_the_order_of_states(jar: Jar) -> None:
    middle = max(job.submitted_at or 0.0 for job in select_jobs(jar, make_selection(submitter=login()))) + 100
    everything = [*OPEN, *ENDED]
    assert select(jar) == everything
    for filters, expected in (
        ({"state": "waiting"}, ["waiting-ann", "waits", "by-hand"]),
        ({"state": ["running", "held"]}, ["running-ann"]),
        ({"state": "limbo"}, ["held"]),
        ({"state": "running,ended"}, ["running-ann", *ENDED]),
        ({"state": "removed"}, ["gone"]),
        ({"outcome": "failed"}, ["failed-ann", "test", "train-2"]),
        ({"outcome": ["succeeded", "unknown"]}, ["train-1"]),
        ({"exit_status": [3, "4,9"]}, ["failed-ann", "test", "train-2"]),
        ({"category": "RUN"}, ["test", "train-2", "train-1"]),
        ({"category": ""}, ["running-ann", "waiting-ann", "failed-ann"]),
        ({"batch": "wc"}, ["running-ann", "waiting-ann", "failed-ann"]),
        ({"submitter": "ann", "state": "ended"}, ["failed-ann"]),
        ({"submitter": login()}, ["held", "waits", "by-hand", "test", "train-2", "train-1"]),
        ({"submitter": "*"}, everything),
        ({"name": "train-*"}, ["train-2", "train-1"]),
        ({"name": ["by-?and", "*-ann.0"]}, ["running-ann", "waiting-ann", "by-hand", "failed-ann"]),
        ({"name": "*aits", "state": "waiting"}, ["waits"]),
        ({"since": middle}, ["running-ann", "waiting-ann", "failed-ann"]),
        ({"until": middle, "state": "ended"}, ["test", "train-2", "train-1"]),
        ({"worker": "rain.7"}, ["running-ann"]),
        ({"node": ["sun", "rain"]}, ["running-ann", "failed-ann"]),
        ({"node": node_name()}, ["test", "train-2", "train-1"]),
        ({"node": node_name(), "outcome": "failed", "name": "t*"}, ["test", "train-2"]),
    ):
        assert select(jar, **filters) == expected, filters
    # So many, and the query asks for no more.
    assert [word_of(job) for job in jobs_of_filters(jar.ledger.connection, Filters(), 7)] == everything[:7]
    # A rebuilt ledger selects the same.
    jar.use_private_ledger(from_copy=False)
    refresh_ledger(jar)
    assert sorted(select(jar)) == sorted(everything)


def test_words_name_jobs_in_each_way(jar: Jar) -> None:
    one = find_job(jar, "train-1")
    uid, name = str(one.uid), one.name
    for word in (uid, uid.upper()[:11] + uid[11:], name, one.place, f"{jar.layout.home}/{one.place}"):
        assert select(jar, word) == ["train-1"], word
    # The removed one was the last; what a hand put there has no time in its name.
    assert [word_of(find_job(jar, f"@{number}")) for number in range(1, 7)] == [
        *("gone", "held", "waits", "test", "train-2", "train-1")
    ]
    assert select(jar, "@6", "by-hand", "train-*", "by-hand") == ["train-1", "by-hand", "train-2"]
    assert select(jar, "@2", "train-*", outcome="failed") == ["train-2"]
    assert select(jar, "*-ann.0", state="running") == ["running-ann"]
    assert latest_of_submitter(jar.ledger.connection, "ann", 3) and not latest_of_submitter(
        jar.ledger.connection, "ann", 4
    )
    hints = {
        "trian-1": f"did you mean train-1 ({uid})?",
        uid[:-2] + "zz": "did you mean ",
        "@7": f"{login()} has not submitted so many jobs here",
        "no*such": "`jobjar list` lists them",
        "@0": "`jobjar list` lists them",
        "": "`jobjar list` lists them",
        "x\udcff": "`jobjar list` lists them",
    }
    for word, hint in hints.items():
        with pytest.raises(UnknownJob) as caught:
            select(jar, word, "train-1")
        assert hint in str(caught.value), word
    with pytest.raises(AmbiguousJob, match="names 2 jobs"):
        jar.ledger.connection.execute(
            "UPDATE job SET name = replace(name, '-train-2.', '-train-1.') WHERE name LIKE '%-train-2.%'"
        )
        select(jar, "train-1")


def test_what_changes_jobs_is_about_one_s_own_and_says_whose_the_others_are(jar: Jar) -> None:
    def change(*words: str, **filters: Any) -> tuple[list[str], list[JarError]]:
        jobs, errors = select_jobs_to_change(jar, make_selection(words, **filters))
        return [word_of(job) for job in jobs], errors

    with pytest.raises(UsageError, match="--all"):
        change()
    with pytest.raises(UsageError, match="--all"):
        change(submitter="ann")
    assert change(is_all=True, state="waiting")[0] == ["waits", "by-hand"]
    assert change(is_all=True, state="waiting", submitter="*")[0] == ["waiting-ann", "waits", "by-hand"]
    assert change(state="running", submitter="ann") == (["running-ann"], [])
    jobs, errors = change("waits", "nothing", "*-ann.0", "by-hand", state="waiting")
    assert jobs == ["waits", "by-hand"]
    assert [type(error) for error in errors] == [UnknownJob, OthersJob]
    assert "--submitter ann takes" in str(errors[1])
    with pytest.raises(NothingSelected, match="; 1 of ann would; --submitter takes those of others"):
        change(state="running")


def test_filters_that_nothing_fits_are_an_error_that_helps(jar: Jar) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"category": "RUNN"}, "no job fits --category RUNN; there is no category 'RUNN'; did you mean RUN?"),
        ({"category": "RUN", "state": "waiting"}, "no job fits --state waiting --category RUN"),
        ({"submitter": "anne"}, "no job fits --submitter anne; no job is of anne; did you mean ann?"),
        ({"node": "rain.7", "exit_status": 3}, "no job fits --node rain.7 --exit-status 3"),
        ({"name": "[", "since": "1h"}, "no job fits --name [ --since"),
        ({"words": "waits", "state": "ended"}, "no job fits --state ended among waits"),
        ({"batch": "cw"}, "there is no batch cw"),
    ]
    for filters, said in cases:
        with pytest.raises((NothingSelected, UnknownBatch)) as caught:
            select_jobs(jar, make_selection(**filters))
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"state": "runing"}, "there is no state 'runing', did you mean running?"),
        ({"outcome": "fail"}, "there is no outcome 'fail', did you mean failed?; it is one of: succeeded"),
        ({"exit_status": "three"}, "'three' is not a number of 0 to 255"),
        ({"exit_status": "-1"}, "is not a number"),
        ({"since": "soon"}, "--since: 'soon' is neither so long ago"),
        ({"since": "1h", "until": "2h"}, "--since is not before --until"),
        ({"sate": "running"}, "there is no filter 'sate', did you mean state?"),
    ],
)
def test_values_that_are_none_are_refused(filters: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_selection(**filters)
    assert said in str(caught.value)


def test_a_page_of_a_large_jar_reads_no_table_from_end_to_end(rig: Rig) -> None:
    rig.submit("-c", "LINUX", "--id", "train-1", "true")
    jar = rig.open()
    refresh_ledger(jar)
    connection = jar.ledger.connection

    def plans(*, limit: int = 1, **filters: Any) -> list[str]:
        selected = make_selection(**filters).filters
        return [
            step
            for query, values in selection_queries(connection, selected)
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {query} LIMIT {limit}", values)
        ]

    for filters in (
        {},
        {"category": "LINUX"},
        {"category": "NONE"},
        {"name": "train*"},
        {"since": 5.0},
        {"batch": "wc"},
        {"state": "waiting", "submitter": "ann"},
    ):
        steps = plans(**filters)
        # The index of ended attempts is read from its end as far as the limit; the other has what hands did.
        scans = [step for step in steps if step.startswith("SCAN") and not step.endswith(("ended", "_by_hand"))]
        assert scans == [] and bool(steps) == (filters.get("category") != "NONE"), steps
