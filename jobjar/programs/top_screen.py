"""The live screen of `jobjar top`, by curses: draws what a watcher sees (top_watcher.py), and answers keys. Writes no file."""

from __future__ import annotations

import argparse
import contextlib
import curses
import locale
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from jobjar.errors import JarError, UsageError
from jobjar.programs.options import add_selection, read_selection
from jobjar.programs.terminal import has_colours
from jobjar.programs.top_watcher import Watcher
from jobjar.reports.listing import ListedJob
from jobjar.reports.listing_table import cut, shown_width
from jobjar.reports.overview import Asked, Page
from jobjar.reports.overview_lines import HEAD, TITLE, WARNING, Line, describe_page, lay_out, name_job
from jobjar.settings.layers import Settings
from jobjar.text import printable_name

# The columns that a key goes through. None is the order of states.
_SORTS = (None, "age", "ran", "exit", "worker", "category", "batch", "priority", "submitter")
_KEYS = "q quit  / filter  s sort  r reverse  c cancel  h keys"
_HELP = (
    "up, down, page up, page down, home, end: go through the jobs",
    "s: sort by the next column    r: the other way round",
    "/: show only some jobs; type what `jobjar list` takes:",
    "   train*    --state failed    --category GPU    --since 1h",
    "   and nothing for all of them; Esc leaves it as it was",
    "c: cancel the job under the cursor, if it is yours",
    "space: look now    q: quit",
    "any key: back",
)
_COLOURS = {
    **dict.fromkeys(("running", "busy"), curses.COLOR_CYAN),
    **dict.fromkeys(("held", "limbo", "paused"), curses.COLOR_YELLOW),
    "succeeded": curses.COLOR_GREEN,
    **dict.fromkeys(("failed", "timed_out", "killed", "crashed", "dead", "silent", "unknown"), curses.COLOR_RED),
    WARNING: curses.COLOR_RED,
}
# How long a look for a key waits: while an answer is awaited, and else.
_SOON_MS, _IDLE_MS = 20, 250
_ESCAPE, _LINE_ENDS, _ERASERS, _CLEAR = "\x1b", ("\n", "\r"), ("\x08", "\x7f"), "\x15"
_END_WITHIN_S = 1.0


def show_screen(settings: Settings, asked: Asked, every_s: float) -> int:
    """Show the screen until the person quits; returns the exit status."""
    _take_locale()
    curses.set_escdelay(25)
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # curses would believe these, however the size of the terminal changes
    before = signal.signal(signal.SIGTERM, _leave)  # else the terminal would stay as curses has made it
    watcher = Watcher(settings, every_s)
    try:
        curses.wrapper(lambda window: _Screen(window, watcher, asked).run())
    finally:
        signal.signal(signal.SIGTERM, before)
        watcher.end(_END_WITHIN_S)
    return 0


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _take_locale() -> None:
    """Have curses write UTF-8, also where the locale is C."""
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    if locale.nl_langinfo(locale.CODESET).upper() == "ANSI_X3.4-1968":
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(reason=message)


class _Screen:
    def __init__(self, window: curses.window, watcher: Watcher, asked: Asked) -> None:
        self._window = window
        self._watcher = watcher
        height, width = window.getmaxyx()
        self._asked = asked._replace(rows=height, width=width)
        self._cursor = 0  # the row of the selection that the cursor is on
        self._awaited = watcher.ask(self._asked)
        self._rows = 0
        self._notice = ""
        self._typed: str | None = None  # while a filter is typed
        self._question: ListedJob | None = None  # whether to cancel this
        self._question_row = ""
        self._is_help = False
        self._attributes: dict[str, int] = {HEAD: curses.A_REVERSE, TITLE: curses.A_BOLD, WARNING: curses.A_BOLD}
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        if has_colours():
            with contextlib.suppress(curses.error):  # the terminal has none
                self._take_colours()

    def _take_colours(self) -> None:
        curses.use_default_colors()
        for colour in sorted(set(_COLOURS.values())):
            curses.init_pair(colour, colour, -1)
        for mark, colour in _COLOURS.items():
            self._attributes[mark] = self._attributes.get(mark, 0) | curses.color_pair(colour)

    def run(self) -> None:
        self._watcher.start()
        drawn: object = None
        while True:
            seen = self._watcher.seen
            while self._watcher.notices:
                self._notice = printable_name(self._watcher.notices.popleft())
            now = (
                seen,
                self._notice,
                self._typed,
                self._question,
                self._is_help,
                self._cursor,
                self._window.getmaxyx(),
            )
            if now != drawn:
                drawn = now
                self._draw()
            self._window.timeout(_SOON_MS if seen.number < self._awaited else _IDLE_MS)
            try:
                key = self._window.get_wch()
            except curses.error:
                if not sys.stdin.isatty():
                    return  # nobody has this terminal any more
                continue
            if not self._take_key(key):
                return

    # Keys

    def _take_key(self, key: int | str) -> bool:
        """Answer a key; returns False if the person quits."""
        if key == curses.KEY_RESIZE:
            curses.update_lines_cols()
            self._window.erase()
        elif self._is_help:
            self._is_help = False
        elif self._typed is not None:
            self._take_typed(key, self._typed)
        elif self._question is not None:
            if key in ("y", "Y"):
                self._watcher.cancel(self._question)
                self._notice = f"cancelling {name_job(self._question)}"
            else:
                self._notice = "nothing was cancelled"
            self._question = None
        elif key in ("q", "Q"):
            return False
        else:
            self._notice = ""
            self._take_command(key)
        return True

    def _take_command(self, key: int | str) -> None:
        page = self._watcher.seen.page
        moves = {
            **dict.fromkeys((curses.KEY_UP, "k"), -1),
            **dict.fromkeys((curses.KEY_DOWN, "j"), 1),
            curses.KEY_PPAGE: -self._rows,
            curses.KEY_NPAGE: self._rows,
            curses.KEY_HOME: -self._cursor,
            curses.KEY_END: page.found if page is not None else 0,
        }
        if key in moves:
            self._move(moves[key])
        elif key == "s":
            known = _SORTS.index(self._asked.sort) if self._asked.sort in _SORTS else 0
            self._ask(self._asked._replace(sort=_SORTS[(known + 1) % len(_SORTS)]))
        elif key == "r":
            self._ask(self._asked._replace(is_reversed=not self._asked.is_reversed))
        elif key == "/":
            self._typed = ""
        elif key == "c":
            self._question = self._job_under_cursor()
            if self._question is not None:
                self._question_row = " ".join(self._watcher.seen.lines[self._row_of_cursor() + 1].text.split())
            else:
                self._notice = "there is no job under the cursor"
        elif key in ("h", "?"):
            self._is_help = True
        elif key == " ":
            self._watcher.look_now()

    def _take_typed(self, key: int | str, typed: str) -> None:
        if key in _LINE_ENDS or key == curses.KEY_ENTER:
            self._typed = None
            self._filter(typed)
        elif key == _ESCAPE:
            self._typed = None
        elif key in _ERASERS or key == curses.KEY_BACKSPACE:
            self._typed = typed[:-1]
        elif key == _CLEAR:
            self._typed = ""
        elif isinstance(key, str) and key.isprintable():
            self._typed = typed + key

    def _filter(self, typed: str) -> None:
        parser = _Parser(add_help=False)
        add_selection(parser)
        try:
            selection = read_selection(parser.parse_args(shlex.split(typed)))
        except (JarError, ValueError) as error:
            self._notice = printable_name(str(error))
            return
        self._cursor = 0
        self._ask(self._asked._replace(selection=selection, first=0))

    def _move(self, rows: int) -> None:
        page = self._watcher.seen.page
        last = max(page.found - 1, 0) if page is not None else 0
        self._cursor = min(max(self._cursor + rows, 0), last)
        first = min(self._asked.first, self._cursor)
        first = max(first, self._cursor - max(self._rows - 1, 0))
        if first != self._asked.first:
            self._ask(self._asked._replace(first=first))

    def _ask(self, asked: Asked) -> None:
        self._asked = asked
        self._awaited = self._watcher.ask(asked)

    def _row_of_cursor(self) -> int:
        return self._cursor - self._asked.first

    def _job_under_cursor(self) -> ListedJob | None:
        page = self._watcher.seen.page
        if page is None or page.asked != self._asked:
            return None
        row = self._row_of_cursor()
        return page.jobs[row] if 0 <= row < min(len(page.jobs), self._rows) else None

    # Drawing

    def _draw(self) -> None:
        height, width = self._window.getmaxyx()
        self._window.erase()
        seen = self._watcher.seen
        if self._is_help:
            lines = [Line(cut(text, width)) for text in _HELP]
            for row, line in enumerate(lines[:height]):
                self._write(row, line)
        elif seen.overview is None:
            self._write(
                0, Line(cut(printable_name(seen.error or "reading the jar"), width), WARNING if seen.error else "")
            )
        else:
            head, workers, rows = lay_out(seen.overview, width, height - 1)
            lines = [*head, *workers]
            self._fit(rows, width, seen.page)
            for row, line in enumerate(lines[: height - 1]):
                self._write(row, line)
            if seen.page is not None:
                self._draw_jobs(len(lines), seen.page, seen.lines[: max(height - 1 - len(lines), 0)])
        if height > 1:
            self._write(height - 1, self._last_line(width))
        self._window.refresh()

    def _fit(self, rows: int, width: int, page: Page | None) -> None:
        """Ask for what fits, and for the cursor's row, if the screen has another size now or there are fewer jobs."""
        if page is not None and page.asked == self._asked and self._cursor >= page.found:
            self._cursor = max(page.found - 1, 0)
        self._rows = rows
        first = self._asked.first
        if rows and not first <= self._cursor < first + rows:
            first = max(0, self._cursor - rows + 1)
        fitting = self._asked._replace(first=first, rows=rows, width=width)
        if fitting != self._asked:
            self._ask(fitting)

    def _draw_jobs(self, top: int, page: Page, lines: Sequence[Line]) -> None:
        for row, line in enumerate(lines):
            is_under_cursor = page.jobs and row - 1 == self._cursor - page.asked.first
            self._write(top + row, line, curses.A_REVERSE if is_under_cursor else 0)

    def _last_line(self, width: int) -> Line:
        seen = self._watcher.seen
        if self._typed is not None:
            text = f"filter: {self._typed}_"
            while shown_width(text) > width:  # the end is what is being typed
                text = text[1:]
            return Line(text, HEAD)
        if self._question is not None:
            return Line(cut(f"cancel? y/n  {self._question_row}", width), HEAD)
        if seen.error is not None:
            return Line(cut(printable_name(seen.error), width), WARNING)
        if self._notice:
            return Line(cut(self._notice, width), TITLE)
        where = describe_page(seen.page._replace(jobs=seen.page.jobs[: self._rows])) if seen.page is not None else ""
        source = f" ({seen.source})" if seen.source else ""
        return Line(cut(f"{where}{source}  {_KEYS}", width))

    def _write(self, row: int, line: Line, more: int = 0) -> None:
        attribute = self._attributes.get(line.mark, 0) | more
        text = line.text.encode(self._window.encoding, "replace").decode(self._window.encoding)
        with contextlib.suppress(curses.error):  # the cell at the lower right: the cursor cannot go past it
            self._window.addstr(row, 0, text, attribute)
            if attribute & curses.A_REVERSE:
                self._window.chgat(row, 0, -1, attribute)
