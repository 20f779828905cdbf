from __future__ import annotations

import pytest

from jobjar.layout import (
    Layout,
    category_of_place,
    held_place,
    name_in_place,
    state_of_place,
    unclaimed_place,
    worker_of_place,
)


@pytest.mark.parametrize(
    ("place", "state", "category", "worker"),
    [
        ("limbo/x.5", "limbo", None, None),
        ("unclaimed/x.5", "unclaimed", "", None),
        ("unclaimed/LINUX/x.5", "unclaimed", "LINUX", None),
        ("workers/rain.7/jobs/x.5", "claimed", "", "rain.7"),
        ("workers/rain.7/jobs/LINUX/x.5", "claimed", "LINUX", "rain.7"),
        ("workers/rain.7~abc/jobs/LINUX/x.5", "claimed", "LINUX", "rain.7~abc"),
        ("completed/x.5", "completed", None, None),
    ],
)
def test_a_place_tells_state_category_worker_and_name(
    place: str, state: str, category: str | None, worker: str | None
) -> None:
    assert state_of_place(place) == state
    assert category_of_place(place) == category
    assert worker_of_place(place) == worker
    assert name_in_place(place) == "x.5"


@pytest.mark.parametrize("category", ["", "LINUX"])
def test_a_place_that_was_put_together_comes_apart_again(category: str) -> None:
    for place in (unclaimed_place(category, "x.5"), held_place("rain.7", category, "x.5")):
        assert category_of_place(place) == category
        assert name_in_place(place) == "x.5"
    assert worker_of_place(held_place("rain.7", category, "x.5")) == "rain.7"


def test_a_place_is_found_in_the_jar() -> None:
    layout = Layout("/jar")
    assert layout.path("unclaimed/LINUX/x") == f"{layout.category_directory('LINUX')}/x" == "/jar/unclaimed/LINUX/x"
    assert layout.path("completed/x") == f"{layout.completed}/x" == "/jar/completed/x"
    assert layout.path("limbo/x") == f"{layout.limbo}/x"
    assert layout.path(held_place("rain.7", "", "x")) == f"{layout.worker('rain.7').jobs}/x"


def test_the_uncategorized_jobs_lie_in_unclaimed_itself() -> None:
    layout = Layout("/jar")
    assert layout.category_directory("") == layout.unclaimed == "/jar/unclaimed"


def test_a_worker_home_elsewhere_moves_what_is_of_workers_and_nothing_else() -> None:
    here, elsewhere = Layout("/jar"), Layout("/jar", "/big/workers")
    assert elsewhere.path("workers/rain.7/jobs/x") == "/big/workers/rain.7/jobs/x"
    assert elsewhere.worker("rain.7").log == "/big/workers/rain.7/worker.log"
    assert elsewhere.stop_all_file == "/big/workers/STOP_ALL"
    assert elsewhere.pause_all_file == "/big/workers/PAUSE_ALL"
    for place in ("unclaimed/x", "unclaimed/LINUX/x", "completed/x", "limbo/x"):
        assert elsewhere.path(place) == here.path(place)
    assert elsewhere.journals == here.journals


def test_every_directory_of_a_jar_comes_after_its_parent() -> None:
    directories = Layout("/jar").directories()
    for number, directory in enumerate(directories[1:], 1):
        assert directory.rpartition("/")[0] in directories[:number]
