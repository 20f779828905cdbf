"""The site of `make docs`: it is made without a warning, leads nowhere in vain, and asks no other machine for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobjar.create import PROGRAMS
from jobjar.settings.table import TABLE
from tests.pages import ROOT

pytestmark = pytest.mark.slow


def test_the_site_is_made_without_a_warning_and_is_complete(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    subprocess.run(
        [sys.executable, "release/make_docs.py", source], cwd=ROOT, env={"PYTHONPATH": "."}, check=True, timeout=60
    )
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", source, site],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    programs = pages[site / "reference" / "programs.html"]
    assert [name for name in PROGRAMS if name != "jobjar" and f'id="{name.replace("_", "-")}"' not in programs] == []
    settings = pages[site / "reference" / "settings.html"]
    assert [setting.name for setting in TABLE if f">{setting.name}<" not in settings] == []
    for path, page in pages.items():
        asked = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:|//)', page)
        assert asked == [], path
        for target, anchor in re.findall(r'<a [^>]*href="([^":#]*)(#[^"]*)?"', page):
            led_to = (path.parent / target).resolve() if target else path
            assert led_to.exists(), f"{path.name} leads to {target}"
            if anchor and led_to.suffix == ".html" and len(anchor) > 1:
                assert f'id="{anchor[1:]}"' in pages[led_to], f"{path.name} leads to {target}{anchor}"
