"""What calls returned or raised, brought back into their futures."""

from __future__ import annotations

import logging
import pickle
from typing import Any

from jobjar.executor import frames
from jobjar.executor.calls import CallFuture
from jobjar.executor.errors import ExecutorBroken, RemoteTraceback
from jobjar.executor.frames import Record


def resolve(future: CallFuture[Any], record: Record) -> float:
    """Set what a call returned or raised; returns how long it took, in seconds."""
    head = frames.DURATION.size
    (took_s,) = frames.DURATION.unpack(record.data[:head])
    if future.done():
        return float(took_s)  # somebody has set it by hand
    if not future.running():
        future.set_running_or_notify_cancel()
    if record.kind == frames.RAISED:
        future.set_exception(_load_raised(record.data[head:]))
        return float(took_s)
    try:
        value = pickle.loads(memoryview(record.data)[head:])
    except BaseException as error:  # what makes the value again may raise anything; the call has ended all the same
        error.add_note("The call has returned, but what it returned could not be made again here.")
        future.set_exception(error)
    else:
        future.set_result(value)
    return float(took_s)


def resolve_initializer(record: Record) -> tuple[ExecutorBroken, BaseException]:
    """The error of an executor whose initializer failed, and what it raised. That is logged, as by the executors of Python."""
    raised = _load_raised(record.data[frames.DURATION.size :])
    logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=raised)
    return ExecutorBroken(reason=f"the initializer raised {raised!r}, so no call can be run"), raised


def _load_raised(data: bytes) -> BaseException:
    text, dumped = pickle.loads(data)
    try:
        error = pickle.loads(dumped)
    except BaseException as why:  # its class may be missing here, or raise anything
        error = RuntimeError(f"the call has raised, but what it raised could not be made again here: {why!r}")
    error.__cause__ = RemoteTraceback(text)
    return error if isinstance(error, BaseException) else RuntimeError(repr(error))
