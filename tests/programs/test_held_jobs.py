"""A hand-made job with a wrong `#JJ` line: held in limbo, corrected there, moved on."""

from tests.rig import Rig, wait_until


def test_a_held_job_that_was_corrected_runs_as_its_file_says_now(rig: Rig) -> None:
    rig.drop("x", "#!/bin/sh\n#JJ retires = 1\nexit 3\n")
    worker = rig.start_worker()
    held = rig.home / "limbo" / "x"
    wait_until(held.exists, "the job in limbo")
    warnings = rig.status()["warnings"]
    assert any("x is held in limbo" in line and "'retires'" in line for line in warnings), warnings
    held.write_text("#!/bin/sh\n#JJ retries = 1\nexit 3\n")
    held.rename(rig.home / "unclaimed" / "x")
    rig.run("jobjar", "wait", "--timeout", "60s", "x", check=False)
    assert len(rig.show("x")["attempts"]) == 2
    rig.stop_worker(worker)
    rig.assert_clean()
