"""The indexes of arrays, and the ranges in the names of chunks (arrays/indexes.py)."""

from __future__ import annotations

import itertools

import pytest

from jobjar.arrays.chunk_size import MOST_CHUNKS, choose_size, split_evenly
from jobjar.arrays.indexes import Indexes, parse_array, range_in_name, with_range
from jobjar.job_file.names import id_in_name, identifier_in_name, is_own_name, make_name, priority_in_name


@pytest.mark.parametrize(
    ("text", "indexes", "at_once"),
    [
        ("1-1000000", Indexes(1, 1_000_000), None),
        ("0-99:3", Indexes(0, 99, 3), None),
        ("0-100:3%8", Indexes(0, 99, 3), 8),
        ("7", Indexes(7, 7), None),
        (" 5-5%1 ", Indexes(5, 5), 1),
    ],
)
def test_what_people_type_for_an_array(text: str, indexes: Indexes, at_once: int | None) -> None:
    assert parse_array(text) == (indexes, at_once)
    assert list(parse_array(text)[0])[-1] == indexes.last


@pytest.mark.parametrize(
    "text", ["", "1-", "-5", "9-1", "1-5:0", "1-5%0", "1,2", "1-5%", "a-b", "1-999999999999", "1 - 5"]
)
def test_what_makes_no_sense_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_array(text)
    assert repr(text.strip()) in str(error.value) or repr(text) in str(error.value)


def test_the_range_is_in_the_name_of_a_chunk_and_changes_without_its_id_and_its_priority() -> None:
    name = make_name(-3, "sweep+1-1000")
    assert range_in_name(name) == (1, 1000)
    shorter = with_range(name, 401, 1000)
    assert range_in_name(shorter) == (401, 1000)
    assert (id_in_name(shorter), priority_in_name(shorter)) == (id_in_name(name), -3)
    assert is_own_name(shorter, str(id_in_name(name)))
    taken = shorter.replace("+401-1000", "+401-1000~2")
    assert range_in_name(taken) == (401, 1000) and with_range(taken, 5, 6) == with_range(name, 5, 6)
    assert str(identifier_in_name(shorter, name.split("-")[5])).endswith("+401-1000")
    for other in ("x.5", "a+5-1.0", "a+1-.0", "1-1000.0"):
        assert range_in_name(other) is None


@pytest.mark.parametrize("tasks", [1, 2, 499, 500, 1000, 4000, 16_001, 1_000_000, 9_999_999])
def test_chunks_have_each_index_once_and_are_a_thousand_at_most(tasks: int) -> None:
    size = choose_size(tasks)
    chunks = list(split_evenly(Indexes(10, 10 + 3 * (tasks - 1), 3), size))
    assert len(chunks) <= MOST_CHUNKS
    assert chunks[0].first == 10 and chunks[-1].last == 10 + 3 * (tasks - 1)
    assert all(later.first == earlier.last + 3 for earlier, later in itertools.pairwise(chunks))
    assert sum(chunk.count for chunk in chunks) == tasks


def test_a_part_of_the_indexes() -> None:
    indexes = Indexes(0, 99, 3)
    assert indexes.within(1, 10) == Indexes(3, 9, 3)
    assert indexes.within(-5, 500) == indexes
    assert indexes.within(4, 5) is None
    assert 27 in indexes and 28 not in indexes and 102 not in indexes
