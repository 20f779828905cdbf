"""What the doctor says of one thing that it looked at. Reads nothing and writes nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jobjar.errors import JarError

FINE, NOTE, WARNING, DANGER = "fine", "note", "warning", "danger"
VERDICTS = (FINE, NOTE, WARNING, DANGER)


class Finding(NamedTuple):
    """`measured` is what was seen, `meaning` what follows from it, `advice` what to do; the last two are empty where fine."""

    group: str
    check: str
    verdict: str
    measured: str
    meaning: str = ""
    advice: str = ""


def worst_verdict(findings: Iterable[Finding]) -> str:
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default=FINE)


def examine(group: str, check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of `look()`, a generator; where it cannot look any further, a warning that says why."""
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except JarError as error:
        # Our errors say themselves what to do.
        findings.append(Finding(group, check, WARNING, "could not be looked at", str(error), ""))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        meaning = f"{where}{error.strerror or error}"
        advice = "check the disk and the permissions"
        findings.append(Finding(group, check, WARNING, "could not be looked at", meaning, advice))
    return findings


def format_findings(findings: Sequence[Finding], quiet: bool = False) -> str:
    """Lines for people, by group; `quiet` leaves out what is fine."""
    lines: list[str] = []
    group = ""
    for finding in findings:
        if quiet and finding.verdict == FINE:
            continue
        if finding.group != group:
            group = finding.group
            lines += ["", group]
        lines.append(f"  {finding.verdict:8} {finding.check}: {finding.measured}")
        if finding.meaning:
            lines.append(f"           {finding.meaning}")
        if finding.advice:
            lines.append(f"           → {finding.advice}")
    counts = Counter(finding.verdict for finding in findings)
    lines += ["", ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(VERDICTS))]
    return "\n".join(lines).lstrip("\n")


def as_objects(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [finding._asdict() for finding in findings]
