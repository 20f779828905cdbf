"""jobjar show on a terminal: the first sentence is what a person can act on."""

from __future__ import annotations

import re
from pathlib import Path

from tests.follower import PROMPT
from tests.programs.test_list import on_terminal
from tests.rig import Rig, wait_until


def first_of(rig: Rig, job: str) -> str:
    """What a terminal shows before the details."""
    sentence, _, details = on_terminal(rig, "show", job, columns=300).partition("\n\n")
    assert details.startswith("name ")
    return sentence


def test_show_begins_on_a_terminal_with_what_there_is_to_know(rig: Rig, tmp_path: Path) -> None:
    ago = r"[0-9.]+ m?s?( [0-9]+ s)? ago"
    failing = rig.submit("--id", "bad", "--retries", "1", "seq 9; printf 'no \\033[1mway'; exit 3")
    silent = rig.submit("--retries", "0", "kill -9 $$")
    good = rig.submit("true")
    uids = {name: rig.show(name)["id"] for name in (failing, silent, good)}
    waits = first_of(rig, failing)
    told = r"has waited for .*: no worker that asks for uncategorized jobs is running; `start_worker` starts one"
    assert re.fullmatch(rf"{uids[failing]} \(bad\) {told}", waits), waits
    rig.run_until_idle()
    lines = first_of(rig, failing).splitlines()
    head = (
        rf"{uids[failing]} \(bad\) failed on the 2nd attempt, exit status 3, {ago}, after .*; last lines of its output:"
    )
    assert re.fullmatch(head, lines[0]), lines
    assert [line.strip() for line in lines[1:]] == ["6", "7", "8", "9", "no \\x1b[1mway"]
    assert re.fullmatch(
        rf"{uids[silent]} failed, signal KILL, {ago}, after .*; it wrote nothing", first_of(rig, silent)
    )
    assert re.fullmatch(rf"{uids[good]} succeeded, {ago}, after .*", first_of(rig, good))

    running = rig.submit(PROMPT.format(tmp_path, "go"))
    held = rig.submit("-c", "LINUX", "true")
    (rig.home / "unclaimed" / "LINUX" / held).rename(rig.home / "limbo" / held)
    assert " has waited for " in first_of(rig, held) and "it is in limbo, where no worker looks" in first_of(rig, held)
    worker = rig.start_worker()
    wait_until(lambda: rig.show(running)["attempts"], "the start")
    place = rig.show(running)["worker"]
    runs = rf"[0-9a-z]+ runs on {re.escape(place)} for [0-9.]+ s"
    wait_until(lambda: re.fullmatch(runs, first_of(rig, running)), "the start, which comes after the claim")
    rig.run("jobjar", "kill", running)
    rig.run("jobjar", "wait", "--timeout", "60s", running, check=False)
    assert re.search(rf" was killed, signal TERM, {ago}", first_of(rig, running))
    rig.stop_worker(worker)
    (rig.home / "limbo" / held).unlink()
    assert re.search(r" was removed .* ago: its file was taken away$", first_of(rig, held))
    # For programs nothing is said before the details.
    assert rig.run("jobjar", "show", failing).stdout.startswith("name ")


def test_show_fits_a_terminal_of_80_columns_and_has_places_in_short(rig: Rig) -> None:
    (rig.home.parent / "b.jug").write_text(
        'batch\nname = "lines"\nseeds = 1\n'
        "run_command = \"echo 'lines = 12 of them, which is a value of some length' > jug_monitor.vars; sleep 0.01\"\n"
    )
    rig.shell("submit_batch ../b.jug")
    failing = rig.run("jobjar", "submit", "--retries", "1", "--retry-delay", "0", "--tag", "x", "echo no; exit 3")
    wide = rig.run("jobjar", "submit", "--hold", "a-command", *("--an-option", "with its value") * 5).stdout.strip()
    rig.run_until_idle()
    uid = failing.stdout.strip()
    [described] = [rig.show(name) for name in rig.names("completed") if "lines" in name]
    for job in (uid, wide, described["id"]):
        shown = on_terminal(rig, "show", job)
        name = rig.show(job)["name"]
        # What is to be copied whole goes on in the next line of the terminal by itself.
        long = [line for line in shown.splitlines() if len(line) > 80]
        assert all(line.startswith(("name ", "output ")) for line in long), long
        assert shown.count(name) == 1 + shown.count(f"output/{name}"), shown
    text = on_terminal(rig, "show", uid)
    attempts, moves = text.split("Attempts\n")[1].split("\n\n")[0], text.split("Moves\n")[1]
    worker = rig.show(uid)["attempts"][0]["worker"]
    assert re.findall(r"^([12])  +(\S+) .* failed, exit 3 ", attempts, re.M) == [("1", worker), ("2", worker)]
    told = [tuple(line.split()[2:]) for line in moves.splitlines()[2:] if line]
    assert [row[:3] for row in told] == [
        ("submitted", "limbo", "unclaimed"),
        ("claimed", "unclaimed", worker),
        ("retried", worker, "unclaimed"),
        ("claimed", "unclaimed", worker),
        ("completed", worker, "completed"),
    ]
    assert "Variables of attempt 1\n" in on_terminal(rig, "show", described["id"])
