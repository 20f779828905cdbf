"""A disk that refuses once a described job has run: its attempt is recorded as one that ran, never as one given back unrun."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.described_jobs import describe
from tests.rig import Rig, wait_until


def can_be_changed(directory: Path, may: bool) -> bool:
    words = ["chattr", "-i" if may else "+i", str(directory)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.root
def test_what_cannot_be_tidied_after_the_run_makes_no_attempt_unrun(rig: Rig, tmp_path: Path) -> None:
    """The states of both jobs cannot be removed: a retry would go on from the one, and the other job is over."""
    if not can_be_changed(tmp_path, False):
        pytest.skip("this disk has no immutable directories (chattr +i)")
    can_be_changed(tmp_path, True)
    tells = 'chattr +i "$(dirname "$PWD")"; printf "finished = 1\\nexit_status = %d\\n" > jug_polling.vars'
    failed = describe(rig, "failed", run_command="echo ran", polling_command=tells % 3, retries=1)
    fine = describe(rig, "fine", run_command="echo ran", polling_command=tells % 0)
    try:
        worker = rig.start_worker()
        wait_until(lambda: rig.show(failed)["not_before"] and rig.show(fine)["state"] == "completed", "both ends")
        attempt = rig.show(failed)["attempts"][0]
        assert attempt["outcome"] == "interrupted" and "Operation not permitted" in attempt["message"]
        assert "before it ran" not in attempt["message"] and attempt["wall_time_s"] is not None
        assert [attempt["outcome"] for attempt in rig.show(fine)["attempts"]] == ["succeeded"]
    finally:
        for directory in rig.home.glob("underway/*/*"):
            can_be_changed(directory, True)
    said = rig.stop_worker(worker)
    assert "Traceback" not in said and "fine: what its attempt left is not tidied" in rig_log(rig)
    rig.run("recover_jobs")
    rig.assert_clean()
    assert not list(rig.home.glob(f"underway/{rig.show(fine)['id']}"))


def rig_log(rig: Rig) -> str:
    return "".join(path.read_text() for path in rig.home.glob("workers/*/worker.log"))
