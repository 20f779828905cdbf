"""A jar says the same whatever the locale of who uses it: names are the bytes of the disk, and no output fails on a character."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.test_odd_names import PROGRAMS, run
from tests.rig import BIN, Rig

NAMES = ("Prüfung.5", "日本.4", "naïve café.3", "\N{GRINNING FACE}.2")
# Neither the UTF-8 mode that Python takes for itself in the C locale, nor the locale that it puts in its place.
PLAIN = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LANG": "", "LC_CTYPE": ""}


@pytest.fixture(scope="session")
def latin_1(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale that is ISO-8859-1, made for these tests."""
    place = tmp_path_factory.mktemp("locales")
    program = shutil.which("localedef")
    if program is None or not os.path.exists("/usr/share/i18n/locales/de_DE"):
        pytest.skip("needs localedef and the sources of locales (glibc)")
    made = [program, "-i", "de_DE", "-f", "ISO-8859-1", "--no-archive", str(place / "de_DE.ISO-8859-1")]
    subprocess.run(made, check=True, capture_output=True)
    return {**PLAIN, "LC_ALL": "de_DE.ISO-8859-1", "LOCPATH": str(place)}


@pytest.fixture(params=["C", "POSIX", "ISO-8859-1", "an encoding for output alone"])
def locale(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment of a locale that is not UTF-8."""
    if request.param == "ISO-8859-1":
        yield request.getfixturevalue("latin_1")
    elif request.param in ("C", "POSIX"):
        yield {**PLAIN, "LC_ALL": request.param}
    else:
        yield {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"}


def encoding_of(environment: dict[str, str]) -> str:
    words = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True).stdout.strip()


def test_python_takes_names_for_something_else_in_these_locales(latin_1: dict[str, str]) -> None:
    assert encoding_of(latin_1) == "iso8859-1"
    assert encoding_of({**PLAIN, "LC_ALL": "C"}) == encoding_of({**PLAIN, "LC_ALL": "POSIX"}) == "ascii"


def test_jobs_of_all_names_are_run_and_told_in_every_locale(rig: Rig, locale: dict[str, str]) -> None:
    for name in NAMES:
        rig.drop(name, '#!/bin/sh\necho "${0##*/}"\n')
    rig.environment.update(locale)
    rig.run_until_idle()
    assert rig.names("completed") == sorted(NAMES)
    for words in PROGRAMS:
        status, out, err = run(rig, *words)
        assert status == 0 or words[1:2] == ("doctor",), (words, out, err)
        assert "\\u" not in err, (words, err)
    for name in NAMES:
        _, out, _ = run(rig, "jobjar", "show", name)
        assert name in out
        _, out, _ = run(rig, "jobjar", "output", name)
        assert out == name + "\n"
    rig.assert_clean()


def test_a_worker_in_the_background_takes_names_as_they_are_in_every_locale(rig: Rig, locale: dict[str, str]) -> None:
    rig.environment.update(locale)
    run(rig, "start_worker")
    for name in NAMES:
        rig.drop(name, "#!/bin/sh\nlocale 2>/dev/null; exit 0\n")
    run(rig, "jobjar", "wait", "--all", "--timeout", "60s")
    run(rig, "stop_worker", "all")
    assert rig.names("completed") == sorted(NAMES)


def test_journals_say_the_same_in_every_locale(rig: Rig, latin_1: dict[str, str]) -> None:
    rig.drop(NAMES[0], "#!/bin/sh\n")
    rig.run_until_idle(**latin_1)
    text = b"".join(path.read_bytes() for path in (rig.home / "ledger" / "journals").iterdir()).decode()
    places = {json.loads(line).get("to") for line in text.splitlines() if line}
    assert f"completed/{NAMES[0]}" in places
    assert rig.show(NAMES[0])["outcome"] == "succeeded"
    rig.assert_clean()


def test_a_job_has_the_locale_of_its_worker(rig: Rig, latin_1: dict[str, str]) -> None:
    name = rig.submit("echo $LC_ALL $PYTHONUTF8")
    rig.run_until_idle(**latin_1)
    assert rig.run("jobjar", "output", name).stdout == "de_DE.ISO-8859-1 0\n"


def test_words_mean_the_bytes_that_were_typed_in_every_locale(rig: Rig, latin_1: dict[str, str]) -> None:
    _, out, _ = run(rig, "submit_job", "printf %s 'für 日本'", **latin_1)
    rig.run_until_idle()
    assert rig.run("jobjar", "output", out.strip()).stdout == "für 日本"


def test_the_library_refuses_a_python_that_takes_names_for_something_else(rig: Rig, latin_1: dict[str, str]) -> None:
    words = [sys.executable, "-c", "import jobjar; jobjar.unclaimed_jobs()"]
    result = subprocess.run(words, env={**rig.environment, **latin_1}, capture_output=True, text=True)
    assert "NotUtf8: this Python takes file names for iso8859-1" in result.stderr, result.stderr
    assert "python -X utf8" in result.stderr
    words[1:1] = ["-X", "utf8"]
    subprocess.run(words, env={**rig.environment, **latin_1}, check=True)


def test_a_person_who_says_that_python_must_not_use_utf8_is_told_what_to_do(rig: Rig, latin_1: dict[str, str]) -> None:
    words = [sys.executable, "-X", "utf8=0", str(BIN / "system_status")]
    result = subprocess.run(words, env={**rig.environment, **latin_1}, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "UTF-8 mode" in result.stderr


def test_every_file_is_opened_by_its_encoding() -> None:
    """What a text file is must not depend on the locale: each `open` says its encoding (PLW1514 of ruff)."""
    package = Path(__file__).parents[2] / "jobjar"
    words: list[str] = [
        "check",
        "--preview",
        "--isolated",
        "--select",
        "PLW1514",
        "--output-format",
        "concise",
        str(package),
    ]
    result = subprocess.run([BIN / "ruff", *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_program_of_other_makers_is_read_by_the_locale() -> None:
    """A child's output is bytes, or decoded by a named encoding."""
    package = Path(__file__).parents[2] / "jobjar"
    found = [str(path) for path in package.rglob("*.py") if "text=True" in path.read_text(encoding="utf-8")]
    assert not found
