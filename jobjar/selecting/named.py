"""Find the jobs that a word names. Reads the ledger, and looks for the files of jobs in directories that questions leave out.

A word is, whichever fits first: `@1`, `@2` … (the last, the second to last that this user submitted), an id, a job's whole name,
a place or a path, the beginning of an id, an identifier in a name. A word that is none of these may be a
pattern of names (`*nightly*`), which `find_rows` in select.py resolves. Here `ARRAY[3]` will be read too.
"""

from __future__ import annotations

import os
import re

from jobjar.errors import AmbiguousJob, UnknownJob
from jobjar.host import login
from jobjar.jar import Jar
from jobjar.ledger.ask_jobs import find_jobs
from jobjar.ledger.ask_selected import latest_of_submitter
from jobjar.ledger.looks import look_for
from jobjar.ledger.models import JobReport
from jobjar.selecting.unknown import explain_unknown, list_choices
from jobjar.text import as_text

# If more jobs match, they are listed without a look at their files.
_MOST_LOOKED_FOR = 10
_LATEST = re.compile(r"@([1-9][0-9]{0,8})")


def find_job(jar: Jar, word: str) -> JobReport:
    """The one job that a word names. The caller brings the ledger up to date. Raises UnknownJob, AmbiguousJob."""
    text = _uid_of_latest(jar, word) or as_text(word)
    for directory in (jar.layout.home, os.path.realpath(jar.layout.home)):
        if text.startswith(directory + "/"):
            text = text[len(directory) + 1 :]
    found = find_jobs(jar.ledger, text)
    if len(found) <= _MOST_LOOKED_FOR:
        known = [(job.id, job.uid, job.place, job.name) for job in found]
        if look_for(jar.ledger, jar.layout, text, known, jar.open_journal):
            found = find_jobs(jar.ledger, text)
    if not found:
        raise UnknownJob(job=word, home=jar.layout.home, hint=explain_unknown(jar, text))
    if len(found) > 1:
        raise AmbiguousJob(job=word, count=len(found), ids=list_choices(found))
    return found[0]


def is_pattern(word: str) -> bool:
    """Whether a word is to be read as a pattern of names (`*nightly*`), if it names nothing itself."""
    return any(character in word for character in "*?[")


def _uid_of_latest(jar: Jar, word: str) -> str | None:
    found = _LATEST.fullmatch(word)
    if found is None:
        return None
    uid = latest_of_submitter(jar.ledger.connection, login(), int(found.group(1)))
    if uid is None:
        hint = f"{login()} has not submitted so many jobs here; `jobjar list --submitter {login()}` lists them"
        raise UnknownJob(job=word, home=jar.layout.home, hint=hint)
    return uid
