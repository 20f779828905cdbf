"""The examples of the pages, as a reader would type them: taken out of README.md, docs/ and the manual pages, and put together
into one session of a shell for each page.

A piece is what stands between blank lines of a block of code. What begins with `#!` is a program, `batch {` a submit file, a
table in brackets TOML or a configuration file: these are written down under the name that the page gives them. All else is
typed: of a session (`console`), in which output is shown too, what stands behind `$ `. Of a page of equivalents, the code in the
last cell of each line of its tables is typed too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "docs/tutorial.md", "docs/guide.md", "docs/described-jobs.md")),
    *(ROOT / name for name in ("docs/pilots.md", "docs/web.md")),
    *sorted((ROOT / "docs/man").iterdir()),
)
# A fenced block with its language, or lines that are indented by four blanks or more.
_BLOCK = re.compile(r"(?ms)^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]*\n(?:\n(?=    ))*)+)")
# A page of equivalents: what a person used to type, and what is typed here. Each of its sections is a session of its own.
EQUIVALENTS = ROOT / "docs/migration.md"
_ROW = re.compile(r"(?m)^\|.*(?<!\\)\| (?P<cell>.*) \|$")
_CODE = re.compile(r"`([^`]+)`")
_TROFF = re.compile(r"(?ms)^\.nf\n(.*?)^\.fi$")
# What a reader sees and does not type.
_SHOWN = ("text",)


class Piece(NamedTuple):
    """Lines of a page that belong together; `line` is the number of the first of them."""

    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """What tells it from others of its page: its first line, but of a program the second."""
        return self.text.splitlines()[self.language == "program"]


def read_sections() -> dict[str, list[Piece]]:
    """What the page of equivalents shows as code, in order, by the heading of its section."""
    text = EQUIVALENTS.read_text(encoding="utf-8")
    sections: dict[str, list[Piece]] = {}
    headings = [(text.count("\n", 0, found.start()) + 1, found[1]) for found in re.finditer(r"(?m)^## (.*)$", text)]
    for piece in read_pieces(EQUIVALENTS):
        [*_, (_, heading)] = [heading for heading in headings if heading[0] < piece.line]
        sections.setdefault(heading, []).append(piece)
    return sections


def read_pieces(page: Path) -> list[Piece]:
    """What a page shows as code, in order."""
    text = page.read_text(encoding="utf-8")
    pieces: list[Piece] = []
    if page == EQUIVALENTS:
        for row in _ROW.finditer(text):
            line = text.count("\n", 0, row.start()) + 1
            pieces += [Piece(line, "sh", code.replace("\\|", "|") + "\n") for code in _CODE.findall(row["cell"])]
    if page.suffix == ".md":
        for block in _BLOCK.finditer(text):
            language, content = block["language"] or "sh", block["fenced"]
            if content is None:
                content = re.sub(r"(?m)^    ", "", block["indented"])
            if language not in _SHOWN:
                pieces += _split(text.count("\n", 0, block.start()) + 1, language, content)
    else:
        for found in _TROFF.finditer(text.partition(".SH EXAMPLES\n")[2]):
            content = found[1].replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")
            pieces += _split(text.count("\n", 0, text.index(found[0])) + 1, "sh", content)
    return sorted(pieces, key=lambda piece: piece.line)


def _split(line: int, language: str, content: str) -> Iterator[Piece]:
    if language != "sh":
        yield Piece(line, language, content)
        return
    for part in re.split(r"\n{2,}", content.strip("\n")):
        yield Piece(line, _kind_of(part), part + "\n")
        line += part.count("\n") + 2


def _kind_of(part: str) -> str:
    if part.startswith("#!"):
        return "program"
    code = [text for text in part.splitlines() if not text.startswith(("#", ";"))]
    if code and re.match(r"batch\b", code[0]):
        return "jug"
    if code and re.match(r"\[\[?batch\]", code[0]):
        return "toml"
    return "configuration" if code and code[0].startswith("[Job Jar]") else "sh"


class Stage(NamedTuple):
    """What a test does around a piece: lines of sh before and after it, and of lines that cannot be run here what stands in for
    them and why."""

    before: str = ""
    after: str = ""
    name: str = ""
    instead: Mapping[str, tuple[str, str]] = {}


def make_session(pieces: list[Piece], stages: Mapping[str, Stage]) -> str:
    """A script for sh that types the pieces, in one session; each has to succeed. `stages` go by how a piece begins, what is
    typed `instead` by how a line begins: each stands for something that there is."""
    lines = ["set -e"]
    left = dict(stages)
    for piece in pieces:
        start = next((start for start in left if piece.first.startswith(start)), None)
        stage = Stage() if start is None else left.pop(start)
        lines += [f"echo '@ line {piece.line}' >&2", stage.before, _type(piece, stage), stage.after]
    assert not left, f"no piece begins so any more: {list(left)}"
    return "\n".join(lines) + "\n"


def _type(piece: Piece, stage: Stage) -> str:
    if piece.language == "python":
        return f"python3 - <<'end of python'\n{piece.text}end of python\n"
    if piece.language not in ("sh", "console") or stage.name:
        return _write_down(piece, stage)
    lines, left = [], set(stage.instead)
    typed = piece.text.splitlines()
    if piece.language == "console":
        typed = [line[2:] for line in typed if line.startswith("$ ")]
    for line in typed:
        start = next((start for start in stage.instead if line.startswith(start)), None)
        left.discard(start or "")
        lines.append(line if start is None else stage.instead[start][0])
    assert not left, f"line {piece.line}: no line begins so any more: {left}"
    return "\n".join(lines) + "\n"


def _write_down(piece: Piece, stage: Stage) -> str:
    assert stage.name, f"line {piece.line}: under what name is this {piece.language} to be written down?\n{piece.text}"
    mode = "755" if piece.language == "program" else "644"
    return f"cat > {stage.name} <<'end of file'\n{piece.text}end of file\nchmod {mode} {stage.name}\n"
