"""Whether a batch, or all of a jar, is over: what the ledger only seems to know does not count."""

from __future__ import annotations

from pathlib import Path

from jobjar.ledger.ask_last_ends import ended_job, is_all_over, is_batch_over, last_end, last_end_of_batch
from jobjar.ledger.removed import forget_missed, mark_missed
from jobjar.reports.refresh import refresh_ledger
from tests.rig import Rig


def test_a_job_that_a_claimer_missed_or_whose_end_is_not_known_yet_keeps_its_batch_open(
    rig: Rig, tmp_path: Path
) -> None:
    (tmp_path / "b.jug").write_text("batch\nname = b\nseeds = 1-2\nrun_command = true\n")
    rig.run("submit_batch", str(tmp_path / "b.jug"))
    jar = rig.open()
    refresh_ledger(jar)
    with jar.ledger.writing() as connection:
        rows = list(connection.execute("SELECT id, place FROM job"))
        assert not is_batch_over(connection, "b") and not is_all_over(connection)
        for row, place in rows:
            mark_missed(connection, row, place)  # another worker was quicker
        assert not is_batch_over(connection, "b") and not is_all_over(connection)
        forget_missed(connection, [row for row, _ in rows])
        assert is_batch_over(connection, "b") and is_all_over(connection)
        connection.execute("UPDATE job SET state = 'completed', moved_at = unixepoch()")
        assert not is_batch_over(connection, "b")  # the files are in completed/, and no entry says how they ended
        connection.execute("UPDATE job SET moved_at = moved_at - 3600")
        assert is_batch_over(connection, "b")  # a hand moved them there
        assert last_end(connection) is None and last_end_of_batch(connection, "b") is None
        assert ended_job(connection, "none") is None
        connection.execute("UPDATE job SET state = 'limbo'")
        assert not is_batch_over(connection, "b") and is_all_over(connection)
