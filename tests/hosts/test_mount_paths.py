"""A jar that two nodes have mounted at different paths is one jar: neither finds fault with what the other does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.hosts.nodes import Node
from tests.rig import Rig, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def nodes(rig: Rig, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """rain has the jar where it was made; snow has it elsewhere, and nothing where rain has it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    rain = Node(rig, "rain")
    snow = Node(rig, "snow", JJ_HOME=str(elsewhere))
    snow.shell(f"mount --bind '{rig.home}' '{elsewhere}'; mount -t tmpfs -o size=4k tmpfs '{rig.home}'")
    yield rain, snow
    rain.kill()
    snow.kill()


def links(rig: Rig) -> dict[str, str]:
    return {name: os.readlink(rig.home / "claimed" / name) for name in os.listdir(rig.home / "claimed")}


def start_jobs(rig: Rig, node: Node, tmp_path: Path) -> list[str]:
    """Have a node's workers claim a plain job, one of a category, and a described one, and hold them until `go` is there."""
    log, go = tmp_path / "log", tmp_path / "go"
    plain = f"echo begun >> {log}; until test -e {go}; do sleep 0.05; done"
    names = [rig.submit(plain), rig.submit("-c", "LINUX", plain)]
    described = describe(rig, f"described-on-{node.name}.1", run_command=plain)
    for _ in range(3):
        node.start_worker("LINUX")
    wait_until(lambda: len(rig.names("claimed")) == 3, "the claims")
    return [*names, described]


@pytest.mark.slow
def test_each_node_finds_a_healthy_jar_healthy_and_remakes_no_link(
    rig: Rig, nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    for here, other in (nodes, nodes[::-1]):
        names = start_jobs(rig, here, tmp_path)
        made = links(rig)
        assert len([name for name in made if not name.startswith(".")]) == 3
        assert not [target for target in made.values() if target.startswith("/")]
        for node in (other, here, other):
            said = node.run("recover_jobs").stdout
            assert said == "0 jobs returned, 0 completed\n"
            assert node.run("jobjar", "check", check=False).stdout == ""
            assert node.run("jobjar", "check").returncode == 0
        assert links(rig) == made
        for node in nodes:
            node.shell(f"test -f '{node.environment['JJ_HOME']}/claimed/{names[1]}'")
        (tmp_path / "go").touch()
        here.run("jobjar", "wait", "--all", "--timeout", "60s")
        here.stop_workers()
        (tmp_path / "go").unlink()
        (tmp_path / "log").unlink()


@pytest.mark.slow
def test_absolute_links_of_earlier_releases_are_read_for_what_they_mean(
    rig: Rig, nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    rain, snow = nodes
    start_jobs(rig, rain, tmp_path)
    for name, target in links(rig).items():
        if name.startswith("."):
            os.unlink(rig.home / "claimed" / name)
            os.symlink(os.path.normpath(rig.home / "claimed" / target), rig.home / "claimed" / name)
    made = links(rig)
    for node in (snow, rain, snow):
        assert node.run("recover_jobs").stdout == "0 jobs returned, 0 completed\n"
        assert node.run("jobjar", "check", check=False).stdout == ""
    assert links(rig) == made
    (tmp_path / "go").touch()
    rain.stop_workers()


def test_the_worker_home_may_be_elsewhere_on_the_same_disk(rig: Rig, tmp_path: Path) -> None:
    rig.environment["JJ_WORKER_HOME"] = str(tmp_path / "workers elsewhere")
    go = tmp_path / "go"
    rig.submit(f"until test -e {go}; do sleep 0.05; done")
    worker = rig.start_worker()
    wait_until(lambda: len(links(rig)) == 2, "the claim")
    assert not [target for target in links(rig).values() if target.startswith("/")]
    [name] = [name for name in links(rig) if not name.startswith(".")]
    assert (rig.home / "claimed" / name).is_file()
    assert rig.run("recover_jobs").stdout == "0 jobs returned, 0 completed\n"
    rig.assert_clean()
    go.touch()
    rig.stop_worker(worker)
