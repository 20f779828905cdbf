"""A jar of a group: a member's calls run on another member's worker."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.others import GroupRig, open_place

pytestmark = [pytest.mark.root, pytest.mark.slow]
pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="needs root on Linux")
def test_a_member_s_calls_run_on_another_s_worker() -> None:
    program = (
        "import jobjar, os; e = jobjar.Executor(1); print(e.submit(lambda: os.geteuid()).result(60), os.geteuid()); "
        "print(sum(e.map(abs, range(500)))); e.shutdown()"
    )
    with open_place() as place:
        group = GroupRig(place / "jar")
        try:
            worker = group.start_worker()
            said = subprocess.run(
                [*group.by_colleague, sys.executable, "-c", program],
                env=group.environment,
                capture_output=True,
                text=True,
                cwd="/",
                timeout=100,
            )
            assert (said.stdout, said.stderr) == ("65534 1\n124750\n", "")
            assert os.listdir(group.home / "executors") == []
            group.stop_worker(worker)
        finally:
            group.end_everything()
