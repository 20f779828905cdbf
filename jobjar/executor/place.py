"""The directory of an executor in its jar: it is made for the first call, and removed when the executor has ended.

The client writes a file of calls for each group, and its job moves that file from calls/ to taken/. So either the client
withdraws a group, by removing its file, or a job runs it. A killed client leaves its directory; nightly/executors.py removes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from jobjar.executor import frames
from jobjar.executor.frames import Record
from jobjar.jar import Jar
from jobjar.job_file.names import new_id
from jobjar.shared_disk.files import look, make_directory, write_all
from jobjar.shared_disk.patience import patiently
from jobjar.shared_disk.trees import remove_tree


class Place:
    """An executor's directory. Only its owner may use it; in a jar for a group, the group, whose workers run the calls."""

    def __init__(self, jar: Jar) -> None:
        self.paths = jar.layout.executor(new_id())
        mode = 0o2770 if jar.is_for_group else 0o700
        with contextlib.suppress(FileExistsError):
            make_directory(jar.layout.executors, 0o777 & ~jar.umask)
            if jar.is_for_group:
                os.chmod(jar.layout.executors, mode)
        for path in self.paths.directories():
            make_directory(path, mode)
            os.chmod(path, mode)
        self._file_mode = 0o660 if jar.is_for_group else 0o600

    def write_calls(self, group: str, pieces: Iterable[bytes]) -> None:
        """Write a group's file. Raises OSError."""
        path, data = f"{self.paths.calls}/{group}", list(pieces)

        def write() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._file_mode)
            try:
                os.fchmod(descriptor, self._file_mode)
                for piece in data:
                    write_all(descriptor, piece)
            finally:
                os.close(descriptor)

        patiently(write, path)

    def withdraw(self, group: str) -> bool:
        """Take a group back. Returns False if a job has taken it, or the disk does not say."""
        try:
            os.unlink(f"{self.paths.calls}/{group}")
        except FileNotFoundError:
            # An unlink that failed may have happened.
            return look(f"{self.paths.taken}/{group}") is None
        except OSError:
            return False
        return True

    def list_results(self) -> dict[str, list[str]]:
        """The names of the files of results, by their groups. Raises OSError."""
        found: dict[str, list[str]] = {}
        for name in sorted(os.listdir(self.paths.results)):
            found.setdefault(name.partition(".")[0], []).append(name)
        return found

    def read_results(self, name: str, offset: int) -> Iterator[tuple[Record, int]]:
        """Yield the records of a file of results from `offset` on, each with the offset after it. Raises OSError."""
        # Opened each time: a network disk looks afresh then.
        with contextlib.suppress(FileNotFoundError), open(f"{self.paths.results}/{name}", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > offset:
                file.seek(offset)
                yield from frames.read_records(file, size)

    def discard(self, group: str, results: Iterable[str]) -> None:
        """Remove the files of a group that is over."""
        for path in (f"{self.paths.taken}/{group}", *(f"{self.paths.results}/{name}" for name in results)):
            with contextlib.suppress(OSError):  # what stays goes with the directory
                os.unlink(path)

    def beat(self) -> None:
        """Show that the client lives. Raises OSError."""
        os.utime(self.paths.path)

    def remove(self) -> None:
        """Remove the directory. What cannot be removed now goes at night."""
        with contextlib.suppress(OSError):
            remove_tree(self.paths.path)
