"""Names that are not UTF-8, anywhere in a jar: they are no jobs, are told by an escaped name, and stop nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.rig import BIN, Rig

# `Prüfung` as ISO-8859-1 has it: no UTF-8.
ODD = b"Pr\xfcfung"
ESCAPED = r"Pr\xfcfung"
NEVER = "#!/bin/sh\necho this must not be run\n"


def run(rig: Rig, program: str, *words: bytes | str, **changes: str) -> tuple[int, str, str]:
    """Run a program whose words and output may be any bytes; what is no UTF-8 is given back as surrogates."""
    result = subprocess.run(
        [BIN / program, *words],
        env={**rig.environment, **changes},
        capture_output=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    out, err = (text.decode("utf-8", "surrogateescape") for text in (result.stdout, result.stderr))
    assert "Traceback" not in err, err
    return result.returncode, out, err


def litter(rig: Rig) -> list[bytes]:
    """Put a directory, a file with a run bit, and a file in an odd category into every directory of the jar that is there."""
    made = []
    home = os.fsencode(rig.home)
    for path, directories, _ in list(os.walk(home)):
        if b"/bin" in path or b"/documents" in path or path == home:
            continue
        for name in (ODD + b".d", ODD):
            made.append(path + b"/" + name)
        os.mkdir(made[-2])
        for name in (made[-1], made[-2] + b"/" + ODD, made[-2] + b"/plain"):
            with open(name, "w", encoding="utf-8") as file:
                file.write(NEVER)
            os.chmod(name, 0o755)
        del directories
    return made


@pytest.fixture
def littered(rig: Rig) -> Rig:
    """A jar with a completed, a failed, a described and a waiting job, a batch, a limit, an archive, and odd names everywhere."""
    rig.submit("echo done")
    rig.submit("exit 3")
    rig.run_until_idle()
    rig.run("workload_limit", "LINUX", "3")
    for path in ("archive/2026-01-01/completed", "archive/2026-01-01/workers", "underway/one", "unclaimed/LINUX"):
        (rig.home / path).mkdir(parents=True, exist_ok=True)
    litter(rig)
    return rig


PROGRAMS = [
    ("system_status",),
    ("system_status", "--format", "json"),
    ("batch_status",),
    ("recover_jobs",),
    ("recover_jobs", "--nightly"),
    ("jobjar", "rebuild"),
    ("jobjar", "check"),
    ("jobjar", "config"),
    ("jobjar", "wait", "--all", "--timeout", "20s"),
    ("workload_limit",),
    ("list_outputs",),
    ("stop_worker", "all"),
    ("check_workers", "--help"),
    ("jobjar", "doctor"),
]


def test_names_that_are_not_text_stop_no_program(littered: Rig) -> None:
    for words in PROGRAMS:
        status, out, err = run(littered, *words)
        print(words, status, out[-300:], err[-600:])
        assert status == 0 or words[1:2] in (("doctor",), ("wait",)), (words, out, err)
        out.encode()
        err.encode()


def test_other_jobs_go_on_among_names_that_are_not_text(littered: Rig) -> None:
    name = littered.submit("echo goes on")
    littered.drop("byhand.7", "#!/bin/sh\necho too\n", category="LINUX")
    said = littered.run_until_idle("LINUX")
    assert "must not" not in said
    assert littered.show(name)["outcome"] == "succeeded"
    assert littered.show("byhand.7")["outcome"] == "succeeded"
    littered.assert_clean()
    for path in ("unclaimed", "completed", "limbo", "archive/2026-01-01/completed"):
        assert (os.fsencode(littered.home / path) + b"/" + ODD) in list_bytes(littered.home / path)


def list_bytes(path: Path) -> list[bytes]:
    return [os.fsencode(path) + b"/" + name for name in os.listdir(os.fsencode(path))]


def test_the_status_lists_what_is_no_job_by_its_escaped_name(littered: Rig) -> None:
    _, out, _ = run(littered, "system_status")
    assert f"unclaimed/{ESCAPED} is not a job: its name: it is not UTF-8" in out, out
    assert f"unclaimed/{ESCAPED}.d is not a job: its name: it is not UTF-8" in out, out
    assert "unclaimed    claimed" in out and out.splitlines()[4].split() == ["0", "0", "0", "2"]


@pytest.mark.parametrize(
    "words",
    [
        ("jobjar", "show", b"\xff"),
        ("jobjar", "output", b"\xff"),
        ("jobjar", "kill", b"\xff"),
        ("jobjar", "wait", b"\xff"),
        ("get_output", b"\xff"),
        ("get_output", b"\xff", b"\xfe"),
        ("list_outputs", b"\xff"),
        ("batch_status", b"\xff"),
        ("abort_batch", b"\xff"),
        ("batch_edit", b"\xff", "notes=x"),
        ("submit_batch", b"\xff"),
        ("submit_job", b"-i", b"\xff", b"echo x"),
        ("submit_job", b"-c", b"\xff", b"echo x"),
        ("submit_job", b"--priority", b"\xff", b"echo x"),
        ("stop_worker", b"\xff"),
        ("pause_worker", b"\xff"),
        ("start_worker", b"\xff"),
        ("check_workers", "--storage", b"\xff"),
        ("workload_limit", b"\xff", b"1"),
        ("recover_jobs", b"--node", b"\xff"),
        ("recover_jobs", b"--worker", b"\xff"),
        ("jobjar", "rebuild", b"\xff"),
        ("jobjar", b"\xff"),
        ("jobjar", "doctor", b"--peer", b"\xff"),
        ("system_status", b"--home", b"\xff"),
        ("unique_job_name", b"-i", b"\xff"),
    ],
    ids=lambda words: "-".join(os.fsdecode(word) for word in words if word != b"\xff").replace(" ", "_"),
)
def test_a_word_that_is_not_text_is_refused_with_a_message_that_shows_it(
    rig: Rig, words: tuple[bytes | str, ...]
) -> None:
    status, out, err = run(rig, *words)  # type: ignore[arg-type]
    print(status, out, err)
    assert status in (1, 2), (out, err)
    assert r"\xff" in err or r"\udcff" in err, err
    err.encode()


def test_a_command_that_is_not_text_is_run_as_the_bytes_that_it_is(rig: Rig) -> None:
    status, out, err = run(rig, "submit_job", b"printf %s 'Pr\xfcfung'")
    assert status == 0, err
    rig.run_until_idle()
    result = subprocess.run([BIN / "jobjar", "output", out.strip()], env=rig.environment, capture_output=True)
    assert result.stdout == ODD


def test_a_jar_may_lie_in_a_directory_whose_name_is_not_text(tmp_path: Path) -> None:
    place = os.fsdecode(os.fsencode(tmp_path) + b"/" + ODD)
    os.mkdir(place)
    rig = Rig(Path(place) / "jar")
    try:
        name = rig.submit("pwd")
        described = rig.drop("described.3", "#!/bin/sh\necho $JJ_HOME\n")
        rig.run_until_idle()
        assert rig.show(name)["outcome"] == rig.show(described.name)["outcome"] == "succeeded"
        for words in PROGRAMS:
            if words != ("jobjar", "wait", "--all", "--timeout", "20s"):
                run(rig, *words)
        run(rig, "jobjar", "show", name)
        run(rig, "jobjar", "output", name)
        rig.assert_clean()
    finally:
        rig.end_everything()


def test_filters_and_reasons_that_are_not_text_stop_no_verb_and_no_reader(rig: Rig, tmp_path: Path) -> None:
    kept = rig.submit("-c", "LATER", "true")
    for words in (("list", "--name"), ("hold", "--category"), ("cancel", "--batch"), ("explain", "--node")):
        status, out, err = run(rig, "jobjar", *words, ODD)
        assert status == 1 and ESCAPED in err, (words, out, err)
    assert rig.show(kept)["state"] == "unclaimed"
    rig.run("jobjar", "hold", kept)
    cancelled = rig.submit("-c", "LATER", "true")
    status, _, err = run(rig, "jobjar", "cancel", cancelled, "--reason", ODD)
    assert status == 0, err
    # Its output cannot be opened, and the message says where that is.
    (tmp_path / os.fsdecode(ODD)).mkdir()
    status, out, err = run(rig, "jobjar", "submit", "--output", os.fsencode(tmp_path) + b"/" + ODD, "true")
    assert status == 0, err
    assert rig.run_until_idle().count("no entry may say") == 0
    for name in (cancelled, out.strip()):
        assert ESCAPED in rig.show(name)["attempts"][-1]["message"]
    rig.assert_clean()
