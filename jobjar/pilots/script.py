"""The script of a pilot, and what it asks of the batch system.

The script sets by name what its programs need, runs the lines of the queue (`--before`), takes back what died on this node, and
becomes the worker: so a signal to the script's process is one to the worker. A pilot that was given up has no directory `open/…`
any more; if it begins all the same, it ends at once.
"""

from __future__ import annotations

import os
import shlex

from jobjar.jar import Jar
from jobjar.layout import PilotPaths
from jobjar.pilots.pilot import Pilot
from jobjar.pilots.queue import Plan
from jobjar.pilots.systems import Request
from jobjar.settings.table import TABLE

# How long before its end, beside JJ_GRACE_TIME, a pilot is told of it.
_MARGIN_S = 20.0
# The settings that are not a pilot's, though this process has them.
_OF_THIS_NODE = ("JJ_HOME", "JJ_NODE", "JJ_LEDGER_HOME")


def find_work_s(jar: Jar, time_s: float) -> float:
    """How long the worker of a pilot takes jobs, that may run for `time_s`. Before its end it has to give its jobs back."""
    return time_s - min(time_s / 2, jar.settings.grace_time_s + _MARGIN_S)


def slots(plan: Plan) -> int:
    """How many jobs a pilot runs at once."""
    return 1


def make_script(jar: Jar, plan: Plan, pilot: Pilot, paths: PilotPaths) -> str:
    """The text of a pilot's script."""
    home = jar.layout.home
    variables = {"JJ_HOME": home}
    names = [setting.name for setting in TABLE if setting.name not in _OF_THIS_NODE]
    variables |= {name: os.environ[name] for name in (*names, "JJ_CONFIG_FILE") if name in os.environ}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    worker = [
        f"{home}/bin/start_worker",
        "--foreground",
        "--idle-exit",
        f"{plan.idle_exit_s:g}s",
        "--for",
        f"{plan.work_s:g}s",
        *(["--as-root-for-group"] if jar.root_is_meant else []),
        *plan.categories,
    ]
    lines = [
        "#!/bin/sh",
        f"# Pilot {pilot.number} of {plan.queue}, a worker of the jar {shlex.quote(home)}.",
        f"test -e {shlex.quote(paths.file)} || exit 0  # it was given up meanwhile",
        *exports,
        f'export JJ_PILOT="$$ {pilot.key}"  # worker/directory.py',
        f"PATH={shlex.quote(home)}/bin:$PATH",
        "export PATH",
        f"cd {shlex.quote(home)} || exit",
        *plan.before,
        f"{shlex.quote(home)}/bin/recover_jobs --quiet",
        f"exec {' '.join(map(shlex.quote, worker))}",
    ]
    return "\n".join(lines) + "\n"


def make_request(plan: Plan, pilot: Pilot, paths: PilotPaths) -> Request:
    """What the batch system is asked for."""
    return Request(
        name=pilot.name,
        script_path=paths.script,
        output_path=paths.output,
        time_s=plan.time_s,
        warning_s=plan.time_s - plan.work_s,
        cores=plan.cores,
        memory_mib=plan.memory_mib,
        gpus=plan.gpus,
        options=plan.options,
    )
