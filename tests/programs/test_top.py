"""jobjar top: the live screen, in a terminal of tmux; one screen where there is no terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobjar
from jobjar.reports.overview import SORTS
from tests.follower import PROMPT
from tests.programs.test_list import on_terminal
from tests.rig import BIN, Rig, wait_until


class Tmux:
    """`jobjar top` in a terminal of tmux. Its server is this test's own."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self._rig = rig
        self._socket = str(directory / "tmux")

    def tell(self, *words: str) -> str:
        result = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *words],
            env={**self._rig.environment, "TERM": "xterm-256color"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def start(self, *words: str, columns: int = 80, lines: int = 24) -> None:
        line = f"{shlex.join([str(BIN / 'jobjar'), 'top', '--every', '0.2s', *words])}; echo status $?; exec cat"
        self.tell("new-session", "-d", "-x", str(columns), "-y", str(lines), line)

    def lines(self) -> list[str]:
        return self.tell("capture-pane", "-p").split("\n")[:-1]

    def wait_for(self, *texts: str, without: str = "\0") -> list[str]:
        """The screen, when all of these are on it, in whatever lines, and `without` is not."""
        seen: list[str] = []

        def is_there() -> bool:
            seen[:] = self.lines()
            screen = "\n".join(seen)
            return all(text in screen for text in texts) and without not in screen

        try:
            wait_until(is_there)
        except AssertionError:
            raise AssertionError(f"{texts} without {without!r}, on:\n" + "\n".join(seen)) from None
        return seen

    def type(self, *keys: str) -> None:
        self.tell("send-keys", *keys)

    def enter(self, text: str) -> None:
        self.tell("send-keys", "-l", "--", text)
        self.type("Enter")

    def end(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, timeout=60)


@pytest.fixture
def tmux(rig: Rig, tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    terminal = Tmux(rig, tmp_path)
    yield terminal
    terminal.end()


def names(screen: list[str]) -> list[str]:
    """The names of the jobs that a screen lists, in order."""
    [head] = [row for row, line in enumerate(screen) if line.startswith("id ")]
    return [line.split()[-1] for line in screen[head + 1 : -1] if line.strip()]


@pytest.mark.usefixtures("own_library")
def test_a_screen_follows_the_jar_and_lists_sorts_filters_and_cancels(rig: Rig, tmux: Tmux, tmp_path: Path) -> None:
    worker = rig.start_worker()
    rig.submit("-i", "bad", "exit 3")
    rig.submit("-i", "slow", PROMPT.format(tmp_path, "go"))
    for number in range(40):
        jobjar.submit_job("true", category="GPU", priority=-number, id=f"train{number}")
    tmux.start()
    screen = tmux.wait_for("40 waiting, 1 running, 0 in limbo, 1 ended", "1 busy", "jobs 1 to 14 of 42")
    assert max(map(len, screen)) <= 80 and len(screen) == 24
    assert any(line.startswith("! 40 jobs of category GPU: no worker that asks for") for line in screen)
    assert any(line.startswith(f"{os.uname().nodename}.{worker.pid} ") and " busy " in line for line in screen)
    assert names(screen) == ["slow", *(f"train{number}" for number in range(13))]
    # What is submitted and what ends is there at the next look.
    (tmp_path / "go").touch()
    rig.submit("-i", "more", "true")
    screen = tmux.wait_for("40 waiting, 0 running, 0 in limbo, 3 ended", "1 failed, 2 succeeded in the last hour")
    tmux.type("End")
    assert names(tmux.wait_for("jobs 30 to 43 of 43"))[-1] == "bad"
    tmux.type("s", "r", "Home")
    assert names(tmux.wait_for("jobs 1 to 14 of 43; by age, reversed"))[0] == "bad"  # the oldest
    tmux.type("/")
    tmux.type("a", "b", "BSpace")
    tmux.wait_for("filter: a_")
    tmux.type("C-u")
    tmux.enter("--state nothing")
    tmux.wait_for("there is no state 'nothing'")
    tmux.type("/")
    tmux.enter("--batch none")
    tmux.wait_for("there is no batch")
    tmux.type("/")
    tmux.enter("train1* --category GPU")
    tmux.wait_for("jobs 1 to 11 of 11; by age, reversed; train1* --category GPU")
    tmux.type("r")
    assert names(tmux.wait_for("jobs 1 to 11 of 11; by age; train1*"))[0] == "train19"  # the youngest
    tmux.type("Down", "c")
    train18 = tmux.wait_for("cancel? y/n ", "waiting")[-1].split()[2]
    tmux.type("n")
    tmux.wait_for("nothing was cancelled")
    tmux.type("c", "y")
    tmux.wait_for("cancelled 1 waiting job", "39 waiting")
    assert rig.show(train18)["outcome"] == "cancelled"
    # A terminal of another size, down to one of a single character.
    for columns, lines in ((40, 24), (40, 8), (20, 4), (1, 1), (132, 40)):
        tmux.tell("resize-window", "-x", str(columns), "-y", str(lines))
        wait_until(lambda lines=lines: len(tmux.lines()) == lines)  # type: ignore[misc]
        screen = tmux.wait_for("" if columns < 20 else f"{rig.home}"[:8])
        assert max(map(len, screen)) <= columns
    tmux.type("Home")
    tmux.wait_for("jobs 1 to 11 of 11; by age; train1* --category GPU")
    tmux.type("h")
    tmux.wait_for("any key: back")
    tmux.type("q", "q")
    tmux.wait_for("status 0")
    rig.stop_worker(worker)
    rig.assert_clean()


def test_it_survives_a_jar_that_goes_away_and_a_ledger_that_is_made_anew(rig: Rig, tmux: Tmux, tmp_path: Path) -> None:
    rig.submit("-i", "one", "true")
    tmux.start("--sort", "age", columns=200)
    tmux.wait_for("1 waiting", "jobs 1 to 1 of 1; by age")
    rig.run("jobjar", "rebuild")
    rig.submit("-i", "two", "true")
    tmux.wait_for("2 waiting", "two")
    (rig.home / "ledger" / "ledger.db").unlink()
    rig.submit("-i", "three", "true")
    tmux.wait_for("3 waiting", "three")
    away = tmp_path / "away"
    rig.home.rename(away)
    tmux.wait_for("is not a jar (there is no such directory)", "3 waiting")
    assert not rig.home.exists()
    away.rename(rig.home)
    rig.submit("-i", "four", "true")
    tmux.wait_for("4 waiting", "four", without="not a jar")
    # Ended by a signal, it leaves the terminal as that was.
    [process] = [process for process in rig.processes() if "top" in process.cmdline()]
    os.kill(process.pid, signal.SIGTERM)
    screen = tmux.wait_for("status 143", without="four")
    assert screen[0] == "status 143"
    rig.assert_clean()


def test_without_a_terminal_one_screen_is_printed(rig: Rig) -> None:
    assert "no job fits" in rig.run("jobjar", "top").stdout
    for number in range(3):
        rig.submit("-i", f"job{number}", "true")
    result = rig.run("jobjar", "top", "--sort", "age", "--reverse")
    head, jobs = result.stdout.split("\n\n")
    assert head.split("\n")[0].endswith(str(rig.home)) and "3 waiting, 0 running, 0 in limbo, 0 ended" in head
    assert "! no worker is running; `start_worker` starts one (3 jobs)" in head or "! no worker is running" in head
    assert [line.split()[-1] for line in jobs.strip().split("\n")] == ["job", "job0", "job1", "job2"]
    assert result.stderr == ""
    one = rig.run("jobjar", "top", "*-job1.*").stdout
    assert "job1" in one and "job0" not in one
    for words, told in (
        (["--every", "0"], "--every: '0' is less than 0.1 s"),
        (["--sort", "job"], "jobs are not sorted by job here"),
        (["--sort", "agee"], "did you mean age?"),
        (["--batch", "none"], "there is no batch"),
    ):
        refused = rig.run("jobjar", "top", *words, check=False)
        assert refused.returncode != 0 and told in refused.stderr
    assert None in SORTS and "command" not in SORTS


def test_a_terminal_that_can_show_no_screen_gets_one_and_is_told_why(rig: Rig, tmp_path: Path) -> None:
    rig.submit("-i", "job", "true")
    said = on_terminal(rig, "top", TERM="dumb")
    assert "the terminal 'dumb' cannot place text, so this is one screen" in said and " job" in said
    said = on_terminal(rig, "top", TERM="no-such-terminal")
    assert "nothing is known of the terminal 'no-such-terminal'" in said and "1 waiting" in said
    (tmp_path / "curses.py").write_text("raise ImportError")
    said = on_terminal(rig, "top", PYTHONPATH=str(tmp_path))
    assert "has no module curses, so this is one screen" in said and "1 waiting" in said
    assert "1 waiting" in on_terminal(rig, "top", "--once", columns=40)
