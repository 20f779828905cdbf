"""Packages for tests, packed with tar."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path


def write_package(directory: Path, install: str | None = None, **files: str) -> Path:
    """A package with a setup.sh, a program, and `package/install` where one is given."""
    for name in ("package", "bin"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "package/setup.sh").write_text("PATH=$1/bin:$PATH\nexport PATH\n")
    (directory / "package/commands").write_text("run_command = $1/bin/tell\n")
    (directory / "bin/tell.in").write_text("#!/bin/sh\necho at @HERE@\n")
    if install is not None:
        (directory / "package/install").write_text(f"#!/bin/sh\n{install}\n")
        (directory / "package/install").chmod(0o755)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


# What the document asks of an installer: files that know their place.
INSTALL = 'sed "s,@HERE@,$1," "$1/bin/tell.in" > "$1/bin/tell" && chmod +x "$1/bin/tell"'


def pack(directory: Path, archive: Path, what: str = ".") -> Path:
    subprocess.run(["tar", "-czf", str(archive), what], cwd=directory, check=True)
    return archive


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
