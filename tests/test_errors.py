"""What may be said of an error: no text of a statement's DETAIL, of a prompt or of an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncpg
import orjson
import pytest

from gateway.errors import StoreUnavailable, safe_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres import PostgresServer

CANARY = "the canary sings at dawn"
SCHEMA = """
create table t (id int primary key, n int check (n < 10), name varchar(5), at timestamp, data jsonb);
create table parts (id int) partition by range (id);
create function raising() returns trigger language plpgsql as $f$
begin
    if new.id = 1 then
        raise exception 'no: %', new.data;
    elsif new.id = 2 then
        raise exception using errcode = '23514', message = new.data, detail = new.data, constraint = new.data;
    elsif new.id = 3 then
        perform new.data::int;
    end if;
    return new;
end
$f$;
create table guarded (id int, data text);
create trigger guard before insert on guarded for each row execute function raising();
"""


async def failing(dsn: str, statement: str, *values: object) -> BaseException:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *values)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
        return error
    finally:
        await connection.close()
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("insert into t (id, n, name) values (1, 11, left('{}', 5))", 'constraint "t_n_check"'),
        ("insert into t (id, name) select 1, left('{}', 3) from generate_series(1, 2)", "t_pkey"),
        ("insert into t (name) values (left('{}', 3))", "null value in column"),
        ("insert into t (id, name) values (1, '{}')", "22001"),
        ("insert into t (id, at) values (1, '{}')", "22007"),
        ("insert into t (id, data) values (1, '{}')", "22P02"),
        ("select '{}'::int", "22P02"),
        ("select to_tsquery('simple', '{}')", "42601"),
        ("insert into parts select 7 where '{}' <> ''", "no partition of relation"),
        ("insert into t (missing) values ('{}')", 'column "missing"'),
        ("insert into missing values ('{}')", 'relation "missing"'),
        ("insert into guarded values (1, '{}')", "SQLSTATE P0001, raised in the function raising"),
        ("insert into guarded values (2, '{}')", "SQLSTATE 23514, raised in the function raising"),
        ("insert into guarded values (3, '{}')", "SQLSTATE 22P02, raised in the function raising"),
    ],
)
async def test_e2_an_error_of_postgres_never_quotes_a_row(
    postgres: PostgresServer, database: str, statement: str, says: str
) -> None:
    postgres.execute(SCHEMA, database)
    text = safe_text(await failing(database, statement.format(CANARY)))
    assert says in text
    assert "the c" not in text
    assert "canary" not in text


async def test_e2_a_value_that_asyncpg_cannot_send_is_not_quoted(database: str) -> None:
    assert safe_text(await failing(database, "select $1::int", CANARY)) == "DataError: SQLSTATE 22000"


@pytest.mark.parametrize(
    "fail",
    [
        lambda: int(CANARY),
        lambda: dict[str, str]()[CANARY],
        lambda: orjson.loads(CANARY),
        lambda: json.loads(CANARY),
        lambda: orjson.dumps({"a": CANARY + "\ud800"}),
        lambda: (CANARY + "\ud800").encode(),
        lambda: (CANARY.encode() + b"\xff").decode(),
    ],
)
def test_e2_an_encoding_error_never_quotes_what_was_said(fail: Callable[[], object]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)) as caught:
        fail()
    assert "canary" not in safe_text(caught.value)
    assert safe_text(caught.value).startswith(type(caught.value).__name__)


def test_what_our_own_errors_and_the_machines_say_stays() -> None:
    assert safe_text(StoreUnavailable("away")) == "away"
    assert safe_text(OSError(24, "Too many open files")) == "OSError: [Errno 24] Too many open files"
    assert safe_text(RuntimeError("can't start new thread")) == "RuntimeError: can't start new thread"
    assert safe_text(MemoryError()) == "MemoryError"
