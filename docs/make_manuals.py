"""Fill in what the manual pages share with the code: each program's options, and the settings.

    python docs/make_manuals.py            write docs/man/*
    python docs/make_manuals.py --check    write nothing; exit status 1 if a page is not up to date

The prose of a page is written by hand in the page itself. Between `.\\" begin options PROGRAM` and `.\\" end` stands what
that program's own parser says, between `.\\" begin settings` and `.\\" end` the table of jobjar/settings/layers.py.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from unittest.mock import patch

import jobjar
from jobjar.settings.table import TABLE

PAGES = Path(__file__).parent / "man"
_REGION = re.compile(r'(?m)^(\.\\" begin (options|settings)(?: ([a-z_ ]+))?\n)(?s:.*?)^(\.\\" end\n)')


class _Caught(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def read_parser(program: str) -> argparse.ArgumentParser:
    """The parser that a program, or `jobjar VERB`, parses its words with."""

    def catch(self: argparse.ArgumentParser, *rest: object, **named: object) -> None:
        raise _Caught(self)

    module = importlib.import_module(f"jobjar.programs.{program.removeprefix('jobjar ')}")
    with patch.object(argparse.ArgumentParser, "parse_args", catch):
        try:
            module.main([], program=program)
        except _Caught as caught:
            return caught.parser
    raise ValueError(f"{program} has no parser")


def escape(text: str) -> str:
    """Text as troff wants it."""
    return re.sub(r"(?m)^([.'])", r"\\&\1", text.replace("\\", "\\e").replace("-", "\\-"))


def format_options(program: str) -> str:
    """A program's options and words, as its parser has them."""
    lines = []
    # argparse gives no other way to read a parser back.
    for action in read_parser(program)._actions:
        if action.help == argparse.SUPPRESS:
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else ""
        if action.option_strings:
            value = f" \\fI{escape(metavar or action.dest.upper())}\\fR" if action.nargs != 0 else ""
            term = ", ".join(f"\\fB{escape(option)}\\fR{value}" for option in action.option_strings)
        else:
            term = f"\\fI{escape(metavar)}\\fR"
        help_text = (action.help or "").replace("show this help message", "print a short help")
        lines += [".TP", term, escape(sentence(help_text))]
    return "\n".join(lines) + "\n"


def sentence(text: str) -> str:
    start = text if text.startswith("json") else text[:1].upper() + text[1:]
    return start if text.endswith(".") else start + "."


def format_settings() -> str:
    """Every setting: its name, its default, where it may be set, and its help."""
    lines = []
    for setting in TABLE:
        default = f"default: {escape(setting.default)}; " if setting.default else ""
        # The library sets only what it has a function for.
        function = f"set_{setting.name.removeprefix('JJ_').lower()}"
        layers = [layer for layer in setting.layers.split(", ") if layer != "library"]
        layers += [f"library ({function})"] if hasattr(jobjar, function) else []
        lines += [".TP", f"\\fB{setting.name}\\fR ({default}set in: {escape(', '.join(layers))})", escape(setting.help)]
    return "\n".join(lines) + "\n"


def fill_page(text: str) -> str:
    """A page with its generated parts made anew."""

    def fill(found: re.Match[str]) -> str:
        begin, kind, program, end = found.groups()
        return begin + (format_settings() if kind == "settings" else format_options(program)) + end

    return _REGION.sub(fill, text)


def main(words: list[str]) -> int:
    stale = 0
    for page in sorted(PAGES.iterdir()):
        text = page.read_text(encoding="utf-8")
        filled = fill_page(text)
        if filled == text:
            continue
        stale += 1
        print(page.name)
        if "--check" not in words:
            page.write_text(filled, encoding="utf-8")
    return 1 if stale and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
