"""What a file says of a job that nobody submitted by a program stands at each of its claims, whatever came before."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobjar.ledger.fold import journal_paths
from tests.described_jobs import make_package, outcome, script
from tests.rig import Rig, wait_until


def named_by_hand(rig: Rig, text: str, category: str = "") -> str:
    """Move a job in by hand under a name of `unique_job_name`, as the guide says."""
    name = Path(rig.run("unique_job_name").stdout.strip()).name
    rig.drop(name, text, category)
    return name


def lose_submissions(rig: Rig) -> None:
    """Tear the `submitted` entries of all journals, as a damaged disk does."""
    for path in map(Path, journal_paths(rig.open().layout)):
        path.write_text("".join("torn\n" if '"submitted_at"' in line else line for line in path.open()))
    rig.run("jobjar", "rebuild")


@pytest.mark.parametrize("is_lost", [False, True], ids=["named by unique_job_name", "submission lost"])
def test_a_described_job_is_one_at_each_claim_and_its_outputs_are_stored(
    rig: Rig, tmp_path: Path, is_lost: bool
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    text = script(run_command="echo a > output/a", storage_class="tape", batch="b", retries=3)
    if is_lost:
        (tmp_path / "job").write_text(text)
        (tmp_path / "job").chmod(0o755)
        name = rig.submit("-f", str(tmp_path / "job"))
        lose_submissions(rig)
    else:
        name = named_by_hand(rig, text)
    worker = rig.start_worker()
    wait_until(lambda: rig.names("unclaimed/STORAGE-tape") == [name], "the job to be published")
    rig.stop_worker(worker)
    rig.assert_clean()
    rig.run_until_idle("--storage", "tape", JJ_STORAGE_PATH=str(place))
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    shown = rig.show(name)
    assert (shown["batch"], shown["retries"]) == ("b", 3)
    assert [path.read_text() for path in place.rglob("a")] == ["a\n"]
    rig.assert_clean()
    rig.run("jobjar", "rebuild")
    assert rig.show(name)["batch"] == "b"


def test_retries_of_a_plain_one_count_at_each_claim(rig: Rig, tmp_path: Path) -> None:
    text = f"#!/bin/sh\n#JJ retries = 2\n#JJ retry_delay = 0\necho $JJ_ATTEMPT >> {tmp_path}/log; exit 1\n"
    name = named_by_hand(rig, text)
    rig.status()
    rig.run_until_idle()
    assert (tmp_path / "log").read_text().split() == ["1", "2", "3"]
    assert rig.show(name)["retries"] == 2
    rig.assert_clean()


def test_one_that_was_held_and_corrected_is_read_again(rig: Rig, tmp_path: Path) -> None:
    command = f"echo $JJ_ATTEMPT >> {tmp_path}/log; exit 1"
    text = script(retries="many", retry_delay=0, batch="b", run_command=command)
    name = named_by_hand(rig, text)
    rig.run_until_idle()
    held = rig.home / "limbo" / name
    held.write_text(text.replace("many", "1"))
    rig.assert_clean()
    held.rename(rig.home / "unclaimed" / name)
    rig.run_until_idle()
    assert (tmp_path / "log").read_text().split() == ["1", "2"]
    assert (rig.show(name)["retries"], rig.show(name)["batch"]) == (1, "b")
    rig.assert_clean()


def test_published_files_of_a_job_that_was_completed_unstored_are_kept_and_named_once(rig: Rig) -> None:
    name = named_by_hand(rig, script(run_command="echo a > output/a", storage_class="tape"))
    worker = rig.start_worker()
    wait_until(lambda: rig.names("unclaimed/STORAGE-tape") == [name], "the job to be published")
    rig.stop_worker(worker)
    # As an earlier release did that took it for a plain job, and a person does who gives it up.
    (rig.home / "unclaimed" / "STORAGE-tape" / name).rename(rig.home / "completed" / name)
    said = rig.run("recover_jobs").stdout
    assert "was completed before these files were stored" in said
    assert "was completed before" not in rig.run("recover_jobs").stdout
    assert [path.read_text() for path in rig.home.glob("underway/*/*/output/a")] == ["a\n"]


def test_what_a_killed_job_published_is_kept(rig: Rig, tmp_path: Path) -> None:
    package = make_package(
        tmp_path / "package",
        bin__keep=f"#!/bin/sh\ntouch {tmp_path}/begun; exec sleep 600\n",
        package__commands="storage_command = $1/bin/keep\n",
    )
    name = named_by_hand(rig, script(run_command="echo a > output/a", storage_class="tape"))
    rig.start_worker()
    wait_until(lambda: rig.names("unclaimed/STORAGE-tape") == [name], "the job to be published")
    rig.start_worker("--storage", "tape", JJ_STORAGE_SOFTWARE=str(package))
    wait_until((tmp_path / "begun").exists, "storing")
    rig.run("jobjar", "kill", name)
    wait_until(lambda: rig.show(name)["state"] == "completed", "its end")
    rig.run("recover_jobs")
    assert [path.read_text() for path in rig.home.glob("underway/*/*/output/a")] == ["a\n"]
    assert "the published files are kept in" in rig.show(name)["attempts"][-1]["message"]
