"""A jar that carries its library: unpacked, moved, copied, upgraded, and used where there is neither pip nor a network, nor what
it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from jobjar.create import create_jar
from jobjar.errors import UnsafeLink
from jobjar.self_contained import CARRIED, collect_library
from jobjar.version import VERSION
from release.make_tarball import NAME, make_tarball
from tests.described_jobs import script
from tests.hosts.nodes import BOOT
from tests.pages import ROOT
from tests.rig import BIN, Result, Rig

_PYTHON = "/usr/bin/python3"
_IS_NEW_ENOUGH = "import sys, sqlite3, ctypes; sys.exit(sys.version_info < (3, 11))"
_HAS_PYTHON = (
    Path(_PYTHON).exists() and not subprocess.run([_PYTHON, "-c", _IS_NEW_ENOUGH], capture_output=True).returncode
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _HAS_PYTHON, reason=f"needs a {_PYTHON} that is 3.11 or later"),
]
# A machine on which nothing is installed but what its system brings: this source tree, its virtual environment, and the Python of
# that are hidden, and there is no network. What is started there ends with it.
_MACHINE = """
hostname rain
ip link set lo up
for place in {hidden}; do test ! -d "$place" || mount -t tmpfs tmpfs "$place"; done
cd "$1"
{script}
"""
_HIDDEN = {str(ROOT), sys.prefix, *([] if sys.base_prefix == "/usr" else [sys.base_prefix])}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}


def run(directory: Path, text: str, check: bool = True) -> Result:
    """Run lines of sh on such a machine, in `directory`; with `check`, all of them have to succeed."""
    machine = _MACHINE.format(hidden=" ".join(sorted(_HIDDEN)), script=text)
    words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec"]
    result = subprocess.run(
        [*words, machine, "sh", str(directory)],
        env={**_ENVIRONMENT, "HOME": str(directory), "BOOT": BOOT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert not check or result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr, result.stderr
    return result


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tarball(tmp_path_factory.mktemp("tarball"), made_at=1_700_000_000)


@pytest.fixture
def jar(tarball: Path, tmp_path: Path) -> Path:
    """An unpacked jar."""
    subprocess.run(f"gunzip < {tarball} | tar xf -", shell=True, check=True, cwd=tmp_path)
    return tmp_path / NAME


@pytest.mark.root
def test_an_unpacked_jar_runs_the_guide_s_first_commands_and_a_second_node_s_job(tarball: Path, tmp_path: Path) -> None:
    said = run(
        tmp_path,
        f"""
        gunzip < {tarball} | tar xf -
        ls {NAME}
        cd {NAME}/bin
        ./start_worker
        job=$(./submit_job -i hello 'echo "hello from $JJ_NODE"; submit_job -c meadow "echo and from \\$JJ_NODE" > $JJ_HOME/far')
        ./jobjar wait --timeout 200s $job
        ./jobjar output $job
        # The library, from its own place and by PYTHONPATH.
        cd ../python && python3 -c 'import jobjar; print(jobjar.get_home())'
        cd / && PYTHONPATH=$1/{NAME}/python python3 -c 'import jobjar; print(jobjar.submit_job("true"))' > $1/near
        export JJ_HOME=$1/{NAME} PATH=$1/{NAME}/bin:$PATH
        # A second node, with a boot and processes of its own.
        unshare --mount --uts --pid --fork --mount-proc sh -ec "$BOOT; hostname meadow; exec start_worker --foreground" &
        jobjar wait --timeout 200s $(cat $JJ_HOME/far) $(cat $1/near)
        jobjar output $(cat $JJ_HOME/far)
        system_status
        stop_worker all
        wait
        jobjar check
        jobjar doctor
        # As cron starts it.
        jobjar init $JJ_HOME
        env -i $(grep -h '^[A-Z_]*=' $JJ_HOME/crontabs/worker.cron) sh -c check_workers | wc -l
        """,
    ).stdout
    for name in (
        "bin",
        "crontabs",
        "documents",
        "limbo",
        "unclaimed",
        "claimed",
        "completed",
        "workers",
        "config.ini",
        "python",
    ):
        assert f"\n{name}\n" in f"\n{said}", said
    home = tmp_path / NAME
    assert f"hello from rain\n{home}\n" in said and "\nand from meadow\n" in said
    assert f"Jar {home}, seen from rain" in said
    assert "meadow." in said.partition("Jar ")[2]
    assert said.endswith(f"{home}\n4\n"), said
    # The compiled pysqlite3 is not there, and doctor says how it can be.
    assert f"pip install --target {home}/python pysqlite3" in said or "(sqlite3)" in said


@pytest.mark.root
def test_described_jobs_are_fetched_for_and_a_fresh_worker_follows_one_that_failed(jar: Path, tmp_path: Path) -> None:
    """aiohttp goes without its compiled parts, and a fresh worker, which is another start of Python, finds the library too."""
    (tmp_path / "in.txt").write_text("fetched\n")
    (tmp_path / "fails").write_text(script(run_command="exit 3", retries=0))
    (tmp_path / "fetches").write_text(script(input_files="http://127.0.0.1:8000/in.txt", run_command="cat in.txt"))
    for name in ("fails", "fetches"):
        (tmp_path / name).chmod(0o755)
    said = run(
        tmp_path,
        f"""
        python3 -m http.server 8000 > served 2>&1 &
        until python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000))' 2> tried; do true; done
        export JJ_FAILURE_PAUSE=0
        PATH=$PWD/{NAME}/bin:$PATH
        start_worker
        first=$(submit_job -f ./fails)
        jobjar wait --timeout 200s $first || true
        job=$(submit_job -f ./fetches)
        jobjar wait --timeout 200s $job
        jobjar output $job
        cat {NAME}/workers/*/worker.log
        ls {NAME}/workers
        jobjar check
        """,
    ).stdout
    assert "fetched\n" in said
    assert "a fresh worker takes this one's place" in said


@pytest.mark.root
def test_it_works_wherever_it_is_moved_or_copied_and_makes_others_of_its_kind(jar: Path, tmp_path: Path) -> None:
    said = run(
        tmp_path,
        f"""
        {NAME}/bin/submit_job 'echo before'
        cp -a {NAME} copy
        mkdir other && mv {NAME} other/jar
        other/jar/bin/jobjar init made
        for home in other/jar copy made; do
            job=$($home/bin/submit_job 'echo in $JJ_HOME')
            $home/bin/start_worker > /dev/null
            $home/bin/jobjar wait --all --timeout 200s
            $home/bin/jobjar output $job
            $home/bin/stop_worker all > /dev/null
            $home/bin/jobjar check
            ls $home/completed | wc -l
        done
        """,
    ).stdout
    for home in ("other/jar", "copy", "made"):
        assert f"in {tmp_path}/{home}\n" in said
    assert [line for line in said.splitlines() if line.isdecimal()] == ["2", "2", "1"], said
    assert len({(tmp_path / home / "python" / CARRIED).read_text() for home in ("other/jar", "copy", "made")}) == 1


@pytest.mark.root
def test_an_upgrade_loses_no_job_and_no_setting(jar: Path, tarball: Path, tmp_path: Path) -> None:
    """By init of the newer one, which is unpacked elsewhere; and by unpacking that over the jar."""
    run(tmp_path, f"{NAME}/bin/jobjar init {NAME}")
    assert f"JJ_HOME={jar}\n" in (jar / "crontabs/worker.cron").read_text()
    config = (jar / "config.ini").read_text() + "JJ_RETRIES: 4\n"
    (jar / "config.ini").write_text(config)
    crontab = (jar / "crontabs/worker.cron").read_text() + "# mine\n"
    (jar / "crontabs/worker.cron").write_text(crontab)
    # An older version had other files, and somebody put a package of their own beside them.
    (jar / "python/jobjar/older.py").write_text("")
    (jar / "python/gone").mkdir()
    (jar / "python/gone/older.py").write_text("")
    (jar / "python/own.py").write_text("")
    with (jar / "python" / CARRIED).open("a") as carried:
        carried.write("gone/older.py\njobjar/older.py\n../config.ini\n")
    (jar / "python/jobjar/version.py").write_text('VERSION = "0.0.9"\n')
    (jar / "bin/submit_job").write_text("#!/bin/sh\nexit 1\n")
    said = run(
        tmp_path,
        f"""
        {NAME}/bin/jobjar --version
        PYTHONPATH=$PWD/{NAME}/python python3 -c 'import jobjar; jobjar.submit_jobs(["true"] * 3)'
        mkdir newer && gunzip < {tarball} | tar xf - -C newer
        newer/{NAME}/bin/jobjar init {NAME}
        rm -r newer
        {NAME}/bin/jobjar --version
        {NAME}/bin/submit_job true
        {NAME}/bin/start_worker > /dev/null
        {NAME}/bin/jobjar wait --all --timeout 200s
        {NAME}/bin/stop_worker all > /dev/null
        {NAME}/bin/submit_job true
        {NAME}/bin/jobjar check
        """,
    ).stdout
    assert [line for line in said.splitlines() if line.startswith("Job Jar ")] == [
        "Job Jar 0.0.9",
        f"Job Jar {VERSION}",
    ]
    assert (jar / "config.ini").read_text() == config
    assert (jar / "crontabs/worker.cron").read_text() == crontab
    assert (jar / "python/own.py").exists()
    assert not (jar / "python/jobjar/older.py").exists() and not (jar / "python/gone").exists()
    before = sorted(path.relative_to(jar) for path in jar.rglob("*") if path.parts[-2] in ("unclaimed", "completed"))
    said = run(
        tmp_path,
        f"""
        gunzip < {tarball} | tar xf - --strip-components=1 -C {NAME}
        {NAME}/bin/jobjar check
        {NAME}/bin/system_status
        """,
    ).stdout
    assert len(before) == 5
    assert before == sorted(
        path.relative_to(jar) for path in jar.rglob("*") if path.parts[-2] in ("unclaimed", "completed")
    )
    assert "0        1            0          4" in said


def test_what_is_packed_is_the_same_each_time_and_names_no_place(tarball: Path, tmp_path: Path) -> None:
    again = make_tarball(tmp_path, made_at=1_700_000_000)
    assert again.read_bytes() == tarball.read_bytes()
    with tarfile.open(tarball) as archive:
        members = archive.getmembers()
        texts = {member.name: archive.extractfile(member).read() for member in members if member.isfile()}  # type: ignore[union-attr]
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 1_700_000_000)}
    assert {member.mode for member in members} == {0o600, 0o700}
    for name, text in texts.items():
        assert not name.endswith((".so", ".pyc")) and not text.startswith(b"\x7fELF"), name
        assert os.fsencode(str(ROOT)) not in text and os.fsencode(str(tmp_path.parent)) not in text, name
    licences = {
        name.split("/")[2].partition("-")[0] for name in texts if "/python/" in name and "LICEN" in name.upper()
    }
    packages = {name.split("/")[2].partition("-")[0] for name in texts if ".dist-info/METADATA" in name}
    assert packages >= {
        "jobjar",
        "peewee",
        "portalocker",
        "python_daemon",
        "tabulate",
        "aiohttp",
        "fsspec",
        "inotify_simple",
    }
    # lockfile's wheel has none; its METADATA says MIT.
    assert packages - licences <= {"lockfile"}, packages - licences
    assert f"{NAME}/ledger/jar_id" not in texts
    assert b"JJ_HOME=@JJ_HOME@\n" in texts[f"{NAME}/crontabs/worker.cron"]


def test_what_packages_want_before_a_later_python_is_there_too() -> None:
    """A library that was collected with one Python serves each that Job Jar runs with."""
    from importlib.metadata import distribution

    from packaging.requirements import Requirement

    names = {name.split("/")[0] for name in collect_library() if name.endswith(".dist-info/METADATA")}
    carried = {name.partition("-")[0].replace("_", "-") for name in names}
    for name in carried:
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            for version in ("3.11", "3.12", "3.13", "3.14"):
                environment = {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}
                if wanted.marker is None or wanted.marker.evaluate(environment):
                    assert wanted.name.lower().replace("_", "-") in {*carried, "pysqlite3"}, f"{name} wants {text}"


def old_pythons() -> list[Path]:
    """Pythons of this machine that are too old."""
    versions = Path(os.path.realpath(sys.executable)).parents[2]
    return [path for minor in range(6, 11) for path in versions.glob(f"3.{minor}.*/bin/python3.{minor}")]


def test_a_program_finds_a_python_that_is_new_enough_or_says_which_it_wants(jar: Path, tmp_path: Path) -> None:
    program = str(jar / "bin/submit_job")
    places = tmp_path / "bin"
    places.mkdir()

    def call() -> Result:
        return subprocess.run(
            [program, "true"], env={"PATH": str(places), "HOME": str(tmp_path)}, capture_output=True, text=True
        )

    none = call()
    assert (
        none.returncode == 1 and none.stderr == "submit_job: there is no Python in PATH; Job Jar needs 3.11 or later\n"
    )
    for old in old_pythons():
        (places / "python3").unlink(missing_ok=True)
        (places / "python3").symlink_to(old)
        (places / "python3.11").unlink(missing_ok=True)
        version = old.name.removeprefix("python")
        refused = call()
        assert refused.returncode == 1
        assert (
            refused.stderr == f"submit_job: {places}/python3 is Python {version}; Job Jar needs 3.11 or later in PATH\n"
        )
        (places / "python3.11").symlink_to(_PYTHON)
        found = call()
        assert found.returncode == 0 and found.stderr == ""
    (places / "python3").unlink(missing_ok=True)
    (places / "python3.11").unlink(missing_ok=True)
    (places / "python3.11").symlink_to(_PYTHON)
    assert call().returncode == 0
    assert len(list((jar / "unclaimed").iterdir())) == 1 + len(old_pythons())


def test_init_adds_the_library_to_a_jar_and_keeps_it_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "jar")
    job = rig.submit("echo", "kept")
    rig.run("jobjar", "init", "--self-contained", str(rig.home))
    assert (rig.home / "bin/submit_job").read_text().startswith("#!/bin/sh\n")
    assert rig.names("unclaimed") == [job]
    # Half of it is gone, and a killed init left a half-written file; `init` alone completes what it finds.
    (rig.home / "python/peewee.py").write_text("")
    (rig.home / "python/jobjar/errors.py").unlink()
    (rig.home / "python/jobjar/batches/plan.py.999999.0123456789abcdef.new").write_text("")
    rig.run("jobjar", "init", "--group", str(rig.home))
    assert not list((rig.home / "python").rglob("*.new"))
    words = [_PYTHON, str(rig.home / "bin/jobjar"), "show", job]
    shown = subprocess.run(words, env=_ENVIRONMENT, capture_output=True, text=True)
    assert shown.returncode == 0 and job in shown.stdout, shown.stderr
    modes = {
        path.stat().st_mode & 0o7777 for path in (rig.home / "python").rglob("*") if "__pycache__" not in path.parts
    }
    assert modes == {0o660, 0o2770}
    # A library that does not know its files replaces no other.
    other = tmp_path / "other"
    rig.run("jobjar", "init", "--self-contained", str(other))
    (rig.home / "python" / CARRIED).unlink()
    words = [_PYTHON, str(rig.home / "bin/jobjar"), "init", str(other)]
    refused = subprocess.run(words, env=_ENVIRONMENT, capture_output=True, text=True)
    assert refused.returncode == 1 and "its list of files is missing" in refused.stderr, refused.stderr
    assert (other / "python/jobjar/errors.py").exists()
    rig.end_everything()


def test_killed_while_it_copies_it_is_completed_by_doing_it_again(tmp_path: Path) -> None:
    home = tmp_path / "jar"
    words = [str(BIN / "jobjar"), "init", "--self-contained", str(home)]

    def count() -> int:
        return sum(1 for _ in (home / "python").rglob("*.py"))

    for least in (1, 300):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as init:
            while count() < least and init.poll() is None:
                pass
            init.kill()
        # Of an older one, which was being replaced.
        (home / "python/older.py").write_text("")
        with (home / "python" / CARRIED).open("a") as carried:
            carried.write("older.py\n")
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    files = {str(path.relative_to(home / "python")): path for path in (home / "python").rglob("*") if path.is_file()}
    listed = (home / "python" / CARRIED).read_text().splitlines()
    assert sorted(files) == sorted([*listed, CARRIED])
    assert {name: Path(source).read_bytes() for name, source in collect_library().items()} == {
        name: files[name].read_bytes() for name in listed
    }


def test_what_a_member_of_a_group_made_a_link_is_not_written_through(tmp_path: Path) -> None:
    create_jar(str(tmp_path / "jar"), for_group=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "jar/python").mkdir()
    (tmp_path / "jar/python/jobjar").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeLink):
        create_jar(str(tmp_path / "jar"), carries_library=True)
    assert not list((tmp_path / "elsewhere").iterdir())
