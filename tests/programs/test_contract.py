"""What a program may rely on that is packaged for Job Jar: the packaging document, sentence by sentence, by real workers.

Each test's docstring says the sentence. `test_described.py` has what goes wrong and what a person may do meanwhile;
`test_cycle.py` the worker's side.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.described_jobs import describe, entries, make_package, outcome, pack, phases, said, underway
from tests.rig import Rig, wait_until
from tests.serving import http_server


def md5_of(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def listed(rig: Rig, *words: str) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = json.loads(rig.run("list_outputs", "--format", "json", *words).stdout)["outputs"]
    return outputs


def cache_in(tmp_path: Path) -> dict[str, str]:
    return {"JJ_INPUT_CACHE": str(tmp_path / "cache")}


# Packages


def archive_as(kind: str, package: Path) -> Path:
    """The package as an archive of a kind, or as it is."""
    path = package.with_name(f"{package.name}-archive.{kind}")
    if kind == "directory":
        return package
    inside = [inner for inner in sorted(package.rglob("*")) if inner.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as made:
            for inner in inside:
                made.write(inner, inner.relative_to(package))
    else:
        compression = {"tgz": "gz", "tar": ""}.get(kind, kind.rpartition(".")[2])
        with tarfile.open(str(path), f"w:{compression}") as tar:  # type: ignore[call-overload]
            for inner in inside:
                tar.add(inner, str(inner.relative_to(package)))
    return path


def test_software_comes_as_an_archive_of_any_kind_or_lies_there_already(rig: Rig, tmp_path: Path) -> None:
    """Software is packed as tar, zip, tgz or tar.gz (or more tightly), or is installed where all nodes see it."""
    kinds = ["tar", "tgz", "tar.gz", "tar.bz2", "tar.xz", "zip", "directory"]
    names = []
    for kind in kinds:
        package = make_package(
            tmp_path / kind.replace(".", "-"),
            bin__tool=f"#!/bin/sh\necho {kind} installed=$(cat $(dirname $0)/../installed)\n",
            package__install='#!/bin/sh\necho "$1" > "$1/installed"\n',
            package__commands="run_command = $1/bin/tool\n",
        )
        (package / "installed").write_text("before\n")
        names.append(describe(rig, kind, software=archive_as(kind, package), retries=0))
    rig.run_until_idle(**cache_in(tmp_path))
    for kind, name in zip(kinds, names, strict=True):
        word, place = said(rig, name).strip().split(" installed=")
        assert word == kind
        # What lies on a disk already was installed by whoever put it there.
        assert place == "before" if kind == "directory" else place.startswith(f"{rig.home}/software/")


def test_all_packages_of_a_job_are_set_up_in_order_with_the_job_s_directory_as_the_current_one(
    rig: Rig, tmp_path: Path
) -> None:
    """The environment comes from sourcing the setup.sh of each of the job's packages, whose $1 is the package's place."""
    setup = 'SEEN="$SEEN<$1>"; export SEEN; pwd >> "sourced in"; PATH=$1/bin:$PATH\n'
    packages = [make_package(tmp_path / f"p{number}", package__setup_sh=setup) for number in (1, 2, 3)]
    for package in packages:
        make_package(package, bin__which_one=f"#!/bin/sh\necho {package.name}\n")
    archive = pack(packages[1])
    name = describe(
        rig,
        "job",
        software=[f"{packages[0]} {archive}", packages[2]],
        stage_in_command="echo in $SEEN; rm 'sourced in'",
        run_command='echo run "$SEEN"; which_one; sort -u "sourced in"; wc -l < "sourced in"; pwd',
    )
    rig.run_until_idle(**cache_in(tmp_path))
    [place] = [path for path in (rig.home / "software").iterdir() if path.is_dir()]
    seen = f"<{packages[0]}><{place}><{packages[2]}>"
    told = said(rig, name).splitlines()
    assert told[:4] == [f"in {seen}", f"run {seen}", "p3", told[5]]
    assert int(told[4]) == 3


def test_an_install_that_fails_says_why_leaves_nothing_half_there_and_is_tried_again_with_the_job(
    rig: Rig, tmp_path: Path
) -> None:
    """The install program is called once, after unpacking; what it made is used when it ended well, and never before."""
    flag = tmp_path / "again"
    package = make_package(
        tmp_path / "p",
        package__install=(
            f'#!/bin/sh\n[ -e {flag} ] && {{ echo "$1" > "$1/place"; exit 0; }}\n'
            f'touch {flag} "$1/half"; echo configured; echo "cc: not found" >&2; exit 3\n'
        ),
        package__commands='run_command = ls $1 && cat $1/place && [ "$(cat $1/place)" = $1 ]\n',
    )
    name = describe(rig, "job", software=pack(package))
    rig.run_until_idle(**cache_in(tmp_path))
    assert outcome(rig, name) == ("completed", "succeeded", 0, 2)
    first = rig.show(name)["attempts"][0]
    assert first["outcome"] == "failed" and first["message"].startswith("stage_in: ")
    assert "package/install failed with status 3" in first["message"]
    assert "configured\ncc: not found" in first["message"]
    assert said(rig, name).splitlines()[:2] == ["package", "place"]
    assert [phase[0] for phase in phases(rig, name)] == ["stage_in", "stage_in", "run"]


def test_commands_of_a_package_stand_for_those_that_a_description_does_not_give(rig: Rig, tmp_path: Path) -> None:
    """package/commands is key = value lines with $1 for the package's place: for any kind of command, polling included."""
    package = make_package(
        tmp_path / "p",
        bin__step='#!/bin/sh\necho "$1"\n',
        package__commands=(
            "stage_in_command = $1/bin/step in\nrun_command = $1/bin/step run\nstage_out_command = $1/bin/step out\n"
            "polling_command = $1/bin/step asked && echo finished = 1 > jug_polling.vars\nown_command = whatever\n"
        ),
    )
    all_of_them = describe(rig, "all", software=pack(package))
    one_less = describe(rig, "less", software=pack(package), run_command="echo mine")
    rig.run_until_idle(JJ_POLLING_TIME="0.05", **cache_in(tmp_path))
    assert said(rig, all_of_them).splitlines() == ["in", "run", "asked", "out"]
    assert said(rig, one_less).splitlines() == ["in", "mine", "asked", "out"]


# Working directory, environment, executable


def test_every_attempt_of_every_job_begins_in_a_fresh_directory(rig: Rig) -> None:
    """A fresh working directory is made before each start; nothing of another job or of an earlier attempt is in it, only
    an empty directory for its outputs."""
    command = "find .; echo begun; touch left .hidden; mkdir -p output/deep; [ $JJ_ATTEMPT = 2 ]"
    names = [describe(rig, name, run_command=command, stage_in_command="find .") for name in ("a", "b")]
    rig.run_until_idle()
    for name in names:
        assert said(rig, name) == (".\n./output\n" * 2 + "begun\n") * 2
        assert outcome(rig, name) == ("completed", "succeeded", 0, 2)


def test_input_files_are_each_job_s_own_copies_however_seldom_they_are_fetched(rig: Rig, tmp_path: Path) -> None:
    """Input files are copied into the directory for each job; a cache may spare fetching them again."""
    (tmp_path / "served").mkdir()
    for place in (tmp_path, tmp_path / "served"):
        (place / "data").write_text("pristine\n")
        os.utime(place / "data", (1e9, 1e9))
    command = "cat data local; echo spoilt | tee data local > /dev/null; cat data"
    with http_server(tmp_path / "served") as server:
        sources = f"{server.address}/data {tmp_path}/data#name=local"
        names = [describe(rig, f"job{number}", run_command=command, input_files=sources) for number in range(3)]
        rig.run_until_idle(**cache_in(tmp_path))
        assert server.gets("/data") == 1
    assert [said(rig, name) for name in names] == ["pristine\npristine\nspoilt\n"] * 3
    assert (tmp_path / "data").read_text() == (tmp_path / "served" / "data").read_text() == "pristine\n"


def test_each_stage_finds_the_same_world_and_who_it_is(rig: Rig, tmp_path: Path) -> None:
    """Design, "A job's world": an empty standard input, one file for what is written, the variables of any job, and the jar's
    programs in PATH: a described job may submit others."""
    look = 'echo "$JJ_PHASE $JJ_ATTEMPT $JJ_PRIORITY $JJ_CATEGORY $JJ_BATCH $JJ_JOB"; cat'
    look += '; [ "$JJ_SCRATCH_DIR" = "$PWD" ] || echo lost'
    look += '; [ "$(readlink -f "$JJ_HOME/claimed/$JJ_JOB")" = "$JJ_JOB_FILE" ] || echo elsewhere; echo >&2 "$JJ_PHASE error"'
    name = describe(
        rig,
        "job.4",
        "BIG",
        batch="b",
        run_command=f"{look}; submit_job true > /dev/null",
        polling_time="0.05",
        **{f"{stage}_command": look for stage in ("stage_in", "stage_out")},
        polling_command=f"{look}; echo finished = 1 > jug_polling.vars",
    )
    rig.run_until_idle("BIG")
    stages = ("stage_in", "run", "poll", "stage_out")
    assert said(rig, name) == "".join(f"{stage} 1 4 BIG b job.4\n{stage} error\n" for stage in stages)
    assert len(rig.names("completed")) == 2


def test_the_command_is_what_jug_run_says_in_the_environment_that_the_job_has(rig: Rig) -> None:
    """The command is taken from JUG_RUN, and the stages' from JUG_STAGE_IN and JUG_STAGE_OUT; the worker's environment is
    the job's too, and what the description says of it goes before that."""
    inherited = describe(rig, "inherited")
    own = describe(rig, "own", environment="'JUG_RUN=echo own run; echo $OF_WORKER'")
    rig.run_until_idle(JUG_RUN="echo worker run", JUG_STAGE_IN="echo worker in", JUG_STAGE_OUT="", OF_WORKER="kept")
    assert said(rig, inherited).splitlines() == ["worker in", "worker run"]
    assert said(rig, own).splitlines() == ["worker in", "own run", "kept"]


def test_without_any_command_there_has_to_be_a_program_jug_run(rig: Rig) -> None:
    """JUG_RUN is jug_run where nobody says anything else."""
    name = describe(rig, "job", retries=0)
    rig.run_until_idle()
    assert outcome(rig, name) == ("completed", "failed", 127, 1)
    assert "jug_run" in said(rig, name)


# Output


def test_what_stage_out_puts_below_output_is_stored_by_storage_workers_sub_directories_too(
    rig: Rig, tmp_path: Path
) -> None:
    """Files to be stored are put below `output`, in directories too; storage workers take them, and file movement may be
    done at stage-out time."""
    place = tmp_path / "store"
    place.mkdir()
    name = describe(
        rig,
        "job",
        run_command="echo result > result; echo early > output/early",
        stage_out_command="mkdir -p output/deep/er; mv result output/deep/er/late",
        storage_class="disk",
        output_path="runs/7",
        batch="b",
    )
    worker = rig.start_worker()
    storage = rig.start_worker("--storage", "disk", JJ_STORAGE_PATH=str(place))
    wait_until(lambda: rig.names("completed") == [name], "the job to be stored")
    rig.stop_worker(worker)
    rig.stop_worker(storage)
    assert (place / "runs/7/deep/er/late").read_text() == "result\n"
    assert (place / "runs/7/early").read_text() == "early\n"
    assert [(file["source_name"], file["storage_size"], file["storage_md5"]) for file in listed(rig, "b")] == [
        ("deep/er/late", 7, md5_of("result\n")),
        ("early", 6, md5_of("early\n")),
    ]
    assert rig.run("get_output", "deep/er/late", "-").stdout == "result\n"
    assert underway(rig) == []
    rig.assert_clean()


def test_a_storage_worker_killed_within_a_handler_of_one_s_own_costs_nothing(rig: Rig, tmp_path: Path) -> None:
    """A job waits for its files to be stored: a handler that has moved some of them away and dies with its worker is begun
    anew by the next, with all of them."""
    vault, flag = tmp_path / "vault", tmp_path / "second"
    vault.mkdir()
    package = make_package(
        tmp_path / "storage",
        bin__keep=(
            f"#!/bin/sh\nset -e\ncp output/a {vault}/a; rm output/a\n[ -e {flag} ] || {{ touch {flag}; exec sleep 60; }}\n"
            f"mv output/b {vault}/b\nprintf 'source_name = a\\nsource_name = b\\n' > jug_storage.log\n"
        ),
        package__commands="storage_command = $1/bin/keep\n",
    )
    name = describe(rig, "job", run_command="echo a > output/a; echo b > output/b", storage_class="own")
    worker = rig.start_worker()
    wait_until(lambda: [each["outcome"] for each in rig.show(name)["attempts"]] == ["published"], "the job's run")
    rig.stop_worker(worker)
    first = rig.start_worker("--storage", "own", JJ_STORAGE_SOFTWARE=str(package))
    wait_until(flag.exists, "the handler")
    first.kill()
    first.wait()
    rig.run("recover_jobs")
    assert rig.processes() == []
    second = rig.start_worker("--storage", "own", JJ_STORAGE_SOFTWARE=str(package))
    wait_until(lambda: rig.names("completed") == [name], "the job to be stored")
    rig.stop_worker(second)
    assert [(vault / file).read_text() for file in ("a", "b")] == ["a\n", "b\n"]
    assert [attempt["outcome"] for attempt in rig.show(name)["attempts"]] == ["published", "interrupted", "succeeded"]
    assert [file["source_name"] for file in listed(rig)] == ["a", "b"]
    assert underway(rig) == []
    rig.assert_clean()


# Exit status


@pytest.mark.parametrize("stage", ["run", "stage_out"])
def test_after_a_failure_the_worker_ends_what_it_has_and_leaves_and_the_job_is_to_run_again(
    rig: Rig, tmp_path: Path, stage: str
) -> None:
    """A status other than 0 is a transient failure: the worker leaves gracefully (where JJ_EXIT_ON_FAILURE says so), and the
    job is scheduled again."""
    wait = "while [ ! -e {} ]; do sleep 0.01; done"
    begun, go = tmp_path / "begun", tmp_path / "go"
    fail = f"{wait.format(begun)}; [ $JJ_ATTEMPT -gt 1 ]"
    failing = describe(rig, "a.3", **{"run_command": "true", f"{stage}_command": fail})
    # Of what else the worker has, one stage is under way when the first job fails.
    touch = {"stage_in" if stage == "run" else "run": f"touch {begun}; {wait.format(go)}"}
    other = describe(rig, "b.2", **{"run_command": "true", **{f"{kind}_command": text for kind, text in touch.items()}})
    later = describe(rig, "c.1", run_command="true")
    # The third is not claimed ahead: only a worker that leaves lets it be.
    worker = rig.start_worker(JJ_EXIT_ON_FAILURE="yes", JJ_STAGED_AHEAD="1" if stage == "run" else "0")
    wait_until(lambda: rig.names("unclaimed") == [failing, later], "the failed job to come back")
    assert rig.show(other)["state"] == "claimed" and worker.poll() is None
    go.touch()
    assert worker.wait(30) == 0
    assert outcome(rig, other) == ("completed", "succeeded", 0, 1)
    assert outcome(rig, later) == ("unclaimed", None, None, 0)
    shown = rig.show(failing)
    assert (shown["state"], len(shown["attempts"])) == ("unclaimed", 1)
    assert (shown["attempts"][0]["outcome"], shown["attempts"][0]["exit_status"]) == ("failed", 1)
    rig.run_until_idle()
    assert outcome(rig, failing) == ("completed", "succeeded", 0, 2)
    rig.assert_clean()


# Results


def test_what_is_monitored_is_kept_of_every_attempt_and_work_done_adds_up(rig: Rig) -> None:
    """key=value pairs in jug_monitor.vars are saved when a job finishes; work_done is added up by batch_status --work_done."""
    first = describe(
        rig,
        "first",
        batch="b",
        run_command=(
            "if [ $JJ_ATTEMPT = 1 ]; then echo work_done=100 > jug_monitor.vars; exit 1; fi; "
            "printf 'odd\\nwork_done = 5\\nrate=2.5\\nby = a  b\\n' > jug_monitor.vars"
        ),
    )
    describe(rig, "second", batch="b", run_command="printf work_done=7 > jug_monitor.vars")
    describe(rig, "third", batch="b", run_command="echo work_done=1000 > jug_monitor.vars; exit 1", retries=0)
    rig.run_until_idle()
    attempts = rig.show(first)["attempts"]
    assert [attempt["variables"] for attempt in attempts] == [
        {"work_done": "100"},
        {"by": "a  b", "rate": "2.5", "work_done": "5"},
    ]
    assert [len(attempt["warnings"]) for attempt in attempts] == [0, 1]
    text = rig.run("jobjar", "show", first).stdout
    assert "2.5" in text and "a  b" in text
    [batch] = json.loads(rig.run("batch_status", "--work_done", "--format", "json").stdout)["batches"]
    assert (batch["batch"], batch["work_done"], batch["work_done_jobs"]) == ("b", 12, 2)
    with sqlite3.connect(f"file:{rig.home}/ledger/ledger.db?mode=ro", uri=True) as ledger:
        kept = list(ledger.execute("SELECT name, value, number FROM monitored_variable ORDER BY number, value"))
    ledger.close()
    assert kept[:2] == [("by", "a  b", None), ("rate", "2.5", 2.5)]
    assert [number for name, _, number in kept if name == "work_done"] == [5, 7, 100, 1000]
    rig.assert_clean()


def test_files_that_a_job_stored_on_its_own_are_listed_and_fetched_by_what_it_says(rig: Rig, tmp_path: Path) -> None:
    """jug_stage_out.log: a record of a file begins with source_name, with a path in it where there is one; the other lines
    come in any order, and only those are needed that are given. A line that is wrong costs no other."""
    store = tmp_path / "store"
    store.mkdir()
    text = "ntuple\n"
    log = [
        f"source_name=data/output.ntpl\nstorage_md5 = {md5_of(text)}\nstorage_size=7\nnonsense\n",
        f"storage_hfn = {{node}}:{store}/o1\nstorage_name=data/renamed.ntpl\nstorage_url = file://{store}/o1\n",
        f"colour = red\nsource_name = log/cmkin.log\nstorage_url = file://{store}/o2\nstorage_size = many\n",
    ]
    (tmp_path / "log").write_text("".join(log).replace("{node}", "elsewhere"))
    name = describe(
        rig,
        "job",
        batch="b",
        run_command="true",
        stage_out_command=f"printf 'ntuple\\n' > {store}/o1; echo log > {store}/o2; cp {tmp_path}/log jug_stage_out.log",
    )
    rig.run_until_idle()
    assert [file["source_name"] for file in listed(rig, "b")] == ["data/output.ntpl", "log/cmkin.log"]
    whole, bare = listed(rig, "b")
    assert {key: value for key, value in whole.items() if key.startswith("storage_")} == {
        "storage_name": "data/renamed.ntpl",
        "storage_hfn": f"elsewhere:{store}/o1",
        "storage_url": f"file://{store}/o1",
        "storage_size": 7,
        "storage_md5": md5_of(text),
    }
    assert (bare["storage_name"], bare["storage_size"], bare["storage_md5"]) == (None, None, None)
    assert rig.run("get_output", "data/renamed.ntpl", "-").stdout == text
    assert rig.run("get_output", "log/cmkin.log", "-").stdout == "log\n"
    assert rig.show(name)["attempts"][0]["warnings"] == [
        "jug_stage_out.log, line 4: not of the form key = value: 'nonsense'",
        "jug_stage_out.log, line 8: 'colour' is no field of a record; those are source_name, storage_name, storage_hfn, "
        "storage_url, storage_size, storage_md5",
        "jug_stage_out.log, line 11: storage_size is not a number of bytes: 'many'",
    ]
    (store / "o1").write_text("Ntuple\n")
    refused = rig.run("get_output", "data/output.ntpl", "-", check=False)
    assert refused.returncode == 1 and "its md5 is" in refused.stderr


def test_of_files_that_an_own_handler_stored_size_and_md5_are_recorded_and_verified(rig: Rig, tmp_path: Path) -> None:
    """A storage handler writes jug_storage.log in the same format; size and md5 are recorded for it, and what it gives of
    them is compared: what it says wrongly does not count as stored."""
    vault = tmp_path / "vault"
    vault.mkdir()
    package = make_package(
        tmp_path / "storage",
        bin__keep=(
            f'#!/bin/sh\nset -e\ncp -r output/. {vault}\nfor name in a deep/b; do echo "source_name = $name"\n'
            f'echo "storage_url = file://{vault}/$name"; echo odd; done > jug_storage.log\n'
            f"[ -e {tmp_path}/honest ] || echo 'storage_md5 = {md5_of('other')}' >> jug_storage.log\n"
        ),
        package__commands="storage_command = $1/bin/keep\n",
    )
    command = "mkdir -p output/deep; echo a > output/a; echo bb > output/deep/b"
    name = describe(rig, "job", run_command=command, storage_class="own", batch="b")
    worker = rig.start_worker()
    storage = rig.start_worker("--storage", "own", JJ_STORAGE_SOFTWARE=str(package))
    wait_until(lambda: len(rig.show(name)["attempts"]) == 2 and rig.show(name)["not_before"], "the refusal")
    rig.stop_worker(worker)
    shown = rig.show(name)
    assert (shown["state"], shown["attempts"][1]["outcome"]) == ("unclaimed", "interrupted")
    assert "'deep/b'" in shown["attempts"][1]["message"] and "storage_md5" in shown["attempts"][1]["message"]
    assert listed(rig, "b") == []
    (tmp_path / "honest").touch()
    wait_until(lambda: rig.names("completed") == [name], "the job to be stored")
    rig.stop_worker(storage)
    assert [(file["source_name"], file["storage_size"], file["storage_md5"]) for file in listed(rig, "b")] == [
        ("a", 2, md5_of("a\n")),
        ("deep/b", 3, md5_of("bb\n")),
    ]
    assert len([text for entry in entries(rig, "warned", name) for text in entry["warnings"]]) == 2
    assert rig.run("get_output", "deep/b", "-").stdout == "bb\n"
    rig.assert_clean()


# The file of a described job


def test_a_job_s_file_explains_itself_and_may_be_copied_edited_and_dropped_by_hand(rig: Rig, tmp_path: Path) -> None:
    """A described job is one script that a person can read, edit, and put into the unclaimed jar; run by itself it says what
    it is, and exits 2."""
    (tmp_path / "b.jug").write_text('batch\nname = "b"\nseeds = "3"\nrun_command = "echo $JUG_SEED $WORD; touch ran"\n')
    rig.run("submit_batch", str(tmp_path / "b.jug"))
    [name] = rig.names("unclaimed")
    file = rig.home / "unclaimed" / name
    told = rig.shell(f"mkdir here; cd here; status=0; '{file}' || status=$?; ls; exec echo status $status", tmp_path)
    assert told.stdout == "status 2\n"
    assert "batch b with seed 3" in told.stderr and "start_worker" in told.stderr
    rig.shell(
        f"sed 's/^#JJ seed = 3/#JJ seed = 4\\n#JJ environment = WORD=copied/' '{file}' > limbo/copy; chmod +x limbo/copy"
    )
    rig.shell(f"sed -i 's/^#JJ seed/#JJ environment = WORD=edited\\n#JJ seed/' '{file}'; mv limbo/copy unclaimed/")
    rig.run_until_idle()
    assert (said(rig, name), said(rig, "copy")) == ("3 edited\n", "4 copied\n")
    assert (rig.show("copy")["batch"], rig.show("copy")["seed"]) == ("b", 4)
    [batch] = json.loads(rig.run("batch_status", "--format", "json").stdout)["batches"]
    assert (batch["done"], batch["phases"]) == (2, {"succeeded": 2})
    rig.assert_clean()


def test_each_key_of_a_batch_in_toml_has_its_effect(rig: Rig, tmp_path: Path) -> None:
    """The keys that a batch or a job may have, all in one submission; and seeds that become more afterwards."""
    (tmp_path / "input").write_text("input\n")
    software = make_package(
        tmp_path / "soft", bin__tool="#!/bin/sh\necho tool\n", package__setup_sh="PATH=$1/bin:$PATH\n"
    )
    workware = make_package(tmp_path / "work", table="rows\n")
    (tmp_path / "b.toml").write_text(f"""
[batch]
name = "all"
notes = "every key"
seeds = "1-2"
software = ["{software}"]
workware = ["{workware}"]
input_files = ["{tmp_path}/input#name=in"]
environment = {{ WORD = "two words" }}
stage_in_command = "echo in"
run_command = 'tool; cat table in; echo "$WORD $JUG_SEED"; echo out > output/$JUG_SEED'
polling_command = "echo finished = 1 > jug_polling.vars; [ $JUG_SEED != 2 ] || echo exit_status = 9 >> jug_polling.vars"
polling_time = "0.05"
stage_out_command = "echo out"
output_path = "good"
storage_class = "disk"
err_storage_class = "scrap"
err_output_path = "bad"
execution_class = "BIG"
priority = 7
retries = 1
retry_delay = 0
time_limit = "1h"
job_runtime = "5m"
""")
    assert rig.run("submit_batch", str(tmp_path / "b.toml")).stdout == "all\n"
    names = rig.names("unclaimed/BIG")
    assert len(names) == 2 and all(name.endswith(".7") for name in names)
    worker = rig.start_worker("BIG")
    wait_until(
        lambda: len(rig.names("unclaimed/STORAGE-disk")) == len(rig.names("unclaimed/STORAGE-scrap")) == 1,
        "both to end",
    )
    assert rig.run("batch_edit", "all", "seeds=1-3").stdout == "1\n"
    wait_until(lambda: len(rig.names("unclaimed/STORAGE-disk")) == 2, "the new one to end")
    rig.stop_worker(worker)
    rig.run_until_idle("--storage", "disk", "scrap")
    completed = {rig.show(name)["seed"]: name for name in rig.names("completed")}
    assert sorted(completed) == [1, 2, 3]
    assert {seed: outcome(rig, name)[1:] for seed, name in completed.items()} == {
        1: ("succeeded", 0, 2),
        2: ("failed", 9, 3),
        3: ("succeeded", 0, 2),
    }
    assert said(rig, completed[1]).splitlines() == ["in", "tool", "rows", "input", "two words 1", "out"]
    store = rig.home / "storage"
    assert sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()) == [
        "bad/2",
        "good/1",
        "good/3",
    ]
    shown = rig.show(completed[1])
    assert (shown["category"], shown["priority"], shown["retries"]) == ("BIG", 7, 1)
    told = [phase for attempt in shown["attempts"] for phase in attempt["phases"]]
    assert [phase["name"] for phase in told] == ["stage_in", "run", "poll", "stage_out", "store"]
    times = [time for phase in told for time in (phase["began_at"], phase["ended_at"])]
    assert times == sorted(times)
    [batch] = json.loads(rig.run("batch_status", "all", "--format", "json").stdout)["batches"]
    assert (batch["notes"], batch["done"], batch["jobs"]) == ("every key", 3, 3)
    rig.assert_clean()


def test_no_value_becomes_a_part_of_a_command(rig: Rig, tmp_path: Path) -> None:
    """Values reach a shell as words or in the environment, never as its text: names of packages and of input and output files,
    what the environment and the output path say."""
    odd = """$(touch x) `touch x` 'q" ;touch x;&#*"""
    package = make_package(
        tmp_path / odd.replace("#", ""),
        bin__tool='#!/bin/sh\nprintf \'%s|\' "$@"; cat "$1"\n',
        package__setup_sh='PATH="$1/bin:$PATH"\n',
        package__commands='run_command = $1/bin/tool "$NAME" && cp "$NAME" "output/$NAME" && ls\n',
    )
    (tmp_path / "plain").write_text("content\n")
    name_in_address = (
        odd.replace("%", "%25").replace("#", "%23").replace("&", "%26").replace(" ", "%20").replace(";", "%3B")
    )
    said_of_it = {
        "software": str(package),
        "input_files": f"{tmp_path}/plain#name={name_in_address}",
        "environment": f"NAME={odd}",
    }
    quoted = {key: "'" + value.replace("'", "'\\''") + "'" for key, value in said_of_it.items()}
    name = describe(rig, f"job {odd}".replace("/", ""), retries=0, output_path=odd, batch="b", **quoted)
    rig.run_until_idle(**cache_in(tmp_path))
    told = said(rig, name).splitlines()
    assert outcome(rig, name) == ("completed", "succeeded", 0, 1), (told, rig.show(name)["attempts"])
    assert told[0] == f"{odd}|content"
    assert sorted(told[1:]) == sorted([odd, "output"])
    assert (rig.home / "storage" / odd / odd).read_text() == "content\n"
    assert rig.run("get_output", odd, "-").stdout == "content\n"
    assert not list(tmp_path.rglob("x"))
    rig.assert_clean()
