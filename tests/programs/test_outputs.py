"""list_outputs and get_output, and the library's functions of these names."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import jobjar
from jobjar.errors import AmbiguousOutput, CannotGetOutput, UnknownBatch, UnknownJob, UnknownOutput
from jobjar.host import node_name
from jobjar.publishing.storage import store_file
from jobjar.publishing.underway import OutputFile
from tests.rig import BIN, Rig

CONTENT = b"\0\xff binary\n" * 100_000


class Store:
    """Jobs that ran, and files that were stored for them and journaled, as a worker does it."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.rig = rig
        self.path = directory / "store"
        self.path.mkdir()
        self._published = directory / "published"
        self._published.mkdir()

    def run_job(self, name: str, batch: str) -> str:
        """Run a described job; returns its id."""
        self.rig.drop(name, f"#!/bin/sh\n#JJ batch = {batch}\n#JJ run_command = true\nexit 0\n")
        self.rig.run_until_idle()
        shown = self.rig.show(name)
        assert shown["outcome"] == "succeeded"
        return str(shown["id"])

    def add(self, job: str, name: str, content: bytes = CONTENT, output_path: str = "", **changes: Any) -> Path:
        """Store a file and journal its record, with `changes` to it; returns where it is."""
        file = OutputFile(name, len(content), hashlib.md5(content).hexdigest())
        (self._published / "file").write_bytes(content)
        record = store_file(str(self._published / "file"), file, str(self.path), output_path)
        path = Path(record["storage_hfn"].partition(":")[2])
        said = {"entry": "stored", "job": job, "attempt": 1, "worker_uid": "w0rker", **record, **changes}
        jar = self.rig.open()
        jar.journal.append([{key: value for key, value in said.items() if value is not None}])
        return path


@pytest.fixture
def store(rig: Rig, tmp_path: Path) -> Store:
    return Store(rig, tmp_path)


@pytest.fixture
def library(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library on the rig's jar."""
    monkeypatch.setenv("JJ_HOME", str(rig.home))


def listed(rig: Rig, *words: str) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = json.loads(rig.run("list_outputs", "--format", "json", *words).stdout)["outputs"]
    return outputs


def test_outputs_are_listed_of_a_batch_of_a_job_and_of_all(rig: Rig, store: Store) -> None:
    one, two = store.run_job("one", "wc"), store.run_job("two", "other")
    places = [store.add(one, "log/b", b"b"), store.add(one, "a"), store.add(two, "c", output_path="x")]
    every = listed(rig)
    assert [(row["job"], row["batch"], row["source_name"]) for row in every] == [
        (one, "wc", "a"),
        (one, "wc", "log/b"),
        (two, "other", "c"),
    ]
    assert every[1] == {
        "job": one,
        "job_name": "one",
        "batch": "wc",
        "attempt": 1,
        "source_name": "log/b",
        "storage_name": None,
        "storage_hfn": f"{node_name()}:{places[0]}",
        "storage_url": places[0].as_uri(),
        "storage_size": 1,
        "storage_md5": hashlib.md5(b"b").hexdigest(),
    }
    assert listed(rig, "wc") == listed(rig, "one") == listed(rig, one[:6]) == every[:2]
    assert listed(rig, "other") == every[2:]
    result = rig.run("list_outputs", "nothing", check=False)
    assert result.returncode == 1 and "no batch, and no job of this name or id" in result.stderr


def test_the_table_has_name_size_md5_and_where(rig: Rig, store: Store) -> None:
    job = store.run_job("one", "wc")
    path = store.add(job, "log/b ü", b"b")
    table = rig.run("list_outputs", "wc").stdout.splitlines()
    assert table[0].split() == ["job", "name", "size", "md5", "where"]
    row = [job, "log/b ü", "1", hashlib.md5(b"b").hexdigest(), f"{node_name()}:{path}"]
    assert [word.strip() for word in re.split(r" {2,}", table[2])] == row
    tabbed = rig.run("jobjar", "list-outputs", "--format", "tsv").stdout.splitlines()[1]
    assert [word.strip() for word in tabbed.split("\t")] == row
    result = rig.run("list_outputs", "--format", "nonsense", check=False)
    assert result.returncode == 2 and "there is no format 'nonsense'" in result.stderr


def test_no_outputs_are_an_empty_list(rig: Rig, store: Store) -> None:
    store.run_job("one", "wc")
    assert listed(rig) == listed(rig, "wc") == listed(rig, "one") == []


def test_of_a_file_that_two_attempts_stored_the_later_record_is_told(rig: Rig, store: Store) -> None:
    job = store.run_job("one", "wc")
    store.add(job, "a", output_path="first")
    store.add(job, "a", output_path="second", attempt=2)
    store.add(job, "b")
    assert [(row["source_name"], row["attempt"]) for row in listed(rig)] == [("a", 2), ("b", 1)]
    assert "/second/a" in listed(rig)[0]["storage_hfn"]


def test_a_file_is_copied_here_under_its_base_name_or_to_a_path_or_into_a_directory(
    rig: Rig, store: Store, tmp_path: Path
) -> None:
    store.add(store.run_job("one", "wc"), "log/a")
    here = tmp_path / "here"
    (here / "there").mkdir(parents=True)
    assert rig.shell(
        "get_output log/a; get_output log/a other; get_output log/a there; jobjar get-output log/a there/x", here
    ).stdout == ("a\nother\nthere/a\nthere/x\n")
    for name in ("a", "other", "there/a", "there/x"):
        assert (here / name).read_bytes() == CONTENT
    assert sorted(os.listdir(here)) == ["a", "other", "there"]
    result = rig.run("get_output", "log/a", str(tmp_path / "missing" / "a"), check=False)
    assert result.returncode == 1
    assert f"'log/a' was not copied: {tmp_path}/missing/a: No such file or directory" in result.stderr


def test_a_file_goes_to_standard_output_as_it_is(rig: Rig, store: Store) -> None:
    store.add(store.run_job("one", "wc"), "a")
    result = subprocess.run([BIN / "get_output", "a", "-"], env=rig.environment, capture_output=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, CONTENT, b"")


def test_a_full_disk_is_told_with_the_file_that_does_not_fit_and_leaves_nothing(
    rig: Rig, store: Store, tmp_path: Path
) -> None:
    store.add(store.run_job("one", "wc"), "a")
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [BIN / "get_output", "a", "-"], env=rig.environment, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr == b"get_output: 'a' was not copied: standard output: No space left on device\n"
    (tmp_path / "here").mkdir()
    limited = f"ulimit -f 8; trap '' XFSZ; exec {BIN}/get_output a {tmp_path}/here/copy"
    copied = subprocess.run(["/bin/sh", "-c", limited], env=rig.environment, capture_output=True, text=True, timeout=60)
    assert copied.returncode == 1 and copied.stdout == ""
    assert f"'a' was not copied: {tmp_path}/here/copy: " in copied.stderr and "Traceback" not in copied.stderr
    assert os.listdir(tmp_path / "here") == []


def test_nothing_is_overwritten_without_force(rig: Rig, store: Store, tmp_path: Path) -> None:
    store.add(store.run_job("one", "wc"), "a")
    target = tmp_path / "target"
    target.write_text("mine")
    result = rig.run("get_output", "a", str(target), check=False)
    assert result.returncode == 1 and f"{target} is there already; --force" in result.stderr
    assert target.read_text() == "mine"
    target.unlink()
    target.symlink_to("nowhere")
    assert rig.run("get_output", "a", str(target), check=False).returncode == 1
    assert target.is_symlink()
    rig.run("get_output", "--force", "a", str(target))
    assert not target.is_symlink() and target.read_bytes() == CONTENT
    os.mkfifo(tmp_path / "pipe")
    assert rig.run("get_output", "--force", "a", str(tmp_path / "pipe"), check=False).returncode == 1
    assert (tmp_path / "pipe").is_fifo()


def test_a_destination_that_appears_while_it_is_copied_is_not_overwritten(
    rig: Rig, store: Store, tmp_path: Path, library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(store.run_job("one", "wc"), "a")
    target = tmp_path / "here" / "target"
    target.parent.mkdir()
    fsync = os.fsync

    def appear(descriptor: int) -> None:
        target.write_text("mine")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", appear)
    with pytest.raises(CannotGetOutput, match="is there already"):
        jobjar.get_output("a", str(target))
    assert os.listdir(target.parent) == ["target"] and target.read_text() == "mine"


@pytest.mark.parametrize(("damage", "what"), [(b"x" + CONTENT[1:], "md5"), (CONTENT[1:], "size")])
def test_a_stored_file_that_changed_is_not_copied(
    rig: Rig, store: Store, tmp_path: Path, damage: bytes, what: str
) -> None:
    path = store.add(store.run_job("one", "wc"), "a")
    path.write_bytes(damage)
    here = tmp_path / "here"
    here.mkdir()
    result = rig.run("get_output", "a", str(here), check=False)
    assert result.returncode == 1 and f"'a' was not copied: its {what} is " in result.stderr
    assert os.listdir(here) == []


def test_a_stored_file_that_is_gone_is_an_error_that_says_where_it_was(rig: Rig, store: Store, tmp_path: Path) -> None:
    path = store.add(store.run_job("one", "wc"), "a")
    path.unlink()
    result = rig.run("get_output", "a", str(tmp_path), check=False)
    assert result.returncode == 1 and str(path) in result.stderr and "No such file" in result.stderr


def test_a_name_of_several_jobs_needs_job_or_batch(rig: Rig, store: Store, tmp_path: Path) -> None:
    one, two = store.run_job("one", "wc"), store.run_job("two", "other")
    store.add(one, "a", b"of one", "1")
    store.add(two, "a", b"of two", "2")
    result = rig.run("get_output", "a", str(tmp_path), check=False)
    assert result.returncode == 1
    assert (
        f"2 stored files have the name 'a'; choose one with --job or --batch: {one} of batch wc, {two} of batch other"
        in result.stderr
    )
    assert rig.run("get_output", "a", "-", "--job", "one").stdout == "of one"
    assert rig.run("get_output", "a", "-", "--batch", "other").stdout == "of two"
    result = rig.run("get_output", "a", "-", "--batch", "third", check=False)
    assert result.returncode == 1 and "there is no batch third in" in result.stderr
    result = rig.run("get_output", "b", "-", check=False)
    assert result.returncode == 1 and "no stored file has the name 'b'" in result.stderr
    result = rig.run("get_output", "a", "-", "--job", "one", "--batch", "other", check=False)
    assert result.returncode == 1 and "(or not of that job or batch)" in result.stderr


def test_what_two_jobs_stored_in_one_place_is_one_file(rig: Rig, store: Store) -> None:
    for name in ("one", "two"):
        store.add(store.run_job(name, "wc"), "a", b"same")
    assert rig.run("get_output", "a", "-").stdout == "same"


def test_a_file_is_found_by_the_name_that_it_was_stored_under_too(rig: Rig, store: Store, tmp_path: Path) -> None:
    job = store.run_job("one", "wc")
    store.add(job, "a", b"a", storage_name="data/renamed")
    assert rig.run("get_output", "a", "-").stdout == rig.run("get_output", "data/renamed", "-").stdout == "a"
    assert rig.run("get_output", "a", str(tmp_path)).stdout == f"{tmp_path}/renamed\n"
    assert "data/renamed" in rig.run("list_outputs").stdout
    store.add(job, "b", b"b", storage_name="..")
    result = rig.run("get_output", "b", str(tmp_path), check=False)
    assert result.returncode == 1 and "has no base name" in result.stderr


def test_what_was_recorded_of_a_file_is_verified_and_what_was_not_is_told(
    rig: Rig, store: Store, tmp_path: Path
) -> None:
    store.add(store.run_job("one", "wc"), "a", b"a", storage_md5=None, storage_size=None)
    result = rig.run("get_output", "a", str(tmp_path))
    assert "no md5 was recorded" in result.stderr
    assert (tmp_path / "a").read_bytes() == b"a"
    row = rig.run("list_outputs", "--format", "tsv").stdout.splitlines()[1].split("\t")
    assert [word.strip() for word in row[1:4]] == ["a", "", ""]


def test_half_copies_of_killed_ones_are_removed_by_the_next(rig: Rig, store: Store, tmp_path: Path) -> None:
    store.add(store.run_job("one", "wc"), "a", b"a")
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = tmp_path / "here"
    here.mkdir()
    (here / f".jobjar.{node_name()}.{ended.pid}.1.new").write_text("half")
    rig.run("get_output", "a", str(here))
    assert os.listdir(here) == ["a"]


@pytest.fixture
def server(store: Store) -> Iterator[str]:
    """An http server of the stored files; its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(store.path)))
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_file_of_another_node_is_read_from_the_path_that_both_see_or_from_its_address(
    rig: Rig, store: Store, server: str
) -> None:
    job = store.run_job("one", "wc")
    store.add(job, "a", b"shared", storage_hfn=f"elsewhere:{store.path}/a", storage_url=None)
    assert rig.run("get_output", "a", "-").stdout == "shared"
    path = store.add(job, "b", b"served")
    store.add(job, "b", b"served", attempt=2, storage_hfn=f"elsewhere:{store.path}/not/here", storage_url=f"{server}/b")
    assert rig.run("get_output", "b", "-").stdout == "served"
    path.write_bytes(b"Served")
    result = rig.run("get_output", "b", "-", check=False)
    assert result.returncode == 1 and "its md5 is" in result.stderr


def test_an_address_of_any_kind_that_fsspec_knows_is_read(
    rig: Rig, store: Store, tmp_path: Path, library: None
) -> None:
    import fsspec

    job = store.run_job("one", "wc")
    store.add(job, "a", CONTENT, storage_hfn=None, storage_url="memory://tape/a")
    with fsspec.open("memory://tape/a", "wb") as file:
        file.write(CONTENT)
    assert jobjar.get_output("a", str(tmp_path / "copy")) == str(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    store.add(job, "b", storage_hfn=None, storage_url="no-such-kind://tape/b")
    with pytest.raises(CannotGetOutput, match=r"no-such-kind://tape/b cannot be fetched"):
        jobjar.get_output("b", str(tmp_path / "b"))
    store.add(job, "c", storage_hfn=None, storage_url=None)
    with pytest.raises(CannotGetOutput, match="where it is stored was not recorded"):
        jobjar.get_output("c", str(tmp_path / "c"))
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


def test_the_library_lists_and_copies(rig: Rig, store: Store, tmp_path: Path, library: None) -> None:
    job = store.run_job("one", "wc")
    store.add(job, "log/a")
    (output,) = jobjar.list_outputs("wc")
    assert (output.job, output.job_name, output.name, output.storage_size) == (job, "one", "log/a", len(CONTENT))
    assert jobjar.list_outputs() == jobjar.list_outputs(job) == [output]
    copied = jobjar.get_output("log/a", str(tmp_path / "copy"), job="one")
    assert Path(copied).read_bytes() == CONTENT
    with pytest.raises(CannotGetOutput):
        jobjar.get_output("log/a", copied)
    assert jobjar.get_output("log/a", copied, batch="wc", force=True) == copied
    wrong: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
        ({"name": "b"}, UnknownOutput),
        ({"name": "log/a", "batch": "x"}, UnknownBatch),
        ({"name": "log/a", "job": "x"}, UnknownJob),
    )
    for arguments, error in wrong:
        with pytest.raises(error):
            jobjar.get_output(**arguments)
    store.add(store.run_job("two", "wc"), "log/a", b"other", "x")
    with pytest.raises(AmbiguousOutput):
        jobjar.get_output("log/a")
