"""Make the pictures of README.md: a jar that is at work, as `jobjar web` shows it.

    python release/make_screens.py         write release/screens/overview.png and array.png

Needs Chromium and its driver (make packages-web). The jar is made in a temporary directory, and its worker is ended.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver

from jobjar.create import create_jar

SCREENS = Path(__file__).parent / "screens"
BIN = Path(sys.executable).parent
SIZE = 1280, 860
_PATIENCE_S = 60.0


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        home = f"{place}/jar"
        create_jar(home)
        environment = {"JJ_HOME": home, "PATH": f"{BIN}:/usr/bin:/bin", "HOME": place, "JJ_EXIT_ON_FAILURE": "no"}

        def run(*words: str) -> str:
            command = [str(BIN / words[0]), *words[1:]]
            return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

        worker = [str(BIN / "start_worker"), "--foreground", "LINUX"]
        workers = [
            subprocess.Popen(worker, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(2)
        ]
        view = subprocess.Popen(
            [str(BIN / "jobjar"), "web", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            array = fill(run)
            assert view.stdout is not None
            take_pictures(view.stdout.readline().strip(), array, place)
        finally:
            processes: list[subprocess.Popen[Any]] = [*workers, view]
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(_PATIENCE_S)


def fill(run: Callable[..., str]) -> str:
    """Jobs that end, fail and wait for three minutes; returns the array's id."""
    chance = random.Random(7)
    array = run(
        "jobjar", "submit", "-c", "LINUX", "--array", "1-20000", "sh", "-c", "test $((JJ_ARRAY_INDEX % 997)) -gt 3"
    )
    until = time.monotonic() + 180
    while time.monotonic() < until:
        for number in range(chance.randrange(6)):
            failing = "echo no such file: input; exit 3" if chance.random() < 0.15 else "sleep 0.1"
            run("submit_job", "--id", f"align-{number}", "-c", "LINUX", "-p", "5", "sh", "-c", f"'{failing}'")
        time.sleep(chance.random() * 3)
    for number in range(40):
        run("submit_job", "--id", f"render-{number}", "-c", "GPU", "true")
    run("submit_job", "--id", "simulate", "-c", "LINUX", "-p", "9", "sleep", "60")
    return array


def take_pictures(address: str, array: str, place: str) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={place}/profile",
    ):
        options.add_argument(word)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        base = address.partition("/?")[0]
        driver.get(address)
        for name, path in (("overview", "/"), ("array", f"/array?id={array}")):
            size = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(base + path)
            time.sleep(1.0)
            driver.save_screenshot(str(SCREENS / f"{name}.png"))
            print(SCREENS / f"{name}.png")
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
