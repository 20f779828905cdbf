"""Programs that stand in for those of batch systems that are not here, and answer as their manuals say (jobjar/pilots/ names
them).

`make_programs` puts them into a directory, which also has the jobs: `<id>/name`, `output`, `script`, and `pid` and `status` of
one that began and ended. A job begins at once, unless a file `full` is there. With a file `refuse` its text is what a
submission gets for an answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAMS = {
    "slurm": ("sbatch", "squeue", "scancel"),
    "pbs": ("qsub", "qstat", "qselect", "qdel"),
    "sge": ("qsub", "qstat", "qdel"),
    "htcondor": ("condor_submit", "condor_q", "condor_rm"),
    "lsf": ("bsub", "bjobs", "bkill"),
}
# What each says of a job that waits, runs, has ended well, has failed, was cancelled. None: it does not list it.
WORDS: dict[str, tuple[str | None, ...]] = {
    "slurm": ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"),
    "pbs": ("Q", "R", "F", "F", "F"),
    "sge": ("qw", "r", None, None, None),
    "htcondor": ("1", "2", None, None, None),
    "lsf": ("PEND", "RUN", "DONE", "EXIT", "EXIT"),
}
_RUN = 'sh "$1"; echo $? > "$2"'


def make_programs(directory: Path, system: str) -> None:
    """Make the programs of a system."""
    directory.mkdir()
    for name in PROGRAMS[system]:
        program = directory / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {system} {name} "$@"\n')
        program.chmod(0o755)


class Standing:
    """A system. Jobs are directories of `home`."""

    def __init__(self, home: Path, system: str) -> None:
        self.home, self.system = home, system

    def submit(self, name: str, output: str, script: str) -> str:
        number = 1 + max([0, *(int(path.name) for path in self.home.iterdir() if path.is_dir())])
        job = self.home / str(number)
        job.mkdir()
        (job / "name").write_text(name)
        (job / "output").write_text(output)
        (job / "script").write_text(script)
        self.begin()
        return str(number)

    def begin(self) -> None:
        """Have jobs begin that wait."""
        for job in self.jobs():
            if self.state(job) == 0 and not (self.home / "full").exists():
                with open((job / "output").read_text(), "ab") as output:
                    process = subprocess.Popen(
                        ["sh", "-c", _RUN, "sh", (job / "script").read_text(), str(job / "status")],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                (job / "pid").write_text(str(process.pid))

    def jobs(self) -> list[Path]:
        return sorted(path for path in self.home.iterdir() if path.is_dir())

    def state(self, job: Path) -> int:
        if (job / "cancelled").exists():
            return 4
        if (job / "status").exists():
            return 2 if (job / "status").read_text().strip() == "0" else 3
        return 1 if (job / "pid").exists() else 0

    def cancel(self, number: str) -> None:
        job = self.home / number
        if self.state(job) == 1:
            os.killpg(int((job / "pid").read_text()), signal.SIGTERM)
        (job / "cancelled").touch()

    def listed(self) -> list[tuple[str, str, str, int]]:
        """(id, name, word, state) of the jobs that it lists."""
        self.begin()
        found = [(job, self.state(job)) for job in self.jobs()]
        words = WORDS[self.system]
        return [
            (job.name, (job / "name").read_text(), words[state] or "", state) for job, state in found if words[state]
        ]


def after(words: list[str], option: str) -> str:
    """The value of an option that is a word of its own."""
    return words[words.index(option) + 1]


def main(home: Path, system: str, program: str, words: list[str]) -> int:
    standing = Standing(home, system)
    refuse = home / "refuse"
    if program == PROGRAMS[system][0] and refuse.exists():
        print(refuse.read_text(), file=sys.stderr)
        return 1
    node = os.uname().nodename
    if program == "sbatch":
        values = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        print(standing.submit(values["--job-name"], values["--output"], words[-1]))
    elif program == "squeue":
        for id, name, word, state in standing.listed():
            print(f"{id}|{word}|{'Resources' if not state else 'None'}|{node if state else ''}|{name}")
    elif program == "qsub":
        id = standing.submit(after(words, "-N"), after(words, "-o"), words[-1])
        print(f"{id}.server" if system == "pbs" else id)
    elif program == "qselect":
        print("\n".join(f"{id}.server" for id, name, *_ in standing.listed() if name == after(words, "-N")))
    elif program == "qstat" and system == "pbs":
        jobs = {}
        for id, name, word, state in standing.listed():
            if f"{id}.server" in words:
                job = {
                    "Job_Name": name,
                    "Job_Owner": f"root@{node}",
                    "job_state": word,
                    "queue": "workq",
                    "server": "server",
                }
                job |= {} if state else {"comment": "Not Running: Insufficient amount of resource: ncpus"}
                jobs[f"{id}.server"] = job | ({"exec_host": f"{node}/0"} if state else {})
                if state > 1:
                    jobs[f"{id}.server"]["Exit_status"] = {2: 0, 3: 1, 4: 271}[state]  # type: ignore[assignment]
        print(
            json.dumps(
                {"timestamp": 1479277336, "pbs_version": "19.1.3", "pbs_server": "server", "Jobs": jobs}, indent=4
            )
        )
    elif program == "qstat":
        print("<?xml version='1.0'?>\n<job_info xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">")
        for tag, wanted, word in (("queue_info", 1, "running"), ("job_info", 0, "pending")):
            print(f"  <{tag}>")
            for id, name, code, state in standing.listed():
                if state == wanted:
                    fields = {
                        "JB_job_number": id,
                        "JAT_prio": "0.5",
                        "JB_name": name,
                        "JB_owner": "root",
                        "state": code,
                        "queue_name": f"all.q@{node}" if state else "",
                        "slots": "1",
                    }
                    lines = [f"      <{field}>{value}</{field}>" for field, value in fields.items()]
                    print("\n".join([f'    <job_list state="{word}">', *lines, "    </job_list>"]))
            print(f"  </{tag}>")
        print("</job_info>")
    elif program == "condor_submit":
        said = dict(line.split(" = ", 1) for line in sys.stdin.read().splitlines() if " = " in line)
        id = standing.submit(after(words, "-batch-name"), said["output"], said["executable"])
        print(f"{id}.0 - {id}.0")
    elif program == "condor_q":
        for id, name, word, state in standing.listed():
            if name in after(words, "-constraint"):
                print("\t".join((id, word, f"slot1@{node}" if state else "undefined", name, "undefined")))
    elif program == "bsub":
        id = standing.submit(after(words, "-J"), after(words, "-o"), words[-1])
        print(f"Job <{id}> is submitted to default queue <normal>.")
    elif program == "bjobs":
        listed = standing.listed()
        for id, name, word, state in listed:
            reason = "TERM_OWNER: job killed by owner" if state == 4 else "-"
            print(
                "|".join((id, word, node if state else "-", name, reason, "-" if state else "Job slot limit reached;"))
            )
        if not listed:
            print("Job <jj*> is not found", file=sys.stderr)
            return 255
    else:
        standing.cancel(words[-1].partition(".")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(os.environ["STAND_IN"]), sys.argv[1], sys.argv[2], sys.argv[3:]))
