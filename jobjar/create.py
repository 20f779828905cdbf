"""Make a jar: its directories, programs, crontabs and configuration file. Doing it again changes nothing.

A kill midway leaves part of a jar; doing it again completes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys

from jobjar.access.refusals import explain_at
from jobjar.errors import CannotUseJar, DirectoryNotEmpty
from jobjar.jar import check_names_are_utf8
from jobjar.job_file.names import new_id
from jobjar.layout import Layout
from jobjar.self_contained import carry_library, launch
from jobjar.settings.layers import SECTION, home_of_library
from jobjar.settings.table import TABLE
from jobjar.shared_disk.creating import TEMPORARY, set_mode, write_whole
from jobjar.shared_disk.files import read_file, replace_file, write_if_other
from jobjar.shared_disk.leftovers import remove_leftovers
from jobjar.shared_disk.regular import UnfitFile
from jobjar.version import VERSION

_HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = f"{_HERE}/scripts"
CRONTABS = f"{_HERE}/crontabs"
DOCUMENTS = f"{_HERE}/documents"
# The placeholder for the jar's path in a crontab.
NOT_FILLED_IN = "@JJ_HOME@"
# The last line of each program of a jar begins with this, and ends with the version.
_MADE_BY = "# Made by Job Jar "
_SEARCHED = ("/usr/local/bin", "/usr/bin", "/bin")
PROGRAMS = (
    "start_worker",
    "stop_worker",
    "pause_worker",
    "unpause_worker",
    "check_workers",
    "check_pilots",
    "submit_job",
    "submit_batch",
    "batch_edit",
    "abort_batch",
    "unique_job_name",
    "system_status",
    "batch_status",
    "recover_jobs",
    "list_outputs",
    "get_output",
    "workload_limit",
    "jobjar",
)


def create_jar(path: str, for_group: bool = False, carries_library: bool = False) -> Layout:
    """Make a jar at `path`, mode 0700, or 2770 for a group. An existing jar keeps its files, and its mode unless `for_group`.

    `carries_library` gives it the library too (self_contained.py). A jar that already has the library gets a fresh copy. A jar
    made by the library of another jar always gets one, since nothing else may be installed.
    Raises DirectoryNotEmpty if `path` holds anything else, CannotCarry, CannotUseJar.
    """
    check_names_are_utf8()
    layout = Layout(os.path.abspath(path))
    is_jar = os.path.isdir(layout.unclaimed) and os.path.isdir(layout.limbo)
    try:
        if os.path.isdir(layout.home) and not is_jar and not _is_beginning_of_jar(layout):
            raise DirectoryNotEmpty(path=layout.home)
        mode = 0o2770 if for_group else 0o700
        if is_jar and not for_group:
            mode = stat.S_IMODE(os.stat(layout.home).st_mode)
        _make_directories(layout, mode, change_existing=for_group or not is_jar)
        file_mode = 0o660 if mode & 0o020 else 0o600
        if carries_library or home_of_library() is not None or os.path.isdir(layout.python):
            carries_library = True
            carry_library(layout.python, mode, file_mode)
        _write_missing(layout.jar_id_file, new_id() + "\n", file_mode)
        _write_missing(layout.config_file, sample_configuration(), file_mode)
        for program in PROGRAMS:
            _write_program(f"{layout.bin}/{program}", program, 0o770 if mode & 0o020 else 0o700, carries_library)
        for name in sorted(os.listdir(CRONTABS)):
            _write_crontab(f"{layout.crontabs}/{name}", name, layout, file_mode, carries_library)
        if os.path.isdir(DOCUMENTS):
            _copy_documents(layout.documents, mode, file_mode)
        _discard_half_written(layout)
    except OSError as error:
        path = error.filename or layout.home
        raise CannotUseJar(action="make", path=path, reason=explain_at(error, path)) from error
    return layout


def _is_beginning_of_jar(layout: Layout) -> bool:
    """Whether an existing directory is empty, or what a killed init left: some of a jar's directories, all empty. Init makes
    them in a fixed order, so these must be the first ones."""
    directories = layout.directories()[1:]
    made = {f"{layout.home}/{name}" for name in os.listdir(layout.home)}
    return made == set(directories[: len(made)]) and not any(os.listdir(path) for path in made)


def _discard_half_written(layout: Layout) -> None:
    """Remove the temporary files that a killed init of this node left."""
    for directory, pattern in (
        (layout.home, r"config\.ini" + TEMPORARY),
        (layout.ledger, "jar_id" + TEMPORARY),
        (layout.bin, ".+?" + TEMPORARY),
        (layout.crontabs, ".+?" + TEMPORARY),
        *((directory, ".+?" + TEMPORARY) for directory, _, _ in os.walk(layout.documents)),
    ):
        remove_leftovers(directory, pattern)


def _make_directories(layout: Layout, mode: int, change_existing: bool) -> None:
    parent = os.path.dirname(layout.home)
    os.makedirs(parent, exist_ok=True)
    for directory in layout.directories():
        try:
            os.mkdir(directory, mode)
        except FileExistsError:
            if not change_existing:
                continue
        # mkdir applies the umask and ignores the setgid bit. The jar itself may be named by a link, what is in it is none.
        if directory == layout.home:
            os.chmod(directory, mode)
        else:
            set_mode(directory, mode)


def _copy_documents(target: str, mode: int, file_mode: int) -> None:
    """Copy the documents. They get the jar's permissions, not those of the source. A link in their place is replaced."""
    for source, directories, files in os.walk(DOCUMENTS):
        directories[:] = sorted(set(directories) - {"__pycache__"})
        directory = f"{target}{source.removeprefix(DOCUMENTS)}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, mode)
        set_mode(directory, mode)
        for name in sorted(files):
            if not name.endswith(".py"):
                with open(f"{source}/{name}", "rb") as file:
                    write_if_other(f"{directory}/{name}", file.read(), file_mode)


def _write_missing(path: str, text: str, mode: int) -> None:
    if not os.path.lexists(path):
        write_whole(path, os.fsencode(text), mode, is_exact=True)  # the text may contain a path


def find_version_of_programs(layout: Layout) -> str | None:
    """The version of Job Jar that wrote a jar's programs. None: there are none, or they do not say."""
    try:
        found = re.search(rf"(?m)^{_MADE_BY}(\S+)$", os.fsdecode(read_file(f"{layout.bin}/jobjar")))
    except (OSError, UnfitFile):
        return None
    return None if found is None else found.group(1)


def _write_program(path: str, name: str, mode: int, carries_library: bool) -> None:
    """Write a program. It runs with the Python that this package is installed for, or with the library that the jar carries."""
    with open(f"{SCRIPTS}/{name}", encoding="utf-8") as file:
        _, _, body = file.read().partition("\n")
    text = launch(body) if carries_library else f"#!{sys.executable}\n{body}"
    text += f"{_MADE_BY}{VERSION}\n"
    try:
        if read_file(path) == os.fsencode(text):
            return
    except (FileNotFoundError, UnfitFile):
        pass
    write_whole(path, os.fsencode(text), mode, is_exact=True)


def _write_crontab(path: str, name: str, layout: Layout, mode: int, carries_library: bool) -> None:
    """Write a crontab, or a unit of systemd, if there is none. That of an unpacked jar still lacks the jar's path; fill it in."""
    # A jar with its own library does not name the virtual environment that the library came from, which may go away.
    python = f"{sys.base_prefix}/bin" if carries_library else os.path.dirname(sys.executable)
    try:
        text = os.fsdecode(read_file(path))
        if NOT_FILLED_IN in text:
            replace_file(path, os.fsencode(text.replace(NOT_FILLED_IN, _as_written_in(name, layout.home))), mode)
    except FileNotFoundError:
        _write_missing(path, fill_crontab(name, layout.home, python), mode)


def fill_crontab(name: str, home: str, python: str = "") -> str:
    """The crontab, or unit of systemd, of this name, with the jar's path filled in. Its PATH has the jar's programs and the
    directory of a Python."""
    with open(f"{CRONTABS}/{name}", encoding="utf-8") as file:
        text = file.read()
    usual = [directory for directory in _SEARCHED if directory != python]
    search_path = ":".join((f"{home}/bin", *([python] if python else []), *usual))
    return text.replace(NOT_FILLED_IN, _as_written_in(name, home)).replace("@PATH@", _as_written_in(name, search_path))


def _as_written_in(name: str, path: str) -> str:
    """A path as the file of this name wants it. A unit has it in double quotes, where % begins a specifier (systemd.unit(5))."""
    if name.endswith(".cron"):
        return path
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def sample_configuration() -> str:
    """The global configuration file of a new jar. It lists every setting that a file may have, commented out."""
    lines = [
        "# Global configuration of this jar. A line `name: value` sets what it names; ~/.jobjar/config.ini and the",
        "# environment override it. `jobjar config` prints every value and where it comes from.",
        SECTION,
    ]
    for setting in TABLE:
        if "file" in setting.layers:
            lines += [
                "",
                *(f"# {line}" for line in _wrap(setting.help)),
                f"# {setting.name}: {setting.default}".rstrip(),
            ]
    return "\n".join(lines) + "\n"


def _wrap(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100)
