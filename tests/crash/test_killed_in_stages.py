"""A worker that is killed before and after each of its writes while it works on described jobs: they are recovered and committed
once, nothing is stored twice or under two names, and what was submitted elsewhere is not submitted again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.crash.case import Case, Step, kill_everywhere
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Nursery
from tests.described_jobs import script

# What differs from one run of a job to the next: of files from two runs one would be refused.
_OUTPUTS = "mkdir -p output/deep; date +%N > output/a; echo $JJ_ATTEMPT > output/deep/b"


def drop(case: Case, name: str = "job", **said: object) -> None:
    """A described job, put there by hand."""
    (case.directory / "input").write_text("input\n")
    written = case.home / "limbo" / name
    written.write_text(script(**{"retry_delay": "0", "retries": 9, **said}))
    written.chmod(0o755)
    written.rename(case.home / "unclaimed" / name)
    case.dropped.append(name)
    case.do("recover")


def a_job_of_all_stages(case: Case) -> None:
    package = case.directory / "package"
    (package / "package").mkdir(parents=True)
    (package / "package" / "setup.sh").write_text("READY=yes\n")
    drop(
        case,
        software=package,
        input_files=f"{case.directory}/input",
        stage_in_command="cat input",
        run_command=case.command(f"[ $READY = yes ] && echo n = 1 > jug_monitor.vars && {_OUTPUTS}"),
        stage_out_command="test -s output/a",
        output_path="out",
    )


def a_job_to_publish(case: Case) -> None:
    drop(case, run_command=case.command(_OUTPUTS), storage_class="tape", output_path="out")
    case.workers = ["work", "store"]


def a_published_job(case: Case) -> None:
    a_job_to_publish(case)
    case.do("work")


def a_job_that_fails_first(case: Case) -> None:
    mark = case.directory / "failed"
    drop(
        case,
        run_command=case.command(_OUTPUTS),
        stage_out_command=f"test -e {mark} || {{ touch {mark}; exit 3; }}",
        output_path="out",
    )


def a_job_that_fails(case: Case) -> None:
    drop(case, run_command=case.command(f"{_OUTPUTS}; exit 3"), retries=1, err_output_path="out")


def a_polled_job(case: Case) -> None:
    """Submitted elsewhere: here, to a file; it is finished when it was asked for twice."""
    polls = case.directory / "polls"
    ask = f"echo polled >> {polls}; [ $(grep -c . {polls}) -lt 2 ] || echo finished = 1 > jug_polling.vars"
    drop(
        case,
        run_command=case.command(f"echo submitted >> {case.directory}/queue; {_OUTPUTS}"),
        polling_command=ask,
        polling_time="0.02",
        output_path="out",
    )


def two_jobs_at_once(case: Case) -> None:
    for number in range(2):
        drop(
            case,
            f"job{number}",
            run_command=case.command(_OUTPUTS),
            stage_in_command="true",
            output_path=f"out{number}",
        )


def note_submissions(case: Case) -> None:
    """After the crash: how often the job was submitted, where its state says that it was."""
    has_state = any(case.home.glob("underway/*/*/state.json"))
    case.submissions = count_submissions(case) if has_state else None  # type: ignore[attr-defined]


def count_submissions(case: Case) -> int:
    queue = case.directory / "queue"
    return len(queue.read_text().splitlines()) if queue.exists() else 0


def assert_not_submitted_again(case: Case) -> None:
    before = getattr(case, "submissions", None)
    assert before is None or count_submissions(case) == before, "submitted again"
    assert_stored_once(case)


def assert_stored_once(case: Case) -> None:
    """What was journaled as stored last is what there is, and there is nothing else; nothing is left underway."""
    seen = case.do("look").result
    final = {(e["job"], e["attempt"]) for e in seen["entries"] if e["entry"] == "ended" and e["final"]}
    stored = {
        entry["storage_hfn"].partition(":")[2]: entry["storage_md5"]
        for entry in seen["entries"]
        if entry["entry"] == "stored" and (entry["job"], entry["attempt"]) in final
    }
    storage = case.home / "storage"
    found = {
        str(path): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in storage.rglob("*")
        if path.is_file()
    }
    assert found == stored
    assert len(found) == 2 * len(case.dropped), sorted(found)
    assert list((case.home / "underway").iterdir()) == []
    scratch = list(case.home.glob("workers/*/scratch/*"))
    assert scratch == []


CASES: list[tuple[Step, str, int]] = [
    (a_job_of_all_stages, "work", 2),
    (a_job_to_publish, "work", 2),
    (a_published_job, "store", 1),
    (a_job_that_fails_first, "work", 2),
    (a_job_that_fails, "work", 2),
    (a_polled_job, "work", 1),
    (two_jobs_at_once, "work", 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("prepare", "scenario", "step"), CASES)
def test_a_worker_may_be_killed_at_every_write_of_every_stage(
    nursery: Nursery, template: Path, tmp_path: Path, prepare: Step, scenario: str, step: int
) -> None:
    killed = kill_everywhere(
        nursery, template, tmp_path, prepare, scenario, step, heal=note_submissions, then=assert_not_submitted_again
    )
    assert killed > 10


def test_a_worker_is_killed_at_some_writes_of_some_stages(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    kill_everywhere(nursery, template, tmp_path, a_polled_job, "work", 23, note_submissions, assert_not_submitted_again)


@pytest.mark.parametrize(
    ("match", "when"),
    [
        ("^rename .*state.json", BEFORE),
        ("^rename .*state.json", AFTER),
        ("^rename .*/output .*underway", AFTER),
        ("^renameat2 .*STORAGE-tape", BEFORE),
        ("^renameat2 .*STORAGE-tape", AFTER),
    ],
)
def test_a_worker_is_killed_between_publishing_and_the_commit(
    nursery: Nursery, template: Path, tmp_path: Path, match: str, when: str
) -> None:
    case = Case(nursery, template, tmp_path / "case")
    a_job_to_publish(case)
    assert case.do("work", Plan(match=match, when=when)).killed
    is_published = any(case.home.glob("underway/*/*/output"))
    case.assert_recovered_and_done()
    assert_stored_once(case)
    assert case.runs()["job"] == (1 if is_published else 2)
