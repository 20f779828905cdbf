"""The result of one check of the doctor, and its output. Reads and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jobjar.errors import JarError

FINE, NOTE, WARNING, DANGER = "fine", "note", "warning", "danger"
VERDICTS = (FINE, NOTE, WARNING, DANGER)


class Finding(NamedTuple):
    """`measured` is the observation, `meaning` its consequence, `advice` what to do. The last two are empty if all is fine."""

    group: str
    check: str
    verdict: str
    measured: str
    meaning: str = ""
    advice: str = ""


def worst_verdict(findings: Iterable[Finding]) -> str:
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default=FINE)


def examine(group: str, check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of the generator `look()`. If it fails, the last finding is a warning with the reason."""
    findings: list[Finding] = []
    try:
        findings.extend(look())
    except JarError as error:
        # The text of a JarError already says what to do.
        findings.append(Finding(group, check, WARNING, "could not be looked at", str(error), ""))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        meaning = f"{where}{error.strerror or error}"
        advice = "check the disk and the permissions"
        findings.append(Finding(group, check, WARNING, "could not be looked at", meaning, advice))
    return findings


def format_findings(findings: Sequence[Finding], quiet: bool = False) -> str:
    """Lines for people, by group; `quiet` omits what is fine."""
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
