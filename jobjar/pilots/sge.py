"""Pilots on Grid Engine (Sun, Univa, Son of, Altair): qsub, qstat, qdel.

`qstat -xml` lists what waits and runs; what has ended is not in it, and judge.py decides by the worker what became of it.
Formats: qsub(1) (`-terse`), qstat(1) ("OUTPUT FORMATS", job states), the schema qstat.xsd of Grid Engine 6.2 and later. Tested
with a stand-in. Writes nothing.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from jobjar.host import login
from jobjar.pilots import systems
from jobjar.pilots.systems import RUNNING, WAITING, Known, NoAnswer, NotSubmitted, Request, Seen


class GridEngine:
    name = "sge"
    submits_with = "qsub"

    def refused_options(self, options: Sequence[str]) -> list[str]:
        # Grid Engine's options are words of several letters behind one hyphen.
        return [option for option in options if option in ("-N", "-o", "-j", "-t", "-r", "-terse", "-sync", "-b")]

    def submit(self, request: Request) -> str:
        words = ["qsub", "-terse", "-N", request.name, "-j", "y", "-o", request.output_path, "-r", "n", "-S", "/bin/sh"]
        words += ["-l", f"h_rt={round(request.time_s)}"]
        if request.cores:
            words += ["-pe", "smp", str(request.cores)]
        if request.memory_mib:
            words += ["-l", f"h_vmem={request.memory_mib}M"]
        if request.gpus:
            words += ["-l", f"gpu={request.gpus}"]
        answer = systems.ask([*words, *request.options, request.script_path])
        lines = answer.output.split()
        if answer.status or not lines or not lines[-1].isdecimal():
            raise NotSubmitted(answer.words)
        return lines[-1]

    def poll(self, pilots: Sequence[Known]) -> dict[str, Seen]:
        answer = systems.ask(["qstat", "-xml", "-u", login()])
        if answer.status:
            raise NoAnswer(answer.words)
        try:
            tree = ElementTree.fromstring(answer.output)
        except ElementTree.ParseError as error:
            raise NoAnswer(f"qstat: {error}") from error
        names = {pilot.name for pilot in pilots}
        found = {}
        for job in tree.iter("job_list"):
            name = job.findtext("JB_name", "")
            if name in names:
                queue = job.findtext("queue_name", "")
                found[name] = _seen(job.findtext("JB_job_number", ""), job.findtext("state", ""), queue)
        return found

    def cancel(self, id: str, is_running: bool) -> None:
        answer = systems.ask(["qdel", id])
        if answer.status and "does not exist" not in answer.output + answer.errors:
            raise NoAnswer(answer.words)


def _seen(id: str, word: str, queue: str) -> Seen:
    node = queue.partition("@")[2]
    if "E" in word:
        return Seen(id, WAITING, word, "`qstat -j` says why it is in the error state", node, never=True)
    if "q" in word or "h" in word:
        return Seen(id, WAITING, word, "", node)
    return Seen(id, RUNNING, word, "", node)
