"""Make `jobjar-VERSION.tgz`: a jar that carries its library, ready to be unpacked and used (guide, "Installing").

    python release/make_tarball.py [DIR]     into DIR, or into build/; prints the tarball's path

It is made as `jobjar init --self-contained` makes a jar, of what is installed: no network is needed. What has to differ from jar
to jar is left out: its id, its ledger, and its path in the crontabs. The same sources and packages give the same bytes: names are
sorted, all belongs to root, and all times are SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import gzip
import os
import sys
import tarfile
import tempfile
from pathlib import Path

from jobjar.create import CRONTABS, NOT_FILLED_IN, create_jar, fill_crontab
from jobjar.version import VERSION

NAME = f"jobjar-{VERSION.replace('.', '_')}"


def make_tarball(directory: Path, made_at: int = 0) -> Path:
    """Write the tarball into `directory`; `made_at` (UTC epoch seconds) is the time of all that is in it."""
    directory.mkdir(parents=True, exist_ok=True)
    tarball = directory / f"{NAME}.tgz"
    with tempfile.TemporaryDirectory(dir=directory) as place:
        layout = create_jar(f"{place}/{NAME}", carries_library=True)
        os.unlink(layout.jar_id_file)
        for name in os.listdir(CRONTABS):
            Path(layout.crontabs, name).write_text(fill_crontab(name, NOT_FILLED_IN))
        written = Path(place, tarball.name)
        with written.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=made_at) as packed:
            pack(Path(layout.home), packed, made_at)
        written.replace(tarball)
    return tarball


def pack(jar: Path, file: gzip.GzipFile, made_at: int) -> None:
    """Write a jar's files and directories as a tar archive that any tar unpacks."""
    # Any tar reads ustar, whose names may have 255 bytes.
    with tarfile.open(mode="w", fileobj=file, format=tarfile.USTAR_FORMAT) as archive:
        for path in [jar, *sorted(jar.rglob("*"))]:
            entry = archive.gettarinfo(path, str(path.relative_to(jar.parent)))
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = made_at, 0, 0, "root", "root"
            if entry.isfile():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    print(make_tarball(place, int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
