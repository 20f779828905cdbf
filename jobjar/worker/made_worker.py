"""Write one executable file that is a worker of a setup: lines of sh that find a Python, then a zip archive with the library.

On the node the file unpacks the library once, into a directory of the user's own that is named by its content (`~/.cache`, else
`/var/tmp`), and runs start_worker from there. A kill while it unpacks leaves a directory of another name, which nobody uses.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile

from jobjar.create import SCRIPTS
from jobjar.self_contained import collect_library, find_python, launch
from jobjar.shared_disk.files import read_file
from jobjar.worker.setups import Setup

_MADE_AT = (2000, 1, 1, 0, 0, 0)
_HEAD = """\
#!/bin/sh
# A worker of Job Jar in one file: run it. `--help` prints its options.
@FIND@
"""
_MAIN = """\
import json, os, shutil, sys, tempfile, zipfile

FILE = sys.argv[0]


def is_own(path):
    status = os.lstat(path)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def unpack(archive, name):
    wanted = [os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache"), "/var/tmp", "/tmp"]
    why = "no directory"
    for parent in [each for each in wanted if each and each.startswith("/")]:
        place = os.path.join(parent, name)
        try:
            if not os.path.lexists(place):
                os.makedirs(parent, exist_ok=True)
                made = tempfile.mkdtemp(prefix=name, dir=parent)
                try:
                    archive.extractall(made)
                    os.chmod(made + "/bin/start_worker", 0o700)
                    os.rename(made, place)
                except OSError:
                    shutil.rmtree(made, ignore_errors=True)
                    if not os.path.lexists(place):
                        raise
            if is_own(place):
                return place
            why = place + " is not this user's own"
        except OSError as error:
            why = "%s: %s" % (place, error.strerror)
    sys.exit("%s: the library cannot be unpacked: %s" % (FILE, why))


def main():
    with zipfile.ZipFile(FILE) as archive:
        said = json.loads(archive.read("worker.json"))
        place = unpack(archive, "jobjar-%d-%s" % (os.geteuid(), said["name"]))
    for name, value in said["settings"].items():
        os.environ.setdefault(name, value)
    program = place + "/bin/start_worker"
    home = os.environ.get("JJ_HOME") or said["home"]
    os.execv(sys.executable, [sys.executable, program, "--home", home, *said["words"], *sys.argv[1:]])


main()
"""


def write_worker(home: str, setup: Setup, path: str) -> None:
    """Write the file. Raises CannotCarry, OSError."""
    files = {f"python/{name}": read_file_of(source) for name, source in sorted(collect_library().items())}
    files["bin/start_worker"] = launch(read_file(f"{SCRIPTS}/start_worker").decode().split("\n", 1)[1]).encode()
    # With these it is found as the library of a jar is, so that a fresh worker can take a failed one's place.
    files |= {"unclaimed/": b"", "limbo/": b""}
    name = hashlib.sha256(repr(sorted((name, data) for name, data in files.items())).encode()).hexdigest()[:16]
    said = {"name": name, "home": home, "words": setup.words, "settings": setup.settings}
    files |= {"__main__.py": _MAIN.encode(), "worker.json": json.dumps(said).encode()}
    packed = io.BytesIO()
    packed.write(_HEAD.replace("@FIND@", find_python()).encode())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        for inner, data in files.items():
            entry = zipfile.ZipInfo(inner, _MADE_AT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFDIR | 0o700 if inner.endswith("/") else stat.S_IFREG | 0o600) << 16
            archive.writestr(entry, data)
    beside = f"{path}.new"
    with open(beside, "wb") as file:
        file.write(packed.getvalue())
    os.chmod(beside, 0o755)
    os.rename(beside, path)


def read_file_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
