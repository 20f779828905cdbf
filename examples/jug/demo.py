"""Words of this machine's own text files, counted by 50 described jobs of one batch.

Makes a jar in DIRECTORY/jar, packs `wordcount/` into DIRECTORY/jug/wordcount.tgz, writes DIRECTORY/jug/words.jug, submits it,
and starts two workers. The package is unpacked and built once, each job gets its share of the files copied into its
directory, stages overlap, and the outputs are stored with their checksums. At the end `batch_status --work_done` is
compared with a direct count. Nothing is fetched, and nothing is left running, however it ends.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jobjar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo_jar import (
    LOOK_INTERVAL_S,
    WORKERS,
    DemoFailed,
    Progress,
    ending_workers,
    finish,
    look_at_jobs,
    make_room,
    run,
    run_demo,
    start_workers,
)

EXAMPLES = Path(__file__).resolve().parent
BATCH = "words"
SOURCES = ("/usr/share/common-licenses", "/usr/share/doc")
FILES_A_JOB = 8
LARGEST_FILE = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "directory", nargs="?", default="build/demo-jug", help="where to work (default: build/demo-jug)"
    )
    parser.add_argument("--source", action="append", help="a directory of text files (default: licenses and documents)")
    parser.add_argument("--jobs", type=int, default=50, help="how many jobs to share them out to (default: 50)")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs: at least 1")
    directory = Path(options.directory).absolute()
    return run_demo(partial(count_words, directory, options.source or SOURCES, options.jobs))


def count_words(directory: Path, sources: Sequence[str], jobs: int, progress: Progress) -> None:
    home, results = directory / "jar", directory / "jug"
    files = find_text_files(sources, jobs * FILES_A_JOB)
    make_room(home, results, EXAMPLES)
    package = pack(EXAMPLES / "wordcount", results / "wordcount.tgz")
    submit_file = write_submit_file(results / f"{BATCH}.jug", files, jobs)
    print(f"Counting the words of {len(files)} files in {jobs} jobs, {WORKERS} workers")
    with ending_workers(progress):
        run("submit_batch", str(submit_file), f"package={package}")
        start_workers()
        watch(jobs, progress)
        took_s = finish(progress, "batch_status", "--work_done")
    compare(files, jobs)
    print_results(home, submit_file, took_s)


def find_text_files(sources: Sequence[str], wanted: int) -> list[Path]:
    """Up to `wanted` text files below `sources`, or below the Python library where they have none. Raises DemoFailed."""
    for directories in (sources, (sysconfig.get_path("stdlib"),)):
        files = [path for directory in directories for path in walk(directory)]
        if files:
            step = max(1, len(files) // max(1, wanted))
            return files[::step][:wanted]
    raise DemoFailed(f"there is no text file under {', '.join(sources)}")


def walk(directory: str) -> Iterator[Path]:
    """The text files below a directory: what is neither a link, nor packed, nor large."""
    for parent, directories, names in os.walk(directory):
        directories.sort()
        for path in (Path(parent) / name for name in sorted(names)):
            if path.is_symlink() or not path.is_file() or not 0 < path.stat().st_size <= LARGEST_FILE:
                continue
            with path.open("rb") as file:
                if b"\0" not in file.read(4096) and path.suffix != ".gz":
                    yield path


def pack(directory: Path, archive: Path) -> Path:
    """Make a software package of a directory."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return archive


def write_submit_file(path: Path, files: list[Path], jobs: int) -> Path:
    """One batch with a job block for each share of the files."""
    lines = [
        f"# submit_batch {path.name} package=/path/to/wordcount.tgz",
        "batch {",
        f'  name = "{BATCH}"',
        "  software = \"'$(package)'\"",
        '  output_path = "counts"',
        '  notes = "words of the text files of this machine"',
        "}",
    ]
    for number in range(jobs):
        share = files[number::jobs]
        sources = " ".join(shlex.quote(f"{file}#name=share-{n:02}") for n, file in enumerate(share))
        quoted = sources.replace("\\", "\\\\").replace('"', '\\"')
        lines += ["job {", f'  name = "share-{number:02}"', f'  environment = "SHARE={number:02}"']
        lines += [f'  input_files = "{quoted}"', "}"]
    path.write_text("\n".join(lines) + "\n")
    return path


def watch(jobs: int, progress: Progress) -> None:
    """Say how far the batch is until all its jobs are completed. Raises DemoFailed, Interrupted."""
    while True:
        waiting, running, completed = look_at_jobs(progress)
        progress.log(
            f"{len(completed)} of {jobs} shares are counted", f"{len(waiting)} waiting, {len(running)} with a worker"
        )
        if len(completed) >= jobs:
            return
        time.sleep(LOOK_INTERVAL_S)


def compare(files: list[Path], jobs: int) -> None:
    """Compare what the jobs reported and stored with a count in this process. Raises DemoFailed."""
    counted = sum(len(file.read_bytes().split()) for file in files)
    (batch,) = jobjar.batch_status(BATCH)
    reported = batch["work_done"]
    if reported != counted:
        raise DemoFailed(f"the jobs counted {reported} words, and this process {counted}")
    stored = jobjar.list_outputs(BATCH)
    for file in stored:
        path = Path(str(file.storage_hfn).partition(":")[2])
        if hashlib.md5(path.read_bytes()).hexdigest() != file.storage_md5:
            raise DemoFailed(f"{path} is not what the job wrote: its md5 is not {file.storage_md5}")
    if len(stored) != jobs:
        raise DemoFailed(f"{len(stored)} files are stored instead of {jobs}")
    print(f"{reported} words, as a direct count says; {len(stored)} outputs stored, all with their checksums")


def print_results(home: Path, submit_file: Path, took_s: float) -> None:
    programs = shlex.quote(str(home / "bin"))
    print(f"\nIt took {took_s:.1f} s. No worker runs any more. What there is:")
    rows = [
        ("the submit file", submit_file),
        ("the package", home / "software"),
        ("the outputs", home / "storage/counts"),
        ("look further", f"{programs}/batch_status {BATCH}"),
        ("", f"{programs}/list_outputs {BATCH}"),
        ("", f"{programs}/get_output counts-07.txt -"),
    ]
    for label, value in rows:
        print(f"  {label:18}  {value}")


if __name__ == "__main__":
    sys.exit(main())
