"""The models are a second description of what schema/ says; here the two are compared."""

from __future__ import annotations

from typing import Any

import peewee
import pytest

from jobjar.ledger.migrate import migrate
from jobjar.ledger.models import MODELS, VIEWS
from jobjar.ledger.store import driver

COLUMN_TYPES = {"AUTO": "INTEGER", "INT": "INTEGER", "TEXT": "TEXT", "FLOAT": "REAL"}


def new_ledger() -> Any:
    connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    return connection


def column_type(field: Any) -> str:
    return COLUMN_TYPES[field.field_type]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__name__))
def test_a_model_has_the_columns_of_its_table_their_types_and_what_may_be_missing(model: Any) -> None:
    described = {
        name: (type_, bool(not_null) or bool(key), bool(key))
        for _, name, type_, not_null, _, key in new_ledger().execute(f"PRAGMA table_info({model._meta.table_name})")
    }
    assert described
    keys = {field.name for field in model._meta.get_primary_keys() if field}
    modelled = {
        field.column_name: (column_type(field), not field.null, field.name in keys)
        for field in model._meta.sorted_fields
    }
    assert modelled == described


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__name__))
def test_a_column_that_has_to_be_unique_is_so_in_the_model_and_in_the_table(model: Any) -> None:
    connection = new_ledger()
    unique = set()
    for _, index, is_unique, origin, _ in connection.execute(f"PRAGMA index_list({model._meta.table_name})"):
        columns = [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
        if is_unique and origin == "u" and len(columns) == 1:
            unique.add(columns[0])
    assert {field.column_name for field in model._meta.sorted_fields if field.unique} == unique


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__name__))
def test_a_column_s_default_is_the_same_in_the_model_and_in_the_table(model: Any) -> None:
    described = {
        name: default.strip("'")
        for _, name, _, _, default, _ in new_ledger().execute(f"PRAGMA table_info({model._meta.table_name})")
        if default is not None
    }
    modelled = {
        field.column_name: str(field.default) for field in model._meta.sorted_fields if field.default is not None
    }
    assert modelled == described


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view.__name__))
def test_a_view_s_model_has_the_view_s_columns_in_order(view: Any) -> None:
    described = [name for _, name, *_ in new_ledger().execute(f"PRAGMA table_info({view._meta.table_name})")]
    assert [field.column_name for field in view._meta.sorted_fields] == described


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view.__name__))
def test_what_a_view_adds_to_a_table_may_be_missing(view: Any) -> None:
    table = {name: bool(not_null) for _, name, _, not_null, *_ in new_ledger().execute("PRAGMA table_info(job)")}
    for field in view._meta.sorted_fields:
        if field.column_name not in table:
            assert field.null, field.column_name


def test_every_table_of_the_schema_has_a_model_and_nothing_else_has() -> None:
    tables = {
        name
        for (name,) in new_ledger().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if not name.startswith("sqlite_")
    }
    assert {model._meta.table_name for model in MODELS} == tables
    views = {name for (name,) in new_ledger().execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    assert {view._meta.table_name for view in VIEWS} <= views


def test_every_view_of_the_schema_answers_on_an_empty_ledger() -> None:
    connection = new_ledger()
    views = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    assert "queue_report" in views
    for view in views:
        connection.execute(f"SELECT * FROM {view}").fetchall()


def test_a_row_read_through_a_model_is_what_was_written() -> None:
    database = peewee.SqliteDatabase(":memory:")
    connect: Any = database.connection
    migrate(connect(), ":memory:")
    job: Any = MODELS[0]
    with database.bind_ctx(MODELS):
        job.create(uid="u", name="x.5", state="limbo", place="limbo/x.5", priority=5, submitted_at=1.25)
        (found,) = job.select().dicts()
    assert (found["uid"], found["priority"], found["submitted_at"], found["retries"]) == ("u", 5, 1.25, None)
    database.close()
