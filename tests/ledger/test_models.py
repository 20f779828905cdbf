"""The models are a second description of what schema/ says; here the two are compared."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import peewee
import pytest

from jobjar import ledger
from jobjar.ledger import models as module
from jobjar.ledger.migrate import migrate
from jobjar.ledger.models import TABLES, VIEWS
from jobjar.ledger.store import driver

COLUMN_TYPES = {"AUTO": "INTEGER", "INT": "INTEGER", "TEXT": "TEXT", "FLOAT": "REAL"}


def new_ledger() -> Any:
    connection = driver.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:")
    return connection


def column_type(field: Any) -> str:
    return COLUMN_TYPES[field.field_type]


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model.__name__))
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


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model.__name__))
def test_a_column_that_has_to_be_unique_is_so_in_the_model_and_in_the_table(model: Any) -> None:
    connection = new_ledger()
    unique = set()
    for _, index, is_unique, origin, _ in connection.execute(f"PRAGMA index_list({model._meta.table_name})"):
        columns = [row[2] for row in connection.execute(f"PRAGMA index_info({index})")]
        if is_unique and origin == "u" and len(columns) == 1:
            unique.add(columns[0])
    assert {field.column_name for field in model._meta.sorted_fields if field.unique} == unique


@pytest.mark.parametrize("model", TABLES, ids=lambda model: str(model.__name__))
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


def test_every_model_is_of_a_table_or_view_and_asked_by_a_question() -> None:
    asked = {
        node.id
        for path in Path(ledger.__path__[0]).glob("ask_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    assert {model.__name__ for model in (*TABLES, *VIEWS)} <= asked
    kinds = dict(new_ledger().execute("SELECT name, type FROM sqlite_master"))
    assert {kinds[model._meta.table_name] for model in TABLES} == {"table"}
    assert {kinds[model._meta.table_name] for model in VIEWS} == {"view"}
    models = {model for _, model in inspect.getmembers(module, inspect.isclass) if issubclass(model, module.Table)}
    assert models == {*TABLES, *VIEWS, module.Table, module.NumberedTable, module.Report}


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
    job: Any = TABLES[0]
    with database.bind_ctx(TABLES):
        job.create(uid="u", name="x.5", state="limbo", place="limbo/x.5", priority=5, submitted_at=1.25)
        (found,) = job.select().dicts()
    assert (found["uid"], found["priority"], found["submitted_at"], found["retries"]) == ("u", 5, 1.25, None)
    database.close()
