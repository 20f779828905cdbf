"""Stage in a described job: fetch its input files, unpack and install its software, place its workware.

Writes the working directory, `software/` and this node's cache of inputs. A kill midway leaves the job stranded; recovery removes
the attempt's working directory. Fetched and installed files are there whole or not at all (fetching/sources.py,
packages/install.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from jobjar.access.refusals import explain_error
from jobjar.attempts.workplace import Workplace
from jobjar.described.steps import STAGE_IN, Attempt, StageFailed, Steps, Work
from jobjar.errors import JarError
from jobjar.fetching.sources import Cache, fetch
from jobjar.job_file.description import check_names, has_staging
from jobjar.packages.install import Package, install, place_workware
from jobjar.packages.package import read_package


def stage_in(attempt: Attempt, make_workplace: Callable[[], Workplace]) -> Steps[None]:
    """Install the job's software, make its working directory, bring its files there, and run its stage_in_command if it has
    one. Raises StageFailed, or OSError where the disk refuses the directory."""
    description = attempt.description
    with attempt.limited():
        if not has_staging(description):
            # Without anything to stage in, no phase is journaled: it would only cost time.
            attempt.settle(make_workplace())
            text = attempt.text_of("stage_in_command")
            if text is None:
                return
            attempt.begin(STAGE_IN)
        else:
            attempt.begin(STAGE_IN)
            yield from install_software(attempt)
            attempt.settle(make_workplace())
            if description.workware or description.input_files:
                yield Work(partial(_bring_files, attempt, attempt.directory))
            use_workware(attempt)
            text = attempt.text_of("stage_in_command")
        if text is not None:
            yield from attempt.call_or_fail(text, STAGE_IN)
        attempt.end(0 if text is not None else None)


def install_software(attempt: Attempt) -> Steps[None]:
    """Install the job's software packages. Raises StageFailed."""
    if attempt.description.software:
        attempt.packages = yield Work(partial(_install, attempt))


def use_workware(attempt: Attempt) -> None:
    """Add the workware in the working directory to the packages: its setup.sh and commands come after the software's.
    Raises StageFailed."""
    if attempt.description.workware:
        try:
            attempt.packages = [*attempt.packages, read_package(attempt.directory)]
        except (JarError, OSError) as error:
            raise StageFailed(STAGE_IN, explain_error(error)) from error


def _open_cache(attempt: Attempt) -> Cache | None:
    """This node's copies of input files; None where none are to be kept."""
    settings = attempt.jar.settings
    if not settings.input_cache_size:
        return None
    path = settings.input_cache or f"/var/tmp/jobjar-{os.getuid()}/cache"
    return Cache(path, settings.input_cache_size, attempt.check)


def _install(attempt: Attempt) -> list[Package]:
    cache = _open_cache(attempt)
    software = attempt.jar.layout.software
    try:
        return [
            install(software, source, cache, attempt.log, attempt.check, attempt.log_warning)
            for source in attempt.description.software
        ]
    except (JarError, OSError) as error:
        raise StageFailed(STAGE_IN, explain_error(error)) from error


def _bring_files(attempt: Attempt, directory: str) -> None:
    cache = _open_cache(attempt)
    try:
        check_names(attempt.description.input_files)
        for source in attempt.description.workware:
            place_workware(source, directory, cache, attempt.check)
        for source in attempt.description.input_files:
            fetch(source, f"{directory}/{source.name}", cache, attempt.check)
    except (JarError, OSError, ValueError) as error:
        raise StageFailed(STAGE_IN, explain_error(error)) from error
