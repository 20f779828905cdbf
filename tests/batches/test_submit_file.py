"""Submit files: what they say, what is wrong with them, and the files of the jobs that they come to."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from jobjar.batches.plan import BatchText, count_jobs, plan_jobs
from jobjar.batches.script import make_script
from jobjar.batches.submit_file import BATCH_KEYS, OWN_KEYS, parse_submit_file, parse_submit_files
from jobjar.errors import BadSubmitFile
from jobjar.job_file.attributes import read_description, read_header
from jobjar.job_file.description import KEYS, LISTS, describe
from jobjar.job_file.seeds import Seeds, join_ranges, parse_seeds

JUG = r"""
# A batch of two kinds of jobs.
batch {
    name = "count-$(level)"           # comments may follow
    software = "/data/wc-1.2.tgz"
    run_command = "count \"$(file)\" C:\\x \n \$(level) $(date +%s) # no comment"
    environment = "LEVEL=$(level) 'TITLE=two words'"
    priority = 4
    job { name = "first" input_files = "/in/a" }
    job
    {
        seeds = "1-3,7"
        priority = -5
        environment = "MORE=1"
        software = "/data/extra"
    }
}
batch
    name = plain
    seeds = "2-3"
    execution_class = "BIG"
    retries = 1
"""
TOML = r"""
[[batch]]
name = "count-$(level)"
software = ["/data/wc-1.2.tgz"]
run_command = 'count "$(file)" C:\x \n \$(level) $(date +%s) # no comment'
environment = { LEVEL = 3, TITLE = "two words" }
priority = 4
[[batch.job]]
name = "first"
input_files = ["/in/a"]
[[batch.job]]
seeds = ["1-3", 7]
priority = -5
software = ["/data/extra"]
[batch.job.environment]
MORE = 1
[[batch]]
name = "plain"
seeds = "2-3"
execution_class = "BIG"
retries = 1
"""
PARAMETERS = {"level": "3", "file": "a b"}


def problems(text: str, where: str = "x.jug", **parameters: str) -> list[str]:
    with pytest.raises(BadSubmitFile) as caught:
        parse_submit_file(text, where, parameters)
    assert caught.value.exit_status == 2
    *lines, last = str(caught.value).splitlines()
    assert last == "nothing was submitted"
    return lines


def files_of(batches: list[BatchText]) -> list[tuple[str, str, int, str]]:
    """Name in the job's name, header, priority and category of each job."""
    return [
        (job.identifier, job.script.partition(b"#\n")[0].decode(), job.priority, job.category)
        for batch in batches
        for job in plan_jobs(batch)
    ]


def test_jug_s_syntax_and_toml_say_the_same() -> None:
    in_jug = parse_submit_file(JUG, "a.jug", PARAMETERS)
    in_toml = parse_submit_file(TOML, "a.toml", PARAMETERS)
    assert [job[0] for job in files_of(in_jug)] == [
        "count-3-first",
        "count-3-2-1",
        "count-3-2-2",
        "count-3-2-3",
        "count-3-2-7",
        "plain-2",
        "plain-3",
    ]
    described_in_jug = [read_description(job.script, "") for batch in in_jug for job in plan_jobs(batch)]
    described_in_toml = [read_description(job.script, "") for batch in in_toml for job in plan_jobs(batch)]
    assert described_in_jug == described_in_toml
    assert [job[2:] for job in files_of(in_jug)] == [job[2:] for job in files_of(in_toml)]
    assert [count_jobs(batch) for batch in in_jug] == [5, 2]


def test_a_job_has_what_its_batch_says_and_lists_add_up() -> None:
    first, second, *_ = (job for batch in parse_submit_file(JUG, "a.jug", PARAMETERS) for job in plan_jobs(batch))
    said = read_description(first.script, "")
    assert said.run_command == r'count "a b" C:\x \n $(level) $(date +%s) # no comment'
    assert (said.batch, said.name, said.seed) == ("count-3", "first", None)
    assert [source.location for source in said.input_files] == ["/in/a"]
    assert said.environment == (("LEVEL", "3"), ("TITLE", "two words"))
    assert first.priority == 4
    said = read_description(second.script, "")
    assert [source.location for source in said.software] == ["/data/wc-1.2.tgz", "/data/extra"]
    assert said.environment == (("LEVEL", "3"), ("TITLE", "two words"), ("MORE", "1"))
    assert (second.priority, said.seed) == (-5, 1)


def test_attributes_of_a_batch_are_in_its_jobs_files_and_category_and_priority_are_not() -> None:
    job = next(plan_jobs(parse_submit_file(JUG, "a.jug", PARAMETERS)[1]))
    assert read_header(job.script, "")["retries"] == 1
    assert job.category == "BIG"
    assert b"execution_class" not in job.script and b"priority" not in job.script and b"seeds" not in job.script


def test_a_batch_without_seeds_and_jobs_is_one_job() -> None:
    (batch,) = parse_submit_file('batch\nname = "one"\nnotes = "for me"', "f", {})
    (job,) = plan_jobs(batch)
    assert job.identifier == "one"
    said = read_description(job.script, "")
    assert (said.batch, said.name, said.seed, said.notes) == ("one", None, None, None)


def test_every_missing_parameter_is_named_with_each_of_its_uses() -> None:
    text = 'batch\nname = "a"\nrun_command = "$(x) $(y)"\nnotes = "$(x)"\njob\nname = "$(y)"\n'
    assert problems(text) == [
        "x.jug, line 3; x.jug, line 4: there is no parameter x; give it as x=VALUE",
        "x.jug, line 3; x.jug, line 6: there is no parameter y; give it as y=VALUE",
    ]
    in_toml = '[batch]\nname = "a"\nrun_command = "$(x)"\n[batch.environment]\nA = "$(x)"\n'
    assert problems(in_toml, "f.toml") == [
        "f.toml, line 3; f.toml, line 4: there is no parameter x; give it as x=VALUE"
    ]


def test_all_that_is_wrong_is_told_at_once_with_file_and_line() -> None:
    text = """name = "q"
batch
name = "a
namen = "b"
colour = "red"
seeds = "1-"
seeds = "1"
priority = "high"
run_command = "$(foo)"
jobs
x = "y"
}
batch {
name = "b"
job { failure_throttle = "3" output_path = "../x" }
} batch name = "b" """
    told = problems(text, bar="1", foo="ok")
    for number, part in (
        (1, "name stands in no block"),
        (3, "name: the quote is not closed"),
        (4, "there is no key namen; did you mean name?"),
        (5, "there is no key colour; the keys of a batch are cores, environment, "),
        (6, "seeds: '1-' is neither a whole number nor a range"),
        (7, "seeds is given already in line 6"),
        (8, "priority: priority 'high' is not an integer"),
        (10, "there is no block 'jobs'"),
        (12, "} closes nothing"),
        (15, "failure_throttle belongs to the batch"),
        (15, "output_path: '../x' leads out"),
        (16, "a batch b is described already in x.jug, line 14"),
    ):
        assert any(line.startswith(f"x.jug, line {number}: {part}") for line in told), (number, part, told)
    assert "the parameter bar=1 is used nowhere" in told
    assert len(told) == 13


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "x.jug: there is no batch in it"),
        ('job\nname = "a"', "x.jug, line 1: a job belongs to the batch before it"),
        ("batch\nseeds = 1", "x.jug, line 1: the batch has no name"),
        ('batch\nname = ".."', "x.jug, line 2: name: identifier '..' cannot be used"),
        ('batch\nname = ""', "x.jug, line 2: name: identifier '' cannot be used"),
        ('batch\nname = "a/b"', "x.jug, line 2: name: identifier 'a/b' cannot be used"),
        ('batch\nname = "a"\nseeds = 1\njob', "x.jug, line 1: a batch has either seeds or job blocks"),
        ('batch\nname = "a"\nseeds = "5-3"', "x.jug, line 3: seeds: '5-3' ends before it begins"),
        (
            'batch\nname = "a"\nseeds = "1-99999999"',
            "x.jug, line 3: seeds: 99999999 seeds are more than a batch may have (10000000)",
        ),
        ('batch\nname = "a"\njob\nname = "j"\njob\nname = "j"', "x.jug, line 5: a job j of this batch is described"),
        ("batch {\nname = a", "x.jug, line 1: this { is not closed"),
        ("batch {\nname = a\nbatch\nname = b", "x.jug, line 3: batch begins inside of the block whose { is in line 1"),
        ("batch\nname = a\n{ }", "x.jug, line 3: { stands where no block begins"),
        ("batch\nname =\n", "x.jug, line 2: name has no value"),
        ("batch\nname = a\n= b", "x.jug, line 3: '= b' cannot be understood"),
        ('batch\nname = a\nenvironment = "1=2"', "x.jug, line 3: environment: '1=2' is not of the form NAME=value"),
        (f"batch\nname = {'a' * 60}\njob\nname = {'b' * 60}", "x.jug, line 3: identifier "),
        ("[batch]\nname = 1979-05-27", "x.jug, line 2: name: date is no value for it"),
        ("[batch]\nname = ", "x.jug, line 2: it is no TOML: Invalid value"),
        ("[[batch]]\nname = 'a'\n[[batch]]\nname = 'b'\n[[job]]\nname = 'c'", "x.jug, line 5: whose job is this?"),
        ("[batch]\nname = 'a'\n[jobs]", "x.jug, line 3: there is no block 'jobs'"),
        ("[batch]\nname = 'a'\nrun_command = ['a', 'b']", "x.jug, line 3: run_command: list is no value for it"),
        ("[batch]\nname = 'a'\nrun_command = '''a\nb'''", "x.jug, line 3: run_command: it has a line end or a NUL"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    assert any(line.startswith(told) for line in problems(text)), problems(text)


def test_a_name_taken_in_the_jar_or_in_another_file_is_a_problem_beside_the_others() -> None:
    files = [('batch\nname = "a"\n', "one"), ('batch\nname = "a"\n', "two"), ('batch\nname = "b"\nx = 1', "three")]
    with pytest.raises(BadSubmitFile) as caught:
        parse_submit_files(files, {}, lambda name: name == "b")
    lines = str(caught.value).splitlines()
    assert lines[0] == "two, line 2: a batch a is described already in one, line 2"
    assert lines[1].startswith("three, line 2: there is a batch b in the jar already") or "no key x" in lines[1]
    assert len(lines) == 4


def test_a_parameter_is_put_in_as_it_is_and_not_looked_through_again() -> None:
    text = 'batch\nname = "a"\nrun_command = "echo $(p) \\\\$(p)"\n'
    (batch,) = parse_submit_file(text, "f", {"p": '$(q) "x" \\"'})
    assert dict(batch.pairs)["run_command"] == 'echo $(q) "x" \\" \\$(q) "x" \\"'


def test_a_long_list_goes_over_several_lines_and_one_that_cannot_be_read_whole_is_refused() -> None:
    files = " ".join(f"/data/in/file-{number:06d}.txt" for number in range(500))
    (batch,) = parse_submit_file(f'batch\nname = "a"\ninput_files = "{files}"', "f", {})
    (job,) = plan_jobs(batch)
    assert len(read_description(job.script, "").input_files) == 500
    assert max(map(len, job.script.split(b"\n")[:-10])) < 200
    files = " ".join(f"/data/in/file-{number:06d}.txt" for number in range(2500))
    (told,) = problems(f'batch\nname = "a"\ninput_files = "{files}"')
    assert told.startswith("x.jug, line 1: the description is longer than")


# Values as people may write them in one line: anything but line ends, NUL and what UTF-8 cannot write.
_TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=60)
_NAME = st.from_regex(r"[A-Za-z0-9_+@%=.-]{1,20}", fullmatch=True)
_WORDS = st.lists(_TEXT.filter(bool), max_size=5)
_PATH = _TEXT.map(lambda text: "/" + text.replace("#", "").replace("/", "").replace("?", "") + "x")
_PAIR = st.one_of(
    st.tuples(st.sampled_from(["run_command", "stage_in_command", "polling_command", "notes"]), _TEXT),
    st.tuples(st.sampled_from(["batch", "name"]), _NAME),
    st.tuples(st.just("seed"), st.integers(0, 10**17).map(str)),
    st.tuples(st.sampled_from(["software", "workware", "input_files"]), st.lists(_PATH, max_size=40).map(shlex.join)),
    st.tuples(
        st.just("environment"),
        st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), _TEXT, max_size=5).map(
            lambda said: shlex.join(f"{name}={value}" for name, value in said.items())
        ),
    ),
    st.tuples(st.just("polling_time"), st.sampled_from(["5", "1m30s", "0.5"])),
)


@given(st.lists(_PAIR, max_size=12))
def test_what_a_script_is_made_of_is_read_from_it_again(pairs: list[tuple[str, str]]) -> None:
    assert read_description(make_script(pairs), "") == describe(pairs)


@pytest.mark.parametrize("value", ["two\nlines", "a\0b", "\udc80"])
def test_a_value_that_no_line_can_hold_makes_no_script(value: str) -> None:
    with pytest.raises(ValueError):
        make_script([("run_command", value)])


def test_a_script_that_is_run_by_hand_says_what_it_is_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_bytes(make_script([("batch", "wc"), ("seed", "17"), ("run_command", "touch ran; echo $(id) 'x'")]))
    path.chmod(0o755)
    result = subprocess.run([path], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    assert "a described job of Job Jar of batch wc with seed 17" in result.stderr and "start_worker" in result.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["job"]


def test_every_key_of_a_description_can_be_written_in_a_batch() -> None:
    assert set(KEYS) - set(BATCH_KEYS) == {"described", "batch", "seed"}
    assert set(LISTS) < set(BATCH_KEYS) and set(OWN_KEYS) < set(BATCH_KEYS)


_RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair))), max_size=6)


@given(_RANGES, _RANGES)
def test_seeds_are_sets_of_numbers(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    def numbers(ranges: list[tuple[int, int]]) -> set[int]:
        return {number for first, last in ranges for number in range(first, last + 1)}

    seeds = join_ranges(some)
    assert list(seeds) == sorted(numbers(some)) and seeds.count == len(numbers(some))
    assert set(seeds.without(join_ranges(others))) == numbers(some) - numbers(others)
    assert not some or parse_seeds(str(seeds)) == seeds


def test_seeds_are_written_shortly() -> None:
    assert str(parse_seeds(" 1 - 10, 20,11,5-7")) == "1-11,20"
    assert parse_seeds("1-1000").ranges == ((1, 1000),)
    assert Seeds(((1, 10_000_000),)).count == 10_000_000


_SEEDS = st.sets(st.integers(0, 40)).map(lambda seeds: join_ranges((seed, seed) for seed in seeds))


@given(_SEEDS, _SEEDS)
def test_seeds_without_others_are_those_that_only_the_first_has(seeds: Seeds, others: Seeds) -> None:
    left = seeds.without(others)
    assert list(left) == sorted(set(seeds) - set(others))
    assert left == join_ranges(left.ranges)


def test_widening_a_batch_of_very_many_ranges_looks_at_each_of_them_once_or_twice() -> None:
    class Counted(tuple[tuple[int, int], ...]):
        looks = 0

        def __getitem__(self, index: Any) -> Any:
            Counted.looks += 1
            return super().__getitem__(index)

    count = 50_000
    others = Seeds(Counted((first, first) for first in range(1, 2 * count, 2)))
    wider = Seeds(tuple((first, first) for first in range(1, 2 * count + 20, 2)))
    assert list(wider.without(others)) == list(range(2 * count + 1, 2 * count + 20, 2))
    assert Counted.looks < 5 * count
