"""The library as a jar carries it: this package and all that it needs, in `python/`. Any Python of this system that is new
enough can run it, without pip, without a network, and without the installation that it was copied from.

Reads what is installed; writes `python/` of a jar. A kill midway leaves a mix of old and new files; doing it again completes
it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterator

from jobjar.errors import CannotCarry, UnsafeLink
from jobjar.settings.layers import home_of_library
from jobjar.shared_disk.creating import TEMPORARY, set_mode
from jobjar.shared_disk.files import read_file, remove_file, write_if_other
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.regular import UnfitFile
from jobjar.shared_disk.trees import remove_empty_directories

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
# The list of the carried files, one path a line. An upgrade may replace or remove only these; other people's files stay.
CARRIED = "carried"
# These packages are purely compiled, so a copy fits one kind of machine and one Python. The jar does without them: Python has its
# own sqlite3, and Linux has /proc instead of psutil.
_COMPILED = frozenset(["psutil", "pysqlite3"])
# Other packages have compiled parts too. These are left out; the packages work without them.
_LEFT_OUT = (".so", ".pyd", ".dylib", ".pyc", ".pth", ".pyx", ".pxd", ".pxi", ".c", ".h", ".pyi")
# Files in which pip records where and how it installed a package.
_NOTED = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json")
_PYTHONS = [f"python3.{minor}" for minor in range(15, 10, -1)]
# `python3` may be too old while a newer one is installed beside it. The program itself checks the version: a check before it
# would start one more Python for each program.
_LAUNCHER = """\
#!/bin/sh
''':'
# To sh this is a program that has Python read this file, to Python it is a text.
for python in python3 @PYTHONS@; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" "$0" "$@"
done
echo "${0##*/}: there is no Python in PATH; Job Jar needs 3.11 or later" >&2
exit 1
'''
import os
import sys

if sys.version_info < (3, 11):
    for python in "@PYTHONS@".split():
        try:
            os.execvp(python, [python] + sys.argv)
        except OSError:
            pass
    found = "%s is Python %d.%d" % ((sys.executable,) + tuple(sys.version_info[:2]))
    sys.exit("%s: %s; Job Jar needs 3.11 or later in PATH" % (os.path.basename(sys.argv[0]), found))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + "/python")
""".replace("@PYTHONS@", " ".join(_PYTHONS))


def find_python() -> str:
    """Lines of sh that have a Python which is new enough run this file, or say what lacks."""
    words = " ".join(["python3", *_PYTHONS])
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return (
        f"for python in {words}; do\n"
        f'    "$python" -c "{check}" >/dev/null 2>&1 && exec "$python" "$0" "$@"\n'
        'done\necho "${0##*/}: there is no Python 3.11 or later in PATH, which Job Jar needs" >&2\nexit 1\n'
    )


def launch(body: str) -> str:
    """A program of a jar that carries its library: `body` (Python), after lines that find a Python and the library."""
    return _LAUNCHER + body.removeprefix("import sys\n")


def collect_library() -> dict[str, str]:
    """All files of the library. The keys are paths below a directory of Python's path, the values are the files to copy.

    Raises CannotCarry if it is not known which files are installed.
    """
    home = home_of_library()
    if home is not None:
        names = _read_carried(f"{home}/python")
        if not names:  # never replace somebody's library by an empty one
            raise CannotCarry(what=f"{home}/python", reason="its list of files is missing")
        return {name: f"{home}/python/{name}" for name in names}
    files = {f"jobjar/{name}": path for name, path in _walk(_PACKAGE)}
    for distribution in _find_distributions():
        if distribution.files is None:
            raise CannotCarry(what=distribution.metadata["Name"], reason="it does not say which files it has")
        for file in distribution.files:
            if file.parts[0] not in ("..", "jobjar") and _is_wanted(file):
                files[str(file)] = str(file.locate())
    return files


def _walk(top: str) -> Iterator[tuple[str, str]]:
    """The files of this package: the path inside it, and the real path."""
    for directory, names, files in os.walk(top, followlinks=True):
        names.sort()
        for name in files:
            path = f"{directory}/{name}"
            inner = importlib.metadata.PackagePath(os.path.relpath(path, top))
            if _is_wanted(inner) and not (inner.parts[0] == "documents" and name.endswith(".py")):
                yield str(inner), path


def _is_wanted(file: importlib.metadata.PackagePath) -> bool:
    is_noted = file.parts[0].endswith(".dist-info") and file.name in _NOTED
    return not is_noted and "__pycache__" not in file.parts and not file.name.endswith(_LEFT_OUT)


def _find_distributions() -> Iterator[importlib.metadata.Distribution]:
    """The installed distributions of this package and of all that it needs, except the purely compiled ones."""
    waiting = [("jobjar", True)]
    known = set(_COMPILED)
    while waiting:
        name, is_needed = waiting.pop()
        if name in known:
            continue
        # A distribution that was built in a source tree but never installed lacks its file list and its licence.
        found = [each for each in importlib.metadata.distributions(name=name) if each.read_text("METADATA")]
        if not found and is_needed:
            raise CannotCarry(what=name, reason="it is not installed here, or not by pip")
        known.add(name)
        for distribution in found[:1]:
            yield distribution
            for requirement in distribution.requires or ():
                wanted, _, condition = requirement.partition(";")
                named = re.match(r"[\w.-]+", wanted)
                is_for_view = name == "jobjar" and re.search(r"extra == .web.", condition) is not None
                if named and ("extra" not in condition or is_for_view):
                    # A dependency for some systems only is installed only on such a system. What draws the view's pages is
                    # carried if it is here.
                    required = re.sub(r"[-_.]+", "-", named[0]).lower()
                    waiting.append((required, not is_for_view and (name == "jobjar" or not condition)))


def _read_carried(python: str) -> list[str]:
    try:
        names = read_file(f"{python}/{CARRIED}").decode().splitlines()
    except (FileNotFoundError, UnfitFile):
        return []
    # In a group's jar, any member may have written this list.
    return [name for name in names if ".." not in name.split("/") and not name.startswith("/")]


def carry_library(python: str, mode: int, file_mode: int) -> None:
    """Put the library into the directory `python` of a jar. Makes the directory with these modes, or replaces the library in it.

    Raises CannotCarry, UnsafeLink, OSError.
    """
    home = home_of_library()
    if home is not None and os.path.isdir(python) and os.path.samefile(python, f"{home}/python"):
        return
    files = collect_library()
    before = set(_read_carried(python))
    directories = sorted({part for name in files for part in _directories_above(name)})
    for directory in (python, *(f"{python}/{name}" for name in directories)):
        if os.path.islink(directory):
            raise UnsafeLink(path=directory)
        os.makedirs(directory, exist_ok=True)
        set_mode(directory, mode)
        remove_leftovers(directory, ".+?" + TEMPORARY)
    # Nothing is synced, as with tar: after a power failure a damaged file differs, so the next run writes it again.
    # List old and new files first: after a kill, every file that is here is known to be ours.
    write_if_other(
        f"{python}/{CARRIED}",
        "".join(f"{name}\n" for name in sorted(before | set(files))).encode(),
        file_mode,
        syncs=False,
    )
    for name, source in sorted(files.items()):
        with open(source, "rb") as file:
            write_if_other(f"{python}/{name}", file.read(), file_mode, syncs=False)
    for name in sorted(before - set(files)):
        remove_file(f"{python}/{name}")
    remove_empty_directories(python)
    write_if_other(
        f"{python}/{CARRIED}", "".join(f"{name}\n" for name in sorted(files)).encode(), file_mode, syncs=False
    )


def _directories_above(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name
