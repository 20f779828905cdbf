from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from jobjar.errors import BadCategory, BadIdentifier, BadPriority
from jobjar.host import node_name
from jobjar.job_file.names import (
    MAX_PRIORITY,
    check_category,
    check_identifier,
    check_priority,
    id_in_name,
    make_name,
    new_id,
    new_job_id,
    numbered_name,
    oddity_in_name,
    parse_priority,
    priority_in_name,
    unnumbered_name,
)

PLAIN_NAMES = st.text(alphabet="abXY01._-+~ é", min_size=1, max_size=30).filter(lambda name: name[0] != ".")


def test_no_two_made_names_are_equal_not_even_of_several_processes() -> None:
    program = "from jobjar.job_file.names import make_name\nfor _ in range(2000): print(make_name(1))"
    processes = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    names = [name for process in processes for name in process.communicate(timeout=60)[0].split()]
    assert len(names) == 6000
    assert len(set(names)) == 6000
    assert len({id_in_name(name) for name in names}) == 6000


def test_a_made_name_says_time_id_node_process_and_identifier_and_ends_with_its_priority() -> None:
    before = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = make_name(-7, "night_run")
    after = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    assert before <= name[:16] <= after
    assert id_in_name(name) == name.split("-")[1]
    assert f"-{node_name()}-{os.getpid()}-" in name
    assert name.endswith("-night_run.-7")
    assert priority_in_name(name) == -7
    assert oddity_in_name(name) is None


def test_names_made_later_sort_later_by_their_time() -> None:
    assert make_name()[:16] <= make_name()[:16]


def test_an_identifier_with_dots_and_digits_does_not_change_the_priority() -> None:
    assert priority_in_name(make_name(3, "v1.99")) == 3
    assert priority_in_name(make_name(0, "v1.99")) == 0


def test_ids_are_short_and_of_letters_that_nobody_mistakes() -> None:
    for _ in range(200):
        uid = new_id()
        assert len(uid) == 12
        assert uid.isascii() and uid.isalnum() and not set(uid) & set("ilou")


def test_ids_of_jobs_submitted_one_after_the_other_lie_beside_each_other_and_are_never_the_same() -> None:
    ids = [new_job_id() for _ in range(100_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(uid) == 12 for uid in ids)
    runs = sum(not (earlier[:9] == later[:9] and earlier < later) for earlier, later in itertools.pairwise(ids))
    assert runs <= 50  # each begins at random, and is some 16,000 long


def test_a_forked_process_does_not_go_on_with_the_ids_of_its_parent() -> None:
    new_job_id()
    ids = run_forked(lambda: new_job_id()) + run_forked(lambda: new_job_id()) + [new_job_id()]
    assert len({uid[:9] for uid in ids}) == 3


def run_forked(action: Callable[[], str]) -> list[str]:
    """What an action returns in a forked process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writing, action().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as file:
        return [file.read()]


@pytest.mark.parametrize("name", ["x", "x.5", "mine-abcdefghjkmn-x.5", "20260102T030405Z-short-x.1"])
def test_a_name_that_was_not_made_here_has_no_id(name: str) -> None:
    assert id_in_name(name) is None


@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("x", 0),
        ("x.15", 15),
        ("x.-3", -3),
        ("x.y.007", 7),
        ("x.0", 0),
        ("x.sh", 0),
        ("x.1.5", 5),
        ("x.+5", 0),
        ("x.5a", 0),
        ("x.", 0),
        ("x.-", 0),
        (".5", 0),
        ("x.٣", 0),
        ("x." + "9" * 18, 10**18 - 1),
        ("x." + "9" * 19, 0),
    ],
)
def test_only_an_integer_extension_is_a_priority(name: str, priority: int) -> None:
    assert priority_in_name(name) == priority


@pytest.mark.parametrize(
    ("name", "numbered"), [("x.15", "x~2.15"), ("x.-3", "x~2.-3"), ("x", "x~2"), ("x.sh", "x.sh~2"), ("x.", "x.~2")]
)
def test_a_numbered_name_has_its_number_before_the_priority(name: str, numbered: str) -> None:
    assert numbered_name(name, 2) == numbered


@given(PLAIN_NAMES, st.integers(2, 10**6))
def test_a_numbered_name_keeps_the_priority_and_gives_the_old_name_back(name: str, number: int) -> None:
    numbered = numbered_name(name, number)
    assert numbered != name
    assert priority_in_name(numbered) == priority_in_name(name)
    assert unnumbered_name(numbered) == name


@pytest.mark.parametrize("name", ["x", "x.5", "a~b", "a~", "a~2b.5", "a~2.sh"])
def test_a_name_without_a_number_stays_what_it_is(name: str) -> None:
    assert unnumbered_name(name) == name


@pytest.mark.parametrize(
    ("text", "priority"), [("5", 5), ("-5", -5), ("+5", 5), (" 0 ", 0), ("999999999", MAX_PRIORITY)]
)
def test_a_priority_is_read_from_text(text: str, priority: int) -> None:
    assert parse_priority(text) == priority


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "--1", "1000000000", "-1000000000", "0x10", "1_000"])
def test_text_that_is_no_priority_is_refused(text: str) -> None:
    with pytest.raises(BadPriority) as caught:
        parse_priority(text)
    assert repr(text) in str(caught.value) or "1000000000" in str(caught.value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_priority_has_to_be_an_integer(value: object) -> None:
    with pytest.raises(BadPriority):
        check_priority(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("category", ["LINUX", "a", "a.b_c+d@e%f=g-h", "9", "x" * 128])
def test_a_plain_category_is_taken_as_it_is(category: str) -> None:
    assert check_category(category) == category


@pytest.mark.parametrize("category", ["", ".", "..", ".x", "-x", "a/b", "a b", "a\nb", "a\n", "é", "a~2", "x" * 129])
def test_a_category_that_could_mislead_a_path_or_a_shell_is_refused(category: str) -> None:
    with pytest.raises(BadCategory):
        check_category(category)


@pytest.mark.parametrize("identifier", ["", "a/b", "a b", "a\n", "a'b", "$x", "x" * 81])
def test_a_bad_identifier_is_refused(identifier: str) -> None:
    with pytest.raises(BadIdentifier):
        check_identifier(identifier)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\nb", "a\rb", "a\0b", "é" * 124, "x\udcff"])
def test_a_name_that_no_job_may_have_is_an_oddity(name: str) -> None:
    assert oddity_in_name(name)


@pytest.mark.parametrize("name", ["x", "x y", "-x", "$(reboot)", "'; drop table job", "é.5", "x" * 247])
def test_a_name_that_is_only_unusual_is_no_oddity(name: str) -> None:
    assert oddity_in_name(name) is None
