"""How often a worker touches its heartbeat."""

from __future__ import annotations

import time
from pathlib import Path

from jobjar import hearing
from jobjar.worker import pulse
from jobjar.worker.pulse import Pulse
from tests.rig import Rig

INTERVAL_S = 0.1


def test_a_worker_that_is_idle_for_long_beats_half_as_often_on_a_network_disk_and_is_not_silent(
    rig: Rig, tmp_path: Path
) -> None:
    rig.environment |= {"JJ_LEDGER_HOME": str(tmp_path / "home"), "JJ_HEARTBEAT_TIME": str(INTERVAL_S)}
    jar = rig.open()
    assert jar.ledger_home.has_other_homes
    paths = jar.layout.worker("rain.7")
    Path(paths.path).mkdir()
    beating = Pulse(jar, paths, print)

    def beaten_ns() -> int:
        return Path(paths.heartbeat).stat().st_mtime_ns

    began = time.monotonic()  # before the first beat, so that a slow machine makes no wait look shorter
    beating.start()
    try:
        before = beaten_ns()
        while beaten_ns() == before:
            beating.beat(is_idle=True)
        assert time.monotonic() - began > 1.5 * INTERVAL_S
        before, began = beaten_ns(), time.monotonic()
        while time.monotonic() - began < INTERVAL_S:
            pass
        beating.beat()
        assert beaten_ns() > before
    finally:
        beating.stop()
    # Whoever asks whether a worker is silent allows for more: also an earlier release, which knows its interval from worker.json.
    # Where it asks whether another worker may take a job, an earlier release allows for three intervals.
    assert min(hearing._BEATS, 3) > pulse._IDLE_INTERVALS
