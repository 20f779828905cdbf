"""jobjar metrics, read by Prometheus's own client library."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.rig import Rig


def read_values(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every value by its metric's name and labels. Each metric says what it is, and is a gauge with a plain name."""
    values = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation and family.type == "gauge", family
        assert family.name.startswith("jobjar_") and not family.name.endswith(("_total", "_count", "_sum"))
        for sample in family.samples:
            values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return values


def test_the_numbers_are_those_of_the_status_and_a_file_of_them_is_whole(rig: Rig, tmp_path: Path) -> None:
    rig.submit("true")
    rig.submit("false")
    rig.run_until_idle()
    rig.submit("true")
    rig.run("workload_limit", "LINUX", "3")
    file = tmp_path / "jobjar.prom"
    file.write_text("old")
    os.umask(0o077)
    assert rig.run("jobjar", "metrics", "--textfile", str(file)).stdout == ""
    assert file.stat().st_mode & 0o777 == 0o644 and [*tmp_path.glob("*.prom*")] == [file]
    values = read_values(file.read_text())
    printed = read_values(rig.run("jobjar", "metrics").stdout)
    assert set(printed) == set(values)
    for name, labels in (
        ("jobjar_jobs", {"state": "waiting"}),
        ("jobjar_waiting_jobs", {"category": "", "priority": "0"}),
    ):
        assert values[name, tuple(sorted(labels.items()))] == 1
    assert values["jobjar_jobs", (("state", "ended"),)] == 2
    for outcome in ("succeeded", "failed"):
        assert values["jobjar_ended_jobs", (("outcome", outcome), ("window", "1h"))] == 1
    assert values["jobjar_limit_tokens", (("kind", "category"), ("name", "LINUX"))] == 3
    status = rig.status()
    assert values["jobjar_warnings", ()] == len(status["warnings"]) > 0
    assert values["jobjar_standing_jobs", (("cause", "no_worker"),)] == 1
    assert 0 < values["jobjar_oldest_waiting_job_age_seconds", ()] < 600
    missing = rig.run("jobjar", "metrics", "--textfile", str(tmp_path / "no" / "where"), check=False)
    assert missing.returncode == 1 and f"{tmp_path}/no: No such file" in missing.stderr
