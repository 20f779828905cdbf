"""Archives are unpacked whole, or refused whole with the member named, before anything is written."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobjar.errors import BadArchive
from jobjar.packages import unpack as archive
from jobjar.packages.unpack import unpack

FORMATS = ["tar", "tgz", "tar.gz", "tar.bz2", "tar.xz", "zip"]
_OPTIONS = {"tar": "-cf", "tgz": "-czf", "tar.gz": "-czf", "tar.bz2": "-cjf", "tar.xz": "-cJf"}


def make_package(directory: Path) -> Path:
    """A package as the document describes it, with a link as libraries have them."""
    for name in ("package", "bin", "lib/deep"):
        (directory / name).mkdir(parents=True)
    (directory / "package/setup.sh").write_text("PATH=$1/bin:$PATH\nexport PATH\n")
    (directory / "bin/my_program").write_text("#!/bin/sh\necho ran\n")
    (directory / "bin/my_program").chmod(0o755)
    (directory / "lib/my_lib.so.1").write_bytes(bytes(range(256)) * 5000)
    (directory / "lib/my_lib.so").symlink_to("my_lib.so.1")
    (directory / "lib/deep/up").symlink_to("../../bin")
    (directory / "lib/empty").touch()
    os.utime(directory / "bin/my_program", (1_000_000_000, 1_000_000_000))
    return directory


def pack(directory: Path, path: Path) -> Path:
    """Pack with the programs that people use."""
    kind = path.name.partition(".")[2]
    if kind == "zip":
        if not shutil.which("zip"):
            pytest.skip("needs zip: `make packages`")
        subprocess.run(["zip", "-qry", str(path), "."], cwd=directory, check=True)
    else:
        subprocess.run(["tar", _OPTIONS[kind], str(path), "."], cwd=directory, check=True)
    return path


def list_tree(directory: Path) -> dict[str, tuple[str, bytes | str]]:
    """Names, kinds with run bits, and contents."""
    tree: dict[str, tuple[str, bytes | str]] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            tree[name] = ("link", os.readlink(path))
        elif path.is_dir():
            tree[name] = ("directory", "")
        else:
            tree[name] = ("runnable" if path.stat().st_mode & 0o100 else "file", path.read_bytes())
    return tree


@pytest.mark.parametrize("kind", FORMATS)
def test_an_archive_of_each_kind_is_unpacked_with_run_bits_links_and_times(tmp_path: Path, kind: str) -> None:
    package = make_package(tmp_path / "made")
    unpack(str(pack(package, tmp_path / f"p.{kind}")), str(tmp_path / "unpacked"))
    assert list_tree(tmp_path / "unpacked") == list_tree(package)
    assert (tmp_path / "unpacked/bin/my_program").stat().st_mtime == 1_000_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["made", f"p.{kind}", "unpacked"])


def test_the_kind_is_told_by_the_content_and_not_by_the_name(tmp_path: Path) -> None:
    package = make_package(tmp_path / "made")
    pack(package, tmp_path / "p.zip").rename(tmp_path / "p.tgz")
    unpack(str(tmp_path / "p.tgz"), str(tmp_path / "unpacked"))
    assert list_tree(tmp_path / "unpacked") == list_tree(package)


class Maker:
    """Makes a tar or a zip with one member as somebody with bad intentions would, between two harmless ones."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tar(self, *members: tarfile.TarInfo, content: bytes = b"evil\n") -> Path:
        with tarfile.open(self.path, "w:gz") as tar:
            for member in [tar_member("first"), *members, tar_member("last")]:
                member.size = len(content) if member.isreg() else 0
                tar.addfile(member, io.BytesIO(content))
        return self.path

    def zip(self, *members: tuple[str, int], content: bytes = b"evil\n") -> Path:
        with zipfile.ZipFile(self.path, "w") as made:
            for name, mode in [("first", 0o100644), *members, ("last", 0o100644)]:
                entry = zipfile.ZipInfo(name)
                entry.create_system = 3
                entry.external_attr = mode << 16
                made.writestr(entry, content)
        return self.path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = kind, mode, target
    return member


def assert_refused(path: Path, member: str, reason: str) -> None:
    """Refused whole, by name, with nothing written anywhere."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(BadArchive) as caught:
        unpack(str(path), str(path.parent / "unpacked"))
    assert repr(member) in str(caught.value) and reason in str(caught.value), str(caught.value)
    assert str(path) in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "bad")


BAD_IN_TAR: list[tuple[tarfile.TarInfo, str]] = [
    (tar_member("/etc/evil"), "absolute name"),
    (tar_member("../evil"), ".. in its name"),
    (tar_member("a/../../evil"), ".. in its name"),
    (tar_member("a/.."), ".. in its name"),
    (tar_member("link", tarfile.SYMTYPE, target="/etc/passwd"), "leads outside"),
    (tar_member("link", tarfile.SYMTYPE, target="../evil"), "leads outside"),
    (tar_member("a/link", tarfile.SYMTYPE, target="../../evil"), "leads outside"),
    (tar_member("link", tarfile.SYMTYPE, target="here/../../evil"), "leads outside"),
    (tar_member("link", tarfile.SYMTYPE, target="link"), "leads outside"),
    (tar_member("link", tarfile.LNKTYPE, target="/etc/passwd"), "no file of the archive"),
    (tar_member("link", tarfile.LNKTYPE, target="../evil"), "no file of the archive"),
    (tar_member("link", tarfile.LNKTYPE, target="missing"), "no file of the archive"),
    (tar_member("null", tarfile.CHRTYPE), "a device"),
    (tar_member("disk", tarfile.BLKTYPE), "a device"),
    (tar_member("queue", tarfile.FIFOTYPE), "a fifo"),
    (tar_member("what", b"Z"), "unknown kind"),
    (tar_member("root", mode=0o4755), "set-user-id"),
    (tar_member("group", mode=0o2755), "set-group-id"),
    (tar_member("shared", tarfile.DIRTYPE, mode=0o2775), "set-group-id"),
    (tar_member("first", tarfile.SYMTYPE, target="last"), "twice"),
    (tar_member("first/below"), "through"),
    (tar_member("."), "place of the directory"),
]


@pytest.mark.parametrize(("member", "reason"), BAD_IN_TAR, ids=lambda value: getattr(value, "name", value))
def test_a_tar_with_a_member_that_may_not_be_is_refused_whole(
    maker: Maker, member: tarfile.TarInfo, reason: str
) -> None:
    assert_refused(maker.tar(member), member.name, reason)


BAD_IN_ZIP: list[tuple[str, int, bytes, str]] = [
    ("/etc/evil", 0o100644, b"", "absolute name"),
    ("../evil", 0o100644, b"", ".. in its name"),
    ("a/../../evil", 0o100644, b"", ".. in its name"),
    ("a\\..\\evil", 0o100644, b"", "backslash"),
    ("link", 0o120777, b"/etc/passwd", "leads outside"),
    ("link", 0o120777, b"../evil", "leads outside"),
    ("a/link", 0o120777, b"../../evil", "leads outside"),
    ("link", 0o120777, b"", "leads outside"),
    ("link", 0o120777, b"x" * 5000, "5000 bytes for its target"),
    ("null", stat.S_IFCHR | 0o666, b"", "a device"),
    ("disk", stat.S_IFBLK | 0o666, b"", "a device"),
    ("queue", stat.S_IFIFO | 0o666, b"", "a fifo"),
    ("socket", stat.S_IFSOCK | 0o666, b"", "unknown kind"),
    ("root", 0o104755, b"", "set-user-id"),
    ("group", 0o102755, b"", "set-group-id"),
    ("first/below", 0o100644, b"", "through"),
]


@pytest.mark.parametrize(("name", "mode", "content", "reason"), BAD_IN_ZIP)
def test_a_zip_with_a_member_that_may_not_be_is_refused_whole(
    maker: Maker, name: str, mode: int, content: bytes, reason: str
) -> None:
    assert_refused(maker.zip((name, mode), content=content), name, reason)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_a_name_twice_is_refused(maker: Maker) -> None:
    assert_refused(maker.zip(("twice", 0o100644), ("twice", 0o100755)), "twice", "twice")


def test_a_later_member_of_a_tar_stands_for_an_earlier_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    subprocess.run(["tar", "-cf", "p.tar", "a"], cwd=tmp_path, check=True)
    (tmp_path / "a").write_text("new and longer")
    subprocess.run(["tar", "-rf", "p.tar", "a"], cwd=tmp_path, check=True)
    unpack(str(tmp_path / "p.tar"), str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/a").read_text() == "new and longer"


def test_a_file_that_would_be_written_through_a_link_is_refused(maker: Maker) -> None:
    links = [tar_member("dir", tarfile.DIRTYPE, 0o755), tar_member("way", tarfile.SYMTYPE, target="dir")]
    assert_refused(maker.tar(*links, tar_member("way/evil")), "way/evil", "through")


def test_a_link_that_only_other_links_make_lead_outside_is_refused(maker: Maker) -> None:
    """`a/b/c/..` is inside by its text; but a/b/c is a link to the top, whose .. is outside."""
    members = [
        tar_member("a", tarfile.DIRTYPE, 0o755),
        tar_member("a/b", tarfile.DIRTYPE, 0o755),
        tar_member("a/b/c", tarfile.SYMTYPE, target="../.."),
        tar_member("out", tarfile.SYMTYPE, target="a/b/c/../evil"),
    ]
    assert_refused(maker.tar(*members), "out", "leads outside")


def test_links_that_stay_inside_are_kept_and_hard_links_share_their_file(maker: Maker, tmp_path: Path) -> None:
    members = [
        tar_member("a", tarfile.DIRTYPE, 0o755),
        tar_member("a/up", tarfile.SYMTYPE, target="../first"),
        tar_member("a/round", tarfile.SYMTYPE, target="../a/./up"),
        tar_member("a/same", tarfile.LNKTYPE, target="./first"),
    ]
    unpack(str(maker.tar(*members)), str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/a/round").read_text() == "evil\n"
    assert (tmp_path / "unpacked/a/same").stat().st_ino == (tmp_path / "unpacked/first").stat().st_ino


def test_modes_keep_no_more_than_reading_writing_and_running_within_the_umask(maker: Maker, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        unpack(str(maker.tar(tar_member("x", mode=0o1777), tar_member("y", mode=0o000))), str(tmp_path / "unpacked"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "unpacked").iterdir()}
    assert modes == {"first": 0o640, "last": 0o640, "x": 0o750, "y": 0o600}
    assert (tmp_path / "unpacked").stat().st_mode & 0o7777 == 0o750


def test_modes_of_a_zip_from_a_system_without_modes_are_the_usual_ones(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as made:
        for name in ("d/", "d/file"):
            entry = zipfile.ZipInfo(name)
            entry.create_system = 0
            entry.external_attr = 0x10 if name.endswith("/") else 0x20
            made.writestr(entry, b"")
    unpack(str(tmp_path / "p.zip"), str(tmp_path / "unpacked"))
    assert os.access(tmp_path / "unpacked/d", os.X_OK)
    assert (tmp_path / "unpacked/d/file").stat().st_mode & 0o111 == 0


def damage_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0x55 for byte in content[middle : middle + 64]) + content[middle + 64 :]


DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("cut", lambda content: content[: len(content) // 2]),
    ("cut at its end", lambda content: content[:-12]),
    ("changed", damage_middle),
    ("empty", lambda content: b""),
    ("no archive", lambda content: b"#!/bin/sh\nexit 0\n" * 1000),
]


@pytest.mark.parametrize("kind", ["tgz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("damage", [damage for _, damage in DAMAGES], ids=[name for name, _ in DAMAGES])
def test_a_damaged_archive_is_refused_and_nothing_is_left(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
) -> None:
    path = pack(make_package(tmp_path / "made"), tmp_path / f"p.{kind}")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadArchive, match="damaged"):
        unpack(str(path), str(tmp_path / "unpacked"))
    assert sorted(found.name for found in tmp_path.iterdir()) == ["made", path.name]


def test_a_plain_tar_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """tarfile itself takes a missing or torn header for the end, and gives what came before."""
    path = pack(make_package(tmp_path / "made"), tmp_path / "p.tar")
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        end = max(member.offset_data + member.size for member in tar)
    for cut in range(0, end, 256):
        path.write_bytes(content[:cut])
        with pytest.raises(BadArchive):
            unpack(str(path), str(tmp_path / "unpacked"))
        assert not (tmp_path / "unpacked").exists()


def test_a_plain_tar_with_a_changed_header_is_refused(tmp_path: Path) -> None:
    path = pack(make_package(tmp_path / "made"), tmp_path / "p.tar")
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[3].offset
    content = bytearray(path.read_bytes())
    content[offset + 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(BadArchive, match="header cannot be read"):
        unpack(str(path), str(tmp_path / "unpacked"))


@pytest.mark.skipif(not shutil.which("zip"), reason="needs zip: `make packages`")
def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    subprocess.run(["zip", "-q", "-P", "word", "bad.zip", "secret"], cwd=tmp_path, check=True)
    assert_refused(tmp_path / "bad.zip", "secret", "encrypted")


def test_an_archive_that_would_grow_beyond_measure_is_refused(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED_BYTES", 1000)
    with zipfile.ZipFile(maker.path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("zeros", bytes(4 << 20))
    assert_refused(maker.path, "zeros", "would grow to")
    with tarfile.open(maker.path, "w:xz") as tar:
        member = tar_member("zeros")
        member.size = 4 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert_refused(maker.path, "zeros", "would grow to")


LONG_HEADERS = [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]


@pytest.mark.parametrize("kind", LONG_HEADERS)
@pytest.mark.parametrize("first", ["header", "file"])
def test_a_header_of_a_tar_that_would_fill_the_memory_is_refused(maker: Maker, kind: bytes, first: str) -> None:
    members = [tar_member("huge header", kind), tar_member("file")]
    content = b"30 mtime=1234567890.123456789\n" * 50_000
    with tarfile.open(maker.path, "w:gz") as tar:
        for member in members if first == "header" else members[::-1]:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert_refused(maker.path, "huge header", "extended header of more than 1048576 bytes")


def test_a_map_of_a_sparse_file_that_would_fill_the_memory_is_refused_and_another_is_not(tmp_path: Path) -> None:
    member = tar_member("sparse", tarfile.GNUTYPE_SPARSE)
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # it goes on in the next block
    header[148:156] = b"%06o\0 " % (sum(header[:148] + header[156:]) + 8 * ord(" "))
    goes_on = b"00000001000\0" * 42 + b"\1" + bytes(7)
    path = tmp_path / "evil.tgz"
    with gzip.open(path, "wb") as made:
        made.write(bytes(header) + goes_on * 4000 + bytes(10_240))
    assert_refused(path, "sparse", "extended header of more than 1048576 bytes")
    path.unlink()
    (tmp_path / "made").mkdir()
    with (tmp_path / "made/sparse").open("wb") as file:
        for place in range(100):
            os.pwrite(file.fileno(), b"x", place << 20)
    for form in ("gnu", "posix"):
        words = ["tar", "-S", f"--format={form}", "-czf", f"{path}.{form}", "sparse"]
        subprocess.run(words, cwd=tmp_path / "made", check=True)
        unpack(f"{path}.{form}", f"{tmp_path}/{form}")
        assert (tmp_path / form / "sparse").read_bytes() == (tmp_path / "made/sparse").read_bytes()


def test_long_names_and_attributes_of_members_are_no_such_header(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 15)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f"{form}.tgz"
        with tarfile.open(path, "w:gz", format=form) as made:
            member = tarfile.TarInfo(name)
            member.pax_headers = {"SCHILY.xattr.user.x": "x" * 65_536}
            made.addfile(member)
        unpack(str(path), f"{tmp_path}/{form}")
        assert (tmp_path / f"{form}" / name).is_file()


def test_an_archive_of_too_many_members_is_refused(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 2)
    with pytest.raises(BadArchive, match="more than 2 members"):
        unpack(str(maker.tar(tar_member("x"))), f"{maker.path}.unpacked")


@pytest.mark.root
@pytest.mark.parametrize("files", [1, 800], ids=["seen before", "met while writing"])
def test_a_full_disk_is_an_error_of_the_disk_and_leaves_nothing(tmp_path: Path, files: int) -> None:
    """One file of 3 MiB on 2 MiB; or 800 of a byte each, which the sizes alone do not show to be too much."""
    package = tmp_path / "made"
    package.mkdir()
    for number in range(files):
        (package / str(number)).write_bytes(os.urandom((3 << 20) if files == 1 else 1))
    path = pack(package, tmp_path / "p.tar")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(small)], check=True)
    try:
        with pytest.raises(OSError) as caught:
            unpack(str(path), str(small / "unpacked"))
        assert caught.value.errno == errno.ENOSPC
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_directory_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    path = pack(make_package(tmp_path / "made"), tmp_path / "p.tgz")
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/mine").touch()
    with pytest.raises(OSError):
        unpack(str(path), str(tmp_path / "unpacked"))
    assert [found.name for found in (tmp_path / "unpacked").iterdir()] == ["mine"]
    assert sorted(found.name for found in tmp_path.iterdir()) == ["made", "p.tgz", "unpacked"]
