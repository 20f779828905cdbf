"""Unpack foreign tar (plain, gzip, bzip2, xz) and zip archives, or refuse them as a whole.

All members are checked before the first is written. The archive is refused, with the member's name, if a member would lie outside
of the directory, or is no file, directory, or link inside it. A kill midway leaves a temporary directory beside the wanted one,
`.NAME.NODE.MARK.RANDOM.new`, and never a half directory under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from jobjar.errors import BadArchive
from jobjar.fetching.copying import BetweenPieces, nothing
from jobjar.packages.archive_readers import (
    DAMAGE,
    DIRECTORY,
    FILE,
    HARDLINK,
    SYMLINK,
    Member,
    Reader,
    Refused,
    explain_plainly,
    normal_path,
    open_archive,
)
from jobjar.packages.build_claim import temporary_path_beside
from jobjar.shared_disk.files import free_bytes
from jobjar.shared_disk.trees import remove_tree

MOST_MEMBERS = 500_000
# An archive that would grow to more than both limits is taken for a bomb; real data stay far below.
ALWAYS_ALLOWED_BYTES = 1 << 30
MOST_GROWTH = 200
_MOST_LINKS = 40  # the limit in path_resolution(7)
_CHUNK = 1 << 20


def unpack(
    archive_path: str,
    directory: str,
    is_wanted: Callable[[], bool] = lambda: True,
    between_pieces: BetweenPieces = nothing,
) -> None:
    """Make `directory` from an archive: files with their run bits and times, directories, links that stay inside.

    `directory` must be missing or empty; it is made whole or not at all. Modes keep only the bits for reading, writing and
    running, less the umask. This user owns the files. `is_wanted` is called last, before the directory gets its name.
    `between_pieces` is called at each read of the archive; an exception from it ends the work. Raises BadArchive with the member
    and the reason, OSError (a full disk too).
    """
    directory = os.path.abspath(directory)
    parent = os.path.dirname(directory)
    temporary = temporary_path_beside(directory, "new")
    try:
        with contextlib.closing(open_archive(archive_path, between_pieces)) as reader:
            members = _plan(reader, os.path.getsize(archive_path))
            _check_space(parent, sum(member.size for member in members))
            os.mkdir(temporary)
            try:
                _write_members(reader, members, temporary)
                if not is_wanted():
                    raise Refused("it was taken over by another process meanwhile")
                os.rename(temporary, directory)
            except BaseException:
                remove_tree(temporary)
                raise
    except Refused as error:
        raise BadArchive(path=archive_path, reason=str(error)) from error
    except DAMAGE as error:
        raise BadArchive(
            path=archive_path, reason=f"it is damaged, or no archive ({explain_plainly(error)})"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and bz2 raise OSErrors of their own for damage.
        raise BadArchive(path=archive_path, reason=f"it is damaged ({explain_plainly(error)})") from error


def _plan(reader: Reader, archive_size: int) -> list[Member]:
    """The members to write, all of them checked. Raises Refused, and the reader's exceptions."""
    tree: dict[str, Member] = {}
    limit = max(ALWAYS_ALLOWED_BYTES, MOST_GROWTH * archive_size)
    total = 0
    for count, member in enumerate(reader.members()):
        _check_member(member)
        total += member.size
        if count >= MOST_MEMBERS:
            raise Refused(f"it has more than {MOST_MEMBERS} members")
        if total > limit:
            raise Refused(
                f"with {member.name!r} it would grow to {total} bytes, from an archive of {archive_size}: more than "
                f"{MOST_GROWTH} times"
            )
        if member.path:
            _add(tree, member, reader.may_repeat)
        elif member.kind != DIRECTORY:
            raise Refused(f"{member.name!r} would take the place of the directory itself")
    reader.check_end()
    for member in tree.values():
        _check_place(tree, member)
        _check_link(tree, member)
    return list(tree.values())


def _check_member(member: Member) -> None:
    """Check a member by itself. Raises Refused."""
    parts = member.name.split("/")
    if member.name.startswith("/"):
        raise Refused(f"{member.name!r} has an absolute name")
    if ".." in parts:
        raise Refused(f"{member.name!r} has .. in its name")
    if not member.name or "\0" in member.name:
        raise Refused(f"{member.name!r} is no name for a file")
    if member.kind not in (FILE, DIRECTORY, SYMLINK, HARDLINK):
        raise Refused(f"{member.name!r} is {member.kind}")
    if member.mode & (stat.S_ISUID | stat.S_ISGID) and member.kind != SYMLINK:
        raise Refused(f"{member.name!r} has a set-user-id or set-group-id bit (mode {member.mode & 0o7777:04o})")
    if member.size < 0:
        raise Refused(f"{member.name!r} has a size below 0")


def _add(tree: dict[str, Member], member: Member, may_repeat: bool) -> None:
    earlier = tree.get(member.path)
    if earlier is not None and not (
        earlier.kind == member.kind and (member.kind == DIRECTORY or (member.kind == FILE and may_repeat))
    ):
        raise Refused(f"{member.name!r} is in it twice ({earlier.kind}, {member.kind})")
    tree[member.path] = member


def _check_place(tree: dict[str, Member], member: Member) -> None:
    """Check that a member's parents are directories, and no links. Raises Refused."""
    parent = os.path.dirname(member.path)
    while parent:
        above = tree.get(parent)
        if above is not None and above.kind != DIRECTORY:
            raise Refused(f"{member.name!r} would be written through {above.name!r}, which is a {above.kind}")
        parent = os.path.dirname(parent)


def _check_link(tree: dict[str, Member], member: Member) -> None:
    if member.kind == SYMLINK and _leads_outside(tree, member):
        raise Refused(f"{member.name!r} is a symbolic link that leads outside, to {member.target!r}")
    if member.kind == HARDLINK:
        target = tree.get(normal_path(member.target))
        if member.target.startswith("/") or ".." in member.target.split("/") or target is None or target.kind != FILE:
            raise Refused(f"{member.name!r} is a hard link to {member.target!r}, which is no file of the archive")


def _leads_outside(tree: dict[str, Member], link: Member) -> bool:
    """Whether a symbolic link leads outside. Follows it through the archive's other links. Cancelling `a/..` in its text is not
    enough: a may be a link to a deeper or higher directory."""
    here = link.path.split("/")[:-1]
    pending = link.target.split("/")[::-1]
    followed = 0
    if link.target.startswith("/") or not link.target or "\0" in link.target:
        return True
    while pending:
        part = pending.pop()
        if part == "..":
            if not here:
                return True
            here.pop()
        elif part not in ("", "."):
            here.append(part)
            found = tree.get("/".join(here))
            if found is not None and found.kind == SYMLINK:
                here.pop()
                followed += 1
                if followed > _MOST_LINKS or found.target.startswith("/"):
                    return True
                pending.extend(found.target.split("/")[::-1])
    return False


def _check_space(parent: str, wanted: int) -> None:
    """Raise OSError where the disk has too little room, before it is filled."""
    if wanted > free_bytes(parent):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {wanted} bytes to unpack", parent)


def _write_members(reader: Reader, members: list[Member], directory: str) -> None:
    # Links come last, so that nothing can be written through one.
    for kind in (DIRECTORY, FILE, HARDLINK, SYMLINK):
        for member in members:
            if member.kind == kind:
                reader.check_again(member, directory)
                _write_member(reader, member, directory)


def _write_member(reader: Reader, member: Member, directory: str) -> None:
    path = f"{directory}/{member.path}"
    if member.kind == DIRECTORY:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, stat.S_IMODE(member.mode) & 0o777 | 0o700)
        except FileExistsError:  # made already for a file in it that comes earlier in the archive
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if member.kind == FILE:
        _write_file(reader, member, path)
    elif member.kind == HARDLINK:
        os.link(f"{directory}/{normal_path(member.target)}", path, follow_symlinks=False)
    else:
        os.symlink(member.target, path)


def _write_file(reader: Reader, member: Member, path: str) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, member.mode & 0o777 | 0o600)
    with open(descriptor, "wb") as file, reader.open(member) as content:
        left = member.size
        while left and (chunk := content.read(min(_CHUNK, left))):
            left -= len(chunk)
            file.write(chunk)
        # One more read makes zipfile compare its checksum.
        if left or content.read(1):
            raise Refused(f"{member.name!r} is not of the {member.size} bytes that the archive says")
        file.flush()
        with contextlib.suppress(OverflowError, OSError):  # this disk cannot hold such a time
            os.utime(descriptor, (member.modified_at, member.modified_at))
