from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobjar.create import create_jar, sample_configuration
from jobjar.errors import ConfigError, NoJarNamed
from jobjar.settings.layers import (
    home_of_program,
    load_settings,
    parse_option,
    personal_file,
    read_config_file,
)
from jobjar.settings.table import BY_NAME, TABLE

# What the guide shows: every common parameter in one file.
GUIDE_SAMPLE = """\
# Sample Job Jar configuration file

[Job Jar]

# Pause 5 minutes when no jobs are available
JJ_PAUSE_TIME: 300
# The check_workers program may start up to 4 workers on this node
JJ_MAX_WORKERS: 4
# The parent directory for the unclaimed, claimed, completed, and
# limbo directories
JJ_HOME: /opt/jobjar-1.0.0
# The parent directory for worker-specific directories
JJ_WORKER_HOME: /opt/jobjar_workers
# The categories workers will check for jobs
JJ_CATEGORIES: LINUX
"""


def write_config(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("[Job Jar]", *lines)) + "\n")
    return str(path)


def test_the_guide_s_sample_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.ini"
    file.write_text(GUIDE_SAMPLE)
    values = {name: value.value for name, value in read_config_file(str(file)).items()}
    assert values == {
        "JJ_PAUSE_TIME": 300.0,
        "JJ_MAX_WORKERS": 4,
        "JJ_HOME": "/opt/jobjar-1.0.0",
        "JJ_WORKER_HOME": "/opt/jobjar_workers",
        "JJ_CATEGORIES": ("LINUX",),
    }


def test_without_any_layer_the_table_s_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings(environment={"JJ_HOME": str(tmp_path)})
    assert settings.pause_time_s == 60
    assert settings.max_workers == 4
    assert settings.categories == ()
    assert settings.worker_home == f"{tmp_path}/workers"
    assert settings.umask is None
    assert settings.exit_on_failure == ""
    assert settings.origin("JJ_PAUSE_TIME") == "default"
    assert settings.origin("JJ_WORKER_HOME") == "default"
    assert settings.origin("JJ_HOME") == "environment"


def test_each_layer_overrides_those_before_it_and_is_named_as_origin(tmp_path: Path) -> None:
    home = tmp_path / "jar"
    create_jar(str(home))
    environment = {"JJ_HOME": str(home)}
    seen = [(60.0, "default")]

    def look(overrides: Any = None) -> None:
        settings = load_settings(overrides, None, environment)
        seen.append((settings.pause_time_s, settings.origin("JJ_PAUSE_TIME")))

    write_config(home / "config.ini", "", "JJ_PAUSE_TIME: 1")
    look()
    write_config(tmp_path / ".jobjar/config.ini", "JJ_PAUSE_TIME: 2")
    look()
    environment["JJ_CONFIG_FILE"] = write_config(tmp_path / "other.ini", "JJ_POLL_TIME: 9", "JJ_PAUSE_TIME: 3")
    look()
    environment["JJ_PAUSE_TIME"] = "4"
    look()
    look({"JJ_PAUSE_TIME": parse_option("JJ_PAUSE_TIME", "5", "--pause-time")})
    assert seen == [
        (60.0, "default"),
        (1.0, f"{home}/config.ini, line 3"),
        (2.0, f"{tmp_path}/.jobjar/config.ini, line 2"),
        (3.0, f"{tmp_path}/other.ini, line 3"),
        (4.0, "environment"),
        (5.0, "--pause-time"),
    ]


def test_a_named_personal_file_replaces_the_one_in_the_home_directory(tmp_path: Path) -> None:
    write_config(tmp_path / ".jobjar/config.ini", "JJ_RETRIES: 7")
    named = write_config(tmp_path / "other.ini", "JJ_PAUSE_TIME: 3")
    settings = load_settings(environment={"JJ_HOME": str(tmp_path), "JJ_CONFIG_FILE": named})
    assert (settings.retries, settings.pause_time_s) == (0, 3.0)
    assert settings.config_file == named
    assert personal_file({}) == f"{tmp_path}/.jobjar/config.ini"


def test_each_setting_is_taken_from_the_latest_layer_that_names_it(tmp_path: Path) -> None:
    home = tmp_path / "jar"
    create_jar(str(home))
    write_config(home / "config.ini", "JJ_PAUSE_TIME: 1", "JJ_RETRIES: 1", "JJ_CRASH_LIMIT: 1")
    write_config(tmp_path / ".jobjar/config.ini", "JJ_RETRIES: 2", "JJ_CRASH_LIMIT: 2")
    settings = load_settings(environment={"JJ_HOME": str(home), "JJ_CRASH_LIMIT": "3"})
    assert (settings.pause_time_s, settings.retries, settings.crash_limit) == (1.0, 2, 3)


def test_the_personal_file_may_name_the_jar_and_the_environment_may_name_another(tmp_path: Path) -> None:
    for name in "ab":
        create_jar(f"{tmp_path}/{name}")
        write_config(tmp_path / name / "config.ini", f"JJ_CATEGORIES: {name}")
    write_config(tmp_path / ".jobjar/config.ini", f"JJ_HOME = {tmp_path}/a")
    assert load_settings(environment={}).categories == ("a",)
    assert load_settings(environment={"JJ_HOME": f"{tmp_path}/b"}).categories == ("b",)


def test_the_number_of_workers_comes_from_files_and_the_environment(tmp_path: Path) -> None:
    home = tmp_path / "jar"
    create_jar(str(home))
    write_config(home / "config.ini", "JJ_MAX_WORKERS: 2")
    assert load_settings(environment={"JJ_HOME": str(home)}).max_workers == 2
    assert load_settings(environment={"JJ_HOME": str(home), "JJ_MAX_WORKERS": "0"}).max_workers == 0
    assert "library" not in BY_NAME["JJ_MAX_WORKERS"].layers


def test_an_empty_environment_variable_is_as_good_as_none(tmp_path: Path) -> None:
    write_config(tmp_path / ".jobjar/config.ini", "JJ_PAUSE_TIME: 2")
    assert load_settings(environment={"JJ_HOME": str(tmp_path), "JJ_PAUSE_TIME": ""}).pause_time_s == 2.0


def test_a_missing_file_sets_nothing_but_a_missing_named_file_is_an_error(tmp_path: Path) -> None:
    assert read_config_file(f"{tmp_path}/none.ini") == {}
    with pytest.raises(ConfigError, match=r"JJ_CONFIG_FILE.*none\.ini"):
        load_settings(environment={"JJ_HOME": str(tmp_path), "JJ_CONFIG_FILE": f"{tmp_path}/none.ini"})


def test_the_config_file_has_to_be_named_by_an_absolute_path() -> None:
    with pytest.raises(ConfigError, match=r"JJ_CONFIG_FILE.*absolute"):
        load_settings(environment={"JJ_HOME": "/x", "JJ_CONFIG_FILE": "mine.ini"})


def test_both_separators_and_both_kinds_of_comment_are_read(tmp_path: Path) -> None:
    file = tmp_path / "config.ini"
    file.write_text(
        "; first\n\n# second\n[Job Jar]\nJJ_PAUSE_TIME:5\n ; third\nJJ_RETRIES = 3\n  JJ_UMASK=007  \r\nJJ_CATEGORIES :A, B\tC\n"
    )
    values = {name: value.value for name, value in read_config_file(str(file)).items()}
    assert values == {"JJ_PAUSE_TIME": 5.0, "JJ_RETRIES": 3, "JJ_UMASK": 0o007, "JJ_CATEGORIES": ("A", "B", "C")}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("JJ_PAUSE_TIME: 5\n", 1, r"first line has to be \[Job Jar\]"),
        ("# x\n\n[job jar]\n", 3, r"first line has to be \[Job Jar\]"),
        ("[Job Jar]\nJJ_PAUSE: 5\n", 2, "there is no setting JJ_PAUSE"),
        ("[Job Jar]\njj_pause_time: 5\n", 2, "there is no setting jj_pause_time"),
        ("[Job Jar]\n\nJJ_PAUSE_TIME: soon\n", 3, "JJ_PAUSE_TIME: 'soon' is not a time"),
        ("[Job Jar]\nJJ_PAUSE_TIME: 0\n", 2, "JJ_PAUSE_TIME: '0' is not more than 0"),
        ("[Job Jar]\nJJ_PAUSE_TIME: 5 # five\n", 2, "JJ_PAUSE_TIME"),
        ("[Job Jar]\nJJ_MAX_WORKERS: -1\n", 2, "JJ_MAX_WORKERS: '-1' is not a whole number"),
        ("[Job Jar]\nJJ_MAX_WORKERS: 1.5\n", 2, "JJ_MAX_WORKERS"),
        ("[Job Jar]\nJJ_EXIT_ON_FAILURE: maybe\n", 2, "neither yes nor no"),
        ("[Job Jar]\nJJ_UMASK: 8\n", 2, "not a umask"),
        ("[Job Jar]\nJJ_HOME: jar\n", 2, "not an absolute path"),
        ("[Job Jar]\nJJ_CATEGORIES: A ../B\n", 2, "category '../B'"),
        ("[Job Jar]\nJJ_CONFIG_FILE: /x\n", 2, "JJ_CONFIG_FILE is read from the environment only"),
        ("[Job Jar]\n[More]\n", 2, "not of the form"),
        ("[Job Jar]\nJJ_PAUSE_TIME\n", 2, "not of the form"),
    ],
)
def test_a_bad_line_is_an_error_that_names_file_and_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    file = tmp_path / "config.ini"
    file.write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_config_file(str(file))
    assert str(caught.value).startswith(f"{file}, line {line}: ")


def test_a_file_that_is_not_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "config.ini"
    file.write_bytes(b"[Job Jar]\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=f"{file}, line 2: it cannot be read"):
        read_config_file(str(file))


def test_a_bad_value_in_the_environment_names_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="environment: JJ_RETRIES"):
        load_settings(environment={"JJ_HOME": str(tmp_path), "JJ_RETRIES": "many"})


def test_a_program_in_a_jar_finds_it_from_its_own_place_through_links_too(tmp_path: Path) -> None:
    home = tmp_path / "jar"
    create_jar(str(home))
    link = tmp_path / "start_worker"
    link.symlink_to(home / "bin/start_worker")
    again = tmp_path / "again"
    again.symlink_to(link)
    for path in (home / "bin/start_worker", link, again):
        assert home_of_program(str(path)) == str(home)
    settings = load_settings(None, str(again), {})
    assert settings.home == str(home)
    assert settings.origin("JJ_HOME") == "place of the program"


def test_a_program_outside_of_a_jar_finds_none(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/start_worker").write_text("")
    assert home_of_program(f"{tmp_path}/bin/start_worker") is None
    assert home_of_program(None) is None
    with pytest.raises(NoJarNamed, match=r"set JJ_HOME.*\.jobjar/config\.ini"):
        load_settings(None, f"{tmp_path}/bin/start_worker", {})
    assert load_settings(None, None, {}, need_home=False).home == ""


def test_whatever_names_a_jar_goes_before_the_place_of_the_program(tmp_path: Path) -> None:
    create_jar(f"{tmp_path}/jar")
    program = f"{tmp_path}/jar/bin/start_worker"
    assert load_settings(None, program, {"JJ_HOME": f"{tmp_path}/other"}).home == f"{tmp_path}/other"
    write_config(tmp_path / ".jobjar/config.ini", f"JJ_HOME: {tmp_path}/personal")
    assert load_settings(None, program, {}).home == f"{tmp_path}/personal"


def test_the_configuration_file_of_a_new_jar_names_every_setting_and_sets_none(tmp_path: Path) -> None:
    file = tmp_path / "config.ini"
    file.write_text(sample_configuration())
    assert read_config_file(str(file)) == {}
    for setting in TABLE:
        assert (f"# {setting.name}:" in sample_configuration()) == ("file" in setting.layers)


def test_the_defaults_that_the_sample_shows_can_be_uncommented(tmp_path: Path) -> None:
    lines = sample_configuration().splitlines()
    shown = [line[2:] for line in lines if line.startswith("# JJ_") and not line.endswith(":")]
    assert len(shown) > 10
    file = write_config(tmp_path / "config.ini", *shown)
    defaults = load_settings(environment={"JJ_HOME": str(tmp_path / "none")})
    for name, value in read_config_file(file).items():
        assert value.value == getattr(defaults, BY_NAME[name].attribute)


def test_every_value_can_be_written_as_text_and_read_again(tmp_path: Path) -> None:
    environment = {
        "JJ_HOME": str(tmp_path),
        "JJ_CATEGORIES": "A,B",
        "JJ_UMASK": "027",
        "JJ_EXIT_ON_FAILURE": "true",
        "JJ_TIME_LIMIT": "1h",
    }
    rows = {name: text for name, text, _ in load_settings(environment=environment).rows()}
    assert list(rows) == [setting.name for setting in TABLE]
    assert (rows["JJ_CATEGORIES"], rows["JJ_UMASK"], rows["JJ_EXIT_ON_FAILURE"]) == ("A B", "027", "yes")
    again = load_settings(environment={name: text for name, text in rows.items() if name != "JJ_CONFIG_FILE"})
    assert {name: text for name, text, _ in again.rows()} == rows
