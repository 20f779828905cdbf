"""What is below underway/: removed when its job is completed, and never while somebody is at it."""

from __future__ import annotations

import os
from pathlib import Path

from jobjar.batches.submit import submit_batches
from jobjar.batches.submit_file import parse_submit_file
from jobjar.ledger.rebuild import fill_ledger
from jobjar.recovery.orphans import tidy_underway
from tests.rig import Rig, wait_until


def test_a_job_that_a_hand_took_out_of_completed_keeps_what_another_node_polls(rig: Rig, tmp_path: Path) -> None:
    """This node's ledger has it completed still: the claim is told by the journal of another home."""
    polling = f"cat {tmp_path}/said > jug_polling.vars"
    text = f'batch\nname = "far"\npolling_time = 1\nrun_command = "true"\npolling_command = "{polling}"'
    (tmp_path / "said").write_text("finished = 1\n")
    jar = rig.open()
    submit_batches(jar, parse_submit_file(text, "batch", {}))
    rig.run_until_idle()
    fill_ledger(jar.ledger)
    (completed,) = (rig.home / "completed").iterdir()
    (tmp_path / "said").write_text("finished = 0\n")
    os.rename(completed, rig.home / "unclaimed" / completed.name)
    rig.start_worker(JJ_LEDGER_HOME=str(tmp_path / "home"))
    wait_until(lambda: len(list(rig.home.glob("underway/*/*/state.json"))) == 1)
    said: list[str] = []
    tidy_underway(jar, said.append)
    assert said == []
    assert len(list(rig.home.glob("underway/*/*/work"))) == 1
