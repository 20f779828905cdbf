"""A program of a user of the library, as type checkers see it (test_types.py). Nothing runs it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from typing import assert_type

import jobjar


@jobjar.job
def square(number: int) -> int:
    return number * number


@jobjar.job(category="GPU", retries=2)
def name(number: int) -> str:
    return str(number)


def use() -> None:
    with jobjar.Executor(4, category="GPU", time_limit="5m") as executor:
        assert_type(executor.submit(pow, 2, 8).result(), int)
        assert_type(executor.map(str, range(3)), Iterator[str])
    assert_type(square(3), Future[int])
    assert_type(square.function(3), int)
    assert_type(name(3), Future[str])
    assert_type(jobjar.gather([square(1), square(2)]), list[int])
    assert_type(jobjar.map(str, [1, 2]), list[str])
    assert_type(jobjar.job("x").outcome, str | None)
    assert_type(jobjar.submit("true", retries=1), str)
    assert_type(jobjar.wait("x"), dict[str, str | None])
    assert_type([job.name for job in jobjar.list_jobs(state="waiting")], list[str])
    try:
        jobjar.cancel("x")
    except jobjar.CallLost as error:
        print(error.fields)


async def use_async() -> None:
    assert_type(await jobjar.wait_async("x", timeout=1), dict[str, str | None])
    assert_type(await asyncio.wrap_future(square(3)), int)


def misuse() -> None:
    square("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    jobjar.submit(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    jobjar.wait(all="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
