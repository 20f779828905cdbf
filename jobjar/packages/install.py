"""Install software packages on the shared disk, each once, and put workware into a working directory.

    software/<sha256>/              an unpacked archive, at its final path from the beginning, because its files may contain it
    software/<sha256>.ready         says that it is whole: its installer, its source, and the output of `package/install`
    software/<sha256>.building/     the claim of the process that builds it (build_claim.py)
    software/.<name>.<node>.<mark>.<random>.<what>    temporary: new, half, ready, claim, fetched (an archive)

The process with the claim unpacks, runs `package/install`, and renames `.ready` to its name: that is the commit. After a kill
before it, the next process discards the directory and begins anew. A directory without `.ready` is never used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from jobjar.errors import CannotFetch, CannotInstall
from jobjar.fetching.copying import BetweenPieces, copy, nothing, open_file
from jobjar.fetching.origins import hide_password, local_path
from jobjar.fetching.sources import Cache, explain_mismatch, fetch, key_of_sum, remember_sum, sum_of_file, sum_of_source
from jobjar.host import node_name
from jobjar.job_file.description import Source
from jobjar.packages.build_claim import Claim, sweep, take_claim, temporary_path_beside
from jobjar.packages.package import (
    Package as Package,
    find_command as find_command,
    read_package,
    shell_prefix as shell_prefix,
)
from jobjar.packages.run_install import run_install
from jobjar.packages.unpack import unpack
from jobjar.shared_disk.files import is_directory, look, remove_file, rename, replace_file
from jobjar.shared_disk.trees import remove_tree

Say = Callable[[str], None]


class Calls(NamedTuple):
    """What an installation calls meanwhile: `log` and `warn` with lines for people, and `between_pieces` frequently."""

    log: Say
    warn: Say
    between_pieces: BetweenPieces


def install(
    jar_software_dir: str,
    source: Source,
    cache: Cache | None,
    log: Callable[[str], None],
    between_pieces: BetweenPieces = nothing,
    warn: Callable[[str], None] | None = None,
) -> Package:
    """The package that a source names, ready for use.

    A directory is used in place. An archive is unpacked into `software/<sha256>/` by one process of all hosts, which also runs
    its `package/install` once, with that path as the first argument. Other processes wait for it. `between_pieces` is called
    frequently; an exception from it ends the work at once. Raises CannotFetch, BadArchive, CannotInstall (with the output of
    `package/install`), OSError; nothing usable is left behind then. Warns of files that could not be removed.
    """
    path = local_path(source.location)
    if path is not None and is_directory(path):
        if source.md5 or source.sha256:
            raise CannotInstall(location=source.location, reason="it is a directory: md5 and sha256 are of archives")
        return read_package(os.path.normpath(path))
    os.makedirs(jar_software_dir, exist_ok=True)
    known = sum_of_source(source, cache, between_pieces)
    if known is not None and _is_ready(jar_software_dir, known):
        return _read_installed(jar_software_dir, known)
    with archive_at_hand(source, jar_software_dir, cache, between_pieces) as (archive, sha256):
        _install_once(jar_software_dir, source, archive, sha256, Calls(log, warn or log, between_pieces))
    return _read_installed(jar_software_dir, sha256)


def _name(source: Source) -> str:
    return hide_password(source.location)


def _is_ready(directory: str, sha256: str) -> bool:
    return look(f"{directory}/{sha256}.ready") is not None and look(f"{directory}/{sha256}") is not None


def _read_installed(directory: str, sha256: str) -> Package:
    return read_package(_location(f"{directory}/{sha256}"))


def _location(unpacked: str) -> str:
    """The directory of a package's files: `unpacked`, or the only directory in it, if that one holds `package`."""
    names = os.listdir(unpacked)
    if len(names) == 1 and names[0] != "package" and is_directory(f"{unpacked}/{names[0]}/package"):
        return f"{unpacked}/{names[0]}"
    return unpacked


@contextlib.contextmanager
def archive_at_hand(
    source: Source, directory: str, cache: Cache | None, between_pieces: BetweenPieces
) -> Iterator[tuple[str, str]]:
    """The path and the sha256 of a source's verified archive. An archive that has no path on this node is fetched into
    `directory`, and removed at the end of the context. Raises CannotFetch, OSError."""
    path = local_path(source.location)
    if path is not None:
        # Summed anew, without the remembered sum: the directory's name has to match what is unpacked.
        found = sum_of_source(source._replace(sha256=None), None, between_pieces)
        assert found is not None  # a file on this node always has one
        if source.sha256 not in (None, found):
            raise CannotFetch(location=source.location, reason=explain_mismatch("sha256", found, source.sha256))
        yield path, found
        return
    fetched = temporary_path_beside(f"{directory}/archive", "fetched")
    before = key_of_sum(source, cache, between_pieces)
    try:
        fetch(source, fetched, cache, between_pieces)
        sha256 = sum_of_file(fetched, between_pieces)
        if before is not None and key_of_sum(source, cache, between_pieces) == before:
            remember_sum(before, sha256, cache)
        yield fetched, sha256
    finally:
        with contextlib.suppress(OSError):
            os.unlink(fetched)


def _install_once(directory: str, source: Source, archive: str, sha256: str, calls: Calls) -> None:
    target = f"{directory}/{sha256}"
    while not _is_ready(directory, sha256):
        claim = take_claim(target, lambda: _is_ready(directory, sha256), calls.log, calls.between_pieces)
        if claim is not None:
            with claim:
                # Looks again: the previous claimer may have done it.
                if not _is_ready(directory, sha256):
                    _install_claimed(claim, target, source, archive, calls)


def _install_claimed(claim: Claim, target: str, source: Source, archive: str, calls: Calls) -> None:
    sweep(target)
    remove_file(f"{target}.ready")  # a person may have removed only the directory
    _discard(target, calls.warn)
    before = os.stat(archive)
    said = ""
    try:
        unpack(archive, target, claim.is_held, calls.between_pieces)
        after = os.stat(archive)
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
            raise CannotInstall(location=_name(source), reason="the archive was changed while it was unpacked")
        said = run_install(_location(target), _name(source), calls.log, calls.between_pieces)
        _sync_disk(target)
        if not claim.is_held():
            return  # this process was stopped for so long that another does it anew
    except BaseException:
        with contextlib.suppress(OSError):
            if claim.is_held():
                _discard(target, calls.warn)
        raise
    ready = {"source": _name(source), "node": node_name(), "installed_at": round(time.time(), 3), "output": said}
    prepared = temporary_path_beside(target, "ready")
    replace_file(prepared, json.dumps(ready, indent=1).encode("utf-8", "surrogateescape") + b"\n")
    # COMMIT: from here the package is installed.
    rename(prepared, f"{target}.ready")


def _discard(target: str, warn: Say) -> None:
    """Rename a half package away, and remove it. So the next build finds nothing of it, even if the removal fails. Warns of
    files that cannot be removed."""
    aside = temporary_path_beside(target, "half")
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, aside)
        for kept in remove_tree(aside):
            warn(str(kept))


def _sync_disk(path: str) -> None:
    """Sync the disk of `path`: the unpacked files must outlive a crash of this node before `.ready` says that they are whole."""
    if sys.platform == "linux":
        import ctypes

        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(descriptor)
    else:
        os.sync()


def place_workware(
    source: Source, working_directory: str, cache: Cache | None, between_pieces: BetweenPieces = nothing
) -> Package:
    """Copy the files of a package (a directory or an archive) into a job's working directory, and run its `package/install` with
    that directory as the first argument. The copies are the job's own.

    Directories are joined; a file that is there already is an error. `between_pieces` is as in `install`. Raises CannotFetch,
    BadArchive, CannotInstall, OSError.
    """
    path = local_path(source.location)
    unpacked = f"{working_directory}/.workware.{uuid.uuid4().hex[:8]}"
    try:
        if path is not None and is_directory(path):
            shutil.copytree(path, unpacked, symlinks=True, copy_function=partial(_copy_own, between_pieces))
        else:
            with archive_at_hand(source, working_directory, cache, between_pieces) as (archive, _):
                unpack(archive, unpacked, between_pieces=between_pieces)
        location = _location(unpacked)
        has_install = look(f"{location}/package/install") is not None
        _join(location, working_directory, _name(source))
    except shutil.Error as error:
        raise CannotInstall(location=_name(source), reason=_first_of(error)) from error
    except RecursionError as error:  # copytree and _join call themselves for each level
        raise CannotInstall(location=_name(source), reason="it has too many directories in each other") from error
    finally:
        remove_tree(unpacked)
    if has_install:
        run_install(working_directory, _name(source), lambda line: None, between_pieces)
    return read_package(working_directory)


def _copy_own(between_pieces: BetweenPieces, source: str, destination: str) -> None:
    """Copy one regular file of a package with its mode and times. Refuses others: a pipe would block, a device may never end."""
    descriptor = open_file(source)
    try:
        with open(destination, "xb") as file:
            copy(descriptor, file.fileno(), between_pieces)
    finally:
        os.close(descriptor)
    shutil.copystat(source, destination)


def _first_of(error: shutil.Error) -> str:
    """The first of the errors (from, to, why) that copytree gathers; it says enough."""
    return ": ".join(str(word) for word in error.args[0][0][::2])


def _join(source: str, destination: str, location: str) -> None:
    for name in os.listdir(source):
        taken = look(f"{destination}/{name}")
        if taken is None:
            os.rename(f"{source}/{name}", f"{destination}/{name}")
        elif all(
            os.path.isdir(path) and not os.path.islink(path) for path in (f"{source}/{name}", f"{destination}/{name}")
        ):
            _join(f"{source}/{name}", f"{destination}/{name}", location)
        else:
            raise CannotInstall(location=location, reason=f"{name} is in the working directory already")
