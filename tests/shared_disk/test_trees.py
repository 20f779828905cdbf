"""Removal of what jobs wrote, whatever that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobjar.shared_disk.trees import remove_tree


def make_deep(path: Path, depth: int, name: str) -> None:
    """A file below `depth` directories, one in the other; by descriptors, as no path can be so long."""
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize(("depth", "name"), [(1_500, "d"), (200, "d" * 200)])
def test_a_tree_that_is_deeper_than_any_path_is_removed(tmp_path: Path, depth: int, name: str) -> None:
    make_deep(tmp_path / "tree", depth, name)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(f"{tmp_path}/tree")
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_outside_of_a_deep_tree_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    make_deep(tmp_path / "tree", 1_500, "d")
    (tmp_path / "tree" / "d" / "link").symlink_to(outside)
    (tmp_path / "tree" / "link").symlink_to(outside)
    remove_tree(f"{tmp_path}/tree")
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["file"]
