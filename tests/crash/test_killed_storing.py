"""Publishing, storing and tidying up, killed before and after each of their writes, and done again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobjar.layout import Layout
from jobjar.publishing.outputs import list_outputs
from jobjar.publishing.underway import State, attempt_directory, find_state, make_attempt_directory, write_state
from tests.crash.killer import AFTER, BEFORE, Plan
from tests.crash.nursery import Answer, Nursery

FILES = {"a": b"one\n" * 1000, "log/b": b"two", "log/empty": b""}


class Site:
    """A jar with a job, `j0b`, whose attempt is over, in a directory of its own; and where its files are to be stored."""

    def __init__(self, directory: Path, template: Path, is_polled: bool) -> None:
        self.home = directory / "jar"
        shutil.copytree(template, self.home)
        self.layout = Layout(str(self.home))
        self.own = attempt_directory(self.layout, "j0b", 1, "w0rker")
        self.work = Path(self.own) / "work" if is_polled else directory / "scratch"
        if is_polled:
            make_attempt_directory(self.own)
            write_state(self.own, State("poll", "j0b", "the.job", 1, "rain.7", "w0rker", ""))
        for name, content in FILES.items():
            (self.work / "output" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / "output" / name).write_bytes(content)
        self.store = directory / "store"
        self.store.mkdir()

    def publish(self, nursery: Nursery, plan: Plan | None = None) -> Answer:
        return nursery.do(self.home, "publish_outputs", plan, directory=self.own, work=str(self.work))

    def save(self, nursery: Nursery, plan: Plan | None = None) -> Answer:
        return nursery.do(self.home, "store_published", plan, uid="j0b", store=str(self.store))

    def remove(self, nursery: Nursery, plan: Plan | None = None) -> Answer:
        return nursery.do(self.home, "remove_underway", plan, uid="j0b")

    def stored(self) -> dict[str, bytes]:
        """What lies below the storage path, half copies too."""
        found = [path for path in self.store.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(self.store)): path.read_bytes() for path in found}


def plans(points: list[str]) -> Iterator[Plan]:
    assert len(points) > 3
    for number in range(1, len(points) + 1):
        for when in (BEFORE, AFTER):
            yield Plan(number, when)


STORED = {f"run/{name}": content for name, content in FILES.items()}


@pytest.mark.parametrize("is_polled", [False, True])
def test_a_killed_publication_leaves_nothing_or_everything_published_and_is_done_again(
    nursery: Nursery, template: Path, tmp_path: Path, is_polled: bool
) -> None:
    counted = Site(tmp_path / "counted", template, is_polled).publish(nursery, Plan())
    seen = set()
    for number, plan in enumerate(plans(counted.points)):
        site = Site(tmp_path / str(number), template, is_polled)
        assert site.publish(nursery, plan).killed
        state = find_state(site.layout, "j0b")
        is_published = state is not None and state.phase == "store"
        seen.add(is_published)
        if is_published:
            again = Site.save(site, nursery)  # who goes on needs nothing of the working directory but the jar's own
            assert sorted(again.result) == sorted(str(site.store / name) for name in STORED)
            assert site.stored() == STORED
        else:
            assert len(list_outputs(str(site.work / "output"))) == len(FILES)
            assert (state is not None) == is_polled
        assert sorted(site.publish(nursery).result) == sorted(FILES)
        site.save(nursery)
        assert site.stored() == STORED
        shutil.rmtree(tmp_path / str(number))
    assert seen == {False, True}


def test_a_killed_storage_handler_leaves_whole_files_alone_and_the_next_one_finishes(
    nursery: Nursery, template: Path, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", template, False)
    site.publish(nursery)
    counted = site.save(nursery, Plan())
    assert site.stored() == STORED
    half_copies = 0
    for plan in plans(counted.points):
        shutil.rmtree(site.store)
        site.store.mkdir()
        assert site.save(nursery, plan).killed
        for name, content in site.stored().items():
            if os.path.basename(name).startswith(".jobjar."):
                half_copies += 1
            else:
                assert content == STORED[name]
        site.save(nursery)
        assert site.stored() == STORED
    assert half_copies > 0


def test_a_killed_removal_is_finished_by_the_next(nursery: Nursery, template: Path, tmp_path: Path) -> None:
    counted = Site(tmp_path / "counted", template, True)
    counted.publish(nursery)
    points = counted.remove(nursery, Plan()).points
    assert not os.path.exists(f"{counted.layout.underway}/j0b")
    for number, plan in enumerate(plans(points)):
        site = Site(tmp_path / str(number), template, True)
        site.publish(nursery)
        assert site.remove(nursery, plan).killed
        state = find_state(site.layout, "j0b")
        if state is not None:  # then nothing of it is missing
            site.save(nursery)
            assert site.stored() == STORED
        site.remove(nursery)
        assert not os.path.exists(f"{site.layout.underway}/j0b")
        shutil.rmtree(tmp_path / str(number))
