"""A hand-made job with a wrong `#JJ` line: held in limbo, corrected there, moved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import Rig, wait_until


def test_a_held_job_that_was_corrected_runs_as_its_file_says_now(rig: Rig) -> None:
    rig.drop("x", "#!/bin/sh\n#JJ retires = 1\nexit 3\n")
    worker = rig.start_worker()
    held = rig.home / "limbo" / "x"

    def is_told() -> bool:
        return any("x is held in limbo" in line and "'retires'" in line for line in rig.status()["warnings"])

    wait_until(is_told, "the job in limbo, and then the reason")
    held.write_text("#!/bin/sh\n#JJ retries = 1\nexit 3\n")
    held.rename(rig.home / "unclaimed" / "x")
    rig.run("jobjar", "wait", "--timeout", "60s", "x", check=False)
    assert len(rig.show("x")["attempts"]) == 2
    rig.stop_worker(worker)
    rig.assert_clean()


@pytest.mark.parametrize("line", ["batch = wc", "input_files = /etc/hostname", "environment = A=1"])
def test_a_script_that_would_not_be_run_for_a_line_of_a_described_job_is_held_and_refused(
    rig: Rig, tmp_path: Path, line: str
) -> None:
    """Such a line makes it a described job, of which only the #JJ lines count; these do not say what is to be run."""
    text = f"#!/bin/sh\n#JJ {line}\necho done\n"
    rig.drop("x", text)
    worker = rig.start_worker()
    wait_until((rig.home / "limbo" / "x").exists, "the job in limbo")
    rig.stop_worker(worker)
    key = line.partition(" ")[0]
    for words in ("line 2", f"{key} makes this a described job", "run_command"):
        assert words in rig.show("x")["held_reason"]
    file = tmp_path / "file"
    for block in (f"#JJ {line}", f"#JJ {line}\n#JJ run_command = echo ran", f"#JJ described = yes\n#JJ {line}"):
        file.write_text(text.replace(f"#JJ {line}", block))
        file.chmod(0o755)
        result = rig.run("submit_job", "-f", str(file), check=False)
        is_refused = result.returncode == 2 and f"{key} makes this a described job" in result.stderr
        assert is_refused == (block == f"#JJ {line}"), result.stderr
    rig.assert_clean()
