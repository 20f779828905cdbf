"""A small file system of its own process, as fuse(4) speaks with the kernel: one file that must stay, in a directory that
counts what is removed. `python -m tests.fuse_disk <directory> <file of removals>` mounts it, in the namespace it is run in."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_UNLINK, _RMDIR, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _ACCESS, _BATCH_FORGET = 10, 11, 26, 27, 28, 29, 34, 42
_HEADER = struct.Struct("<IIQQIIII")
_ROOT, _FILE = 1, 2
NAME, TEXT = b"precious", b"kept\n"


def attributes(node: int) -> bytes:
    mode, size = (0o40777, 0) if node == _ROOT else (0o100666, len(TEXT))
    return struct.pack("<QQQQQQIIIIIIIIII", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(operation: int, node: int, body: bytes, removals: str) -> bytes | int:
    """The body of an answer, or an error's number."""
    if operation == _INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
    if operation == _LOOKUP:
        if node != _ROOT or body.rstrip(b"\0") != NAME:
            return errno.ENOENT
        return struct.pack("<QQQQII", _FILE, 0, 0, 0, 0, 0) + attributes(_FILE)
    if operation == _GETATTR:
        return struct.pack("<QII", 0, 0, 0) + attributes(node)
    if operation in (_OPEN, _OPENDIR):
        return struct.pack("<QII", 0, 0, 0)
    if operation == _READ:
        return TEXT[struct.unpack_from("<QQ", body)[1] :]
    if operation == _READDIR:
        padded = NAME.ljust(-(-len(NAME) // 8) * 8, b"\0")
        entry = struct.pack("<QQII", _FILE, 1, len(NAME), 8) + padded
        return b"" if struct.unpack_from("<QQ", body)[1] else entry
    if operation in (_UNLINK, _RMDIR):
        with open(removals, "ab") as file:
            file.write(body.rstrip(b"\0") + b"\n")
        return b""
    if operation in (_RELEASE, _RELEASEDIR, _ACCESS):
        return b""
    if operation == _STATFS:
        return bytes(80)
    return errno.ENOSYS


def serve(directory: str, removals: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"jobjar-test", os.fsencode(directory), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), f"mount on {directory}")
    print("ready", flush=True)
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            raise
        _, operation, unique, node, *_ = _HEADER.unpack_from(request)
        if operation in (_FORGET, _BATCH_FORGET):
            continue
        said = answer(operation, node, request[_HEADER.size :], removals)
        body, number = (b"", said) if isinstance(said, int) else (said, 0)
        os.write(device, struct.pack("<IiQ", 16 + len(body), -number, unique) + body)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
