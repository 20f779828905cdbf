from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from jobjar.job_file.names import make_name
from jobjar.ledger import reconcile_jar
from jobjar.ledger.difference import Difference
from jobjar.ledger.rebuild import dump_ledger, fill_ledger, open_fresh_in_memory
from jobjar.ledger.reconcile_file import scan_category
from jobjar.ledger.reconcile_jar import Suspects, find_suspects, reconcile, reconcile_in_pieces
from jobjar.recovery.recover import recover_node
from jobjar.shared_disk import listing
from jobjar.stages.submit import describe_command, submit
from tests.rig import Rig, wait_until

SCRIPT = "#!/bin/sh\n"


class Book:
    """A jar's ledger, made to agree with the directories: in one transaction, or a difference at a time."""

    def __init__(self, rig: Rig, in_pieces: bool) -> None:
        self.rig = rig
        self.jar = rig.open()
        self.layout = self.jar.layout
        self.in_pieces = in_pieces

    def reconcile(self) -> list[Difference]:
        """The differences; doing it again finds none, and changes nothing."""
        differences = self._reconcile()
        before = dump_ledger(self.jar.ledger.connection)
        assert self._reconcile() == []
        assert dump_ledger(self.jar.ledger.connection) == before
        return differences

    def _reconcile(self) -> list[Difference]:
        if self.in_pieces:
            return reconcile_in_pieces(self.jar.ledger, self.layout)
        with self.jar.ledger.writing() as connection:
            return reconcile(connection, self.layout)

    def places(self) -> dict[str, str | None]:
        """Origin and id of each job that is somewhere."""
        query = "SELECT place, uid FROM job WHERE state <> 'removed'"
        return dict(self.jar.ledger.connection.execute(query))

    def row(self, place: str) -> dict[str, Any]:
        cursor = self.jar.ledger.connection.execute("SELECT * FROM job WHERE place = ?", (place,))
        (row,) = cursor.fetchall()
        return dict(zip([column[0] for column in cursor.description], row, strict=True))


@pytest.fixture(params=[False, True], ids=["at once", "in pieces"])
def book(rig: Rig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Book:
    monkeypatch.setattr(reconcile_jar, "PIECE", 1)
    return Book(rig, request.param)


def test_a_job_dropped_by_hand_is_found_with_what_its_file_says(rig: Rig, book: Book) -> None:
    file = rig.drop("x.7", SCRIPT, "LINUX")
    assert [difference.kind for difference in book.reconcile()] == ["new"]
    row = book.row("unclaimed/LINUX/x.7")
    assert (row["uid"], row["state"], row["category"], row["priority"]) == (None, "unclaimed", "LINUX", 7)
    assert row["submitted_at"] == pytest.approx(file.stat().st_ctime, abs=1e-5)
    assert row["submitter"] == file.owner()


def test_a_job_moved_by_hand_between_categories_stays_the_same_job(rig: Rig, book: Book) -> None:
    name = rig.submit("-c", "A", "true")
    book.reconcile()
    uid = book.places()[f"unclaimed/A/{name}"]
    for category in ("B", ""):
        target = rig.home / "unclaimed" / category
        target.mkdir(exist_ok=True)
        (source,) = (rig.home / "unclaimed").rglob(name)
        source.rename(target / name)
        (difference,) = book.reconcile()
        assert difference.kind == "moved"
        place = f"unclaimed/{category}/{name}".replace("//", "/")
        assert book.places() == {place: uid}
        assert book.row(place)["category"] == category


def test_a_job_moved_by_hand_to_limbo_and_back_is_held_and_claimable_again(rig: Rig, book: Book) -> None:
    name = rig.submit("true")
    book.reconcile()
    waiting, held = rig.home / "unclaimed" / name, rig.home / "limbo" / name
    waiting.rename(held)
    book.reconcile()
    assert book.row(f"limbo/{name}")["state"] == "limbo"
    held.rename(waiting)
    book.reconcile()
    assert book.row(f"unclaimed/{name}")["state"] == "unclaimed"


def test_a_job_renamed_by_hand_to_another_priority_keeps_its_id_where_its_name_has_it(rig: Rig, book: Book) -> None:
    name = rig.submit("-p", "1", "true")
    book.reconcile()
    uid = book.places()[f"unclaimed/{name}"]
    raised = name.rpartition(".")[0] + ".9"
    (rig.home / "unclaimed" / name).rename(rig.home / "unclaimed" / raised)
    book.reconcile()
    assert book.places() == {f"unclaimed/{raised}": uid}
    assert book.row(f"unclaimed/{raised}")["priority"] == 9


def test_a_removed_job_is_noted_as_removed_and_one_without_an_id_is_forgotten(rig: Rig, book: Book) -> None:
    name = rig.submit("true")
    dropped = rig.drop("x", SCRIPT)
    book.reconcile()
    (rig.home / "unclaimed" / name).unlink()
    dropped.unlink()
    assert [difference.kind for difference in book.reconcile()] == ["gone", "gone"]
    assert book.places() == {}
    assert [row[1] for row in dump_ledger(book.jar.ledger.connection)["removed job"]] == [name]


def test_a_removed_job_that_comes_back_is_the_job_that_it_was(rig: Rig, book: Book) -> None:
    name = rig.submit("true")
    book.reconcile()
    before = book.places()
    waiting = rig.home / "unclaimed" / name
    waiting.rename(rig.home / "elsewhere")
    book.reconcile()
    (rig.home / "elsewhere").rename(waiting)
    book.reconcile()
    assert book.places() == before


def test_two_files_of_one_name_are_two_jobs(rig: Rig, book: Book) -> None:
    for category in ("A", "B", ""):
        rig.drop("x.5", SCRIPT, category)
    book.reconcile()
    assert set(book.places()) == {"unclaimed/A/x.5", "unclaimed/B/x.5", "unclaimed/x.5"}


def test_when_one_of_two_files_of_one_name_moves_the_other_is_still_itself(rig: Rig, book: Book) -> None:
    for category in ("A", "B"):
        rig.drop("x.5", SCRIPT, category)
    book.reconcile()
    rows = {place: book.row(place)["id"] for place in book.places()}
    (rig.home / "unclaimed/C").mkdir()
    (rig.home / "unclaimed/A/x.5").rename(rig.home / "unclaimed/C/x.5")
    (difference,) = book.reconcile()
    assert (difference.kind, difference.was) == ("moved", "unclaimed/A/x.5")
    assert book.row("unclaimed/C/x.5")["id"] == rows["unclaimed/A/x.5"]
    assert book.row("unclaimed/B/x.5")["id"] == rows["unclaimed/B/x.5"]


def test_two_files_of_one_name_that_change_places_are_two_jobs_still(rig: Rig, book: Book) -> None:
    for category in ("A", "B"):
        rig.drop("x.5", SCRIPT, category)
    book.reconcile()
    unclaimed = rig.home / "unclaimed"
    (unclaimed / "A/x.5").rename(rig.home / "x")
    (unclaimed / "B/x.5").rename(unclaimed / "A/x.5")
    (rig.home / "x").rename(unclaimed / "B/x.5")
    book.reconcile()
    assert set(book.places()) == {"unclaimed/A/x.5", "unclaimed/B/x.5"}


def test_a_job_that_got_a_number_where_its_name_was_taken_is_known_by_the_name_without(rig: Rig, book: Book) -> None:
    name = rig.submit("true")
    book.reconcile()
    uid = book.places()[f"unclaimed/{name}"]
    stem, _, priority = name.rpartition(".")
    (rig.home / "unclaimed" / name).rename(rig.home / "completed" / f"{stem}~2.{priority}")
    (difference,) = book.reconcile()
    assert difference.kind == "moved"
    assert book.places() == {f"completed/{stem}~2.{priority}": uid}


def test_a_copy_of_a_job_is_a_new_job_without_the_old_one_s_id(rig: Rig, book: Book) -> None:
    name = rig.submit("true")
    book.reconcile()
    uid = book.places()[f"unclaimed/{name}"]
    copy = rig.drop(name, SCRIPT, "COPY")
    book.reconcile()
    assert book.places() == {f"unclaimed/{name}": uid, f"unclaimed/COPY/{copy.name}": None}


def test_what_is_not_a_job_is_left_out(rig: Rig, book: Book) -> None:
    unclaimed = rig.home / "unclaimed"
    rig.drop("text", "", mode=0o644)
    rig.drop("line\nend", SCRIPT)
    rig.drop(".nfs0001", SCRIPT)
    (unclaimed / "link").symlink_to("/bin/true")
    (unclaimed / "A/deeper").mkdir(parents=True)
    rig.drop("x", SCRIPT, "A/deeper")
    rig.drop("y", SCRIPT, ".hidden")
    assert book.reconcile() == []
    assert book.places() == {}


def test_a_job_gets_its_run_bit_and_is_found(rig: Rig, book: Book) -> None:
    file = rig.drop("x", SCRIPT, mode=0o644)
    assert book.reconcile() == []
    file.chmod(0o755)
    assert [difference.kind for difference in book.reconcile()] == ["new"]


def test_a_file_in_completed_that_nobody_knows_is_taken_in_with_the_id_in_its_name(rig: Rig, book: Book) -> None:
    name = make_name(3)
    rig.drop(name, SCRIPT).rename(rig.home / "completed" / name)
    book.reconcile()
    row = book.row(f"completed/{name}")
    assert (row["uid"], row["state"]) == (name.split("-")[1], "completed")


def test_without_the_completed_jar_jobs_that_completed_are_believed_and_one_moved_there_is_found(
    rig: Rig, book: Book
) -> None:
    names = [rig.submit("true") for _ in range(3)]
    book.reconcile()
    (rig.home / "unclaimed" / names[0]).rename(rig.home / "completed" / names[0])
    with book.jar.ledger.writing() as connection:
        (difference,) = reconcile(connection, book.layout, with_completed=False)
        assert (difference.kind, difference.place) == ("moved", f"completed/{names[0]}")
        (rig.home / "completed" / names[0]).unlink()
        assert reconcile(connection, book.layout, with_completed=False) == []
        (gone,) = reconcile(connection, book.layout)
        assert gone.kind == "gone"


def test_a_scan_of_one_category_finds_what_is_new_there_and_nothing_else(rig: Rig, book: Book) -> None:
    rig.drop("x", SCRIPT, "A")
    rig.drop("y", SCRIPT, "B")
    book.reconcile()
    rig.drop("z", SCRIPT, "A")
    rig.drop("z", SCRIPT, "B")
    (rig.home / "unclaimed/A/x").unlink()
    with book.jar.ledger.writing() as connection:
        assert not scan_category(connection, book.layout, "A")
        assert not scan_category(connection, book.layout, "no such category")
    assert set(book.places()) == {"unclaimed/A/x", "unclaimed/A/z", "unclaimed/B/y"}


def test_a_scan_that_has_no_time_takes_in_what_it_can_and_says_that_there_is_more(rig: Rig, book: Book) -> None:
    for number in range(3):
        rig.drop(f"x{number}", SCRIPT)
    with book.jar.ledger.writing() as connection:
        assert [scan_category(connection, book.layout, "", limit_s=0.0) for _ in range(3)] == [True, True, False]
    assert set(book.places()) == {f"unclaimed/x{number}" for number in range(3)}


def test_after_hand_moves_a_ledger_made_anew_says_the_same(rig: Rig, book: Book) -> None:
    names = [rig.submit("-c", "A", "true") for _ in range(4)]
    rig.drop("x.5", SCRIPT)
    rig.drop("x.5", SCRIPT, "A")
    book.reconcile()
    unclaimed = rig.home / "unclaimed"
    (unclaimed / "A" / names[0]).rename(unclaimed / names[0])
    (unclaimed / "A" / names[1]).unlink()
    (unclaimed / "A" / names[2]).rename(rig.home / "limbo" / names[2])
    (unclaimed / "A/x.5").rename(rig.home / "limbo/x.5")
    book.reconcile()
    anew = open_fresh_in_memory(book.layout)
    live, rebuilt = dump_ledger(book.jar.ledger.connection), dump_ledger(anew)
    anew.close()
    for table in live:
        assert live[table] == rebuilt[table], table


def test_a_directory_that_vanishes_is_an_empty_one(rig: Rig, book: Book) -> None:
    rig.drop("x", SCRIPT, "A")
    book.reconcile()
    os.unlink(rig.home / "unclaimed/A/x")
    os.rmdir(rig.home / "unclaimed/A")
    assert [difference.kind for difference in book.reconcile()] == ["gone"]


@pytest.mark.parametrize("in_pieces", [True, False])
@pytest.mark.parametrize("with_completed", [True, False])
def test_a_job_that_goes_back_while_the_jars_are_listed_is_not_taken_for_removed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, with_completed: bool, in_pieces: bool
) -> None:
    jar = rig.open()
    name = submit(jar, describe_command("true"))
    held = rig.home / "workers" / "rain.7" / "jobs"
    held.mkdir(parents=True)
    (rig.home / "unclaimed" / name).rename(held / name)
    fill_ledger(jar.ledger)
    scan = listing.list_directory

    def go_back(path: str) -> Iterator[os.DirEntry[str]]:
        # Between the listing of unclaimed and that of the worker's jobs.
        if path == jar.layout.workers and (held / name).exists():
            (held / name).rename(rig.home / "unclaimed" / name)
        return scan(path)

    monkeypatch.setattr(listing, "list_directory", go_back)

    def look_twice() -> list[list[Difference]]:
        if in_pieces:
            return [reconcile_in_pieces(jar.ledger, jar.layout, with_completed) for _ in range(2)]
        with jar.ledger.writing() as connection:
            return [reconcile(connection, jar.layout, with_completed) for _ in range(2)]

    none, [difference] = look_twice()
    assert none == []
    assert difference.place == f"unclaimed/{name}"


def test_others_wait_neither_for_a_listing_of_all_jobs_nor_for_the_comparison_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = rig.open()
    names = [submit(jar, describe_command("true")) for _ in range(5)]
    fill_ledger(jar.ledger)
    for name in names[:2]:
        (rig.home / "unclaimed" / name).rename(rig.home / "completed" / name)
    for name in names[2:4]:
        (rig.home / "unclaimed" / name).unlink()
    other = rig.open().ledger_home
    scan, seen = listing.list_directory, []
    find = find_suspects

    def list_unlocked(path: str) -> Iterator[os.DirEntry[str]]:
        with other.locked(0):
            seen.append(path)
        return scan(path)

    def find_unlocked(*words: Any) -> Suspects:
        with other.locked(0):
            seen.append("rows")
        return find(*words)

    monkeypatch.setattr(listing, "list_directory", list_unlocked)
    monkeypatch.setattr(reconcile_jar, "find_suspects", find_unlocked)
    monkeypatch.setattr(reconcile_jar, "PIECE", 1)
    lines = recover_node(jar).lines
    # Listed twice: the second time because there was no file for two of them.
    assert (seen.count(jar.layout.completed), seen.count("rows")) == (2, 1)
    assert sum("the ledger has this job" in line for line in lines) == 2
    assert sum("there is no file" in line for line in lines) == 2


def test_what_is_submitted_and_claimed_while_jars_and_rows_are_compared_is_not_taken_for_removed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = rig.open()
    names = [submit(jar, describe_command("true")) for _ in range(2)]
    removed = submit(jar, describe_command("true", category="NOBODY"))
    fill_ledger(jar.ledger)
    (rig.home / "unclaimed/NOBODY" / removed).unlink()  # so that there is something to look at under the lock
    find = find_suspects

    def between_pieces(*words: Any) -> Suspects:
        found = find(*words)
        names.append(submit(jar, describe_command("true")))
        worker = rig.start_worker()
        wait_until(lambda: len(os.listdir(rig.home / "completed")) == 3, "the end of all jobs")
        rig.stop_worker(worker)
        return found

    monkeypatch.setattr(reconcile_jar, "find_suspects", between_pieces)
    [difference] = reconcile_in_pieces(jar.ledger, jar.layout)
    assert (difference.kind, difference.place) == ("gone", f"unclaimed/NOBODY/{removed}")
    rig.assert_clean()
    assert sorted(os.listdir(rig.home / "completed")) == sorted(names)
