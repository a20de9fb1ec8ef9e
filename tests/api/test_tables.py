"""The edge's tables under row-level security, whoever forgets a filter (RELIABILITY E2), and their declarations."""

from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import DatabaseError, InsufficientPrivilege
from sqlmodel import SQLModel

from contracts.base import Mode, Scope
from models.command import AuditRecord, IdempotencyKey, OutboxRow
from models.timeline import TimelineEntry
from models.user import User
from tests.fixtures.api import Edge
from tests.fixtures.postgres import add_tenant

TABLES = ("users", "idempotency_keys", "outbox", "audit_log", "timeline")
READABLE = {"users": "id"}


@pytest.fixture(scope="module")
async def filled(edge: Edge) -> Edge:
    await edge.toy(edge.user(), uuid4().hex, kind="start")
    return edge


def seen(edge: Edge, table: str, tenant: str | None, mode: str | None) -> int:
    with psycopg.connect(edge.settings.app_url) as connection:
        for name, value in (("app.tenant", tenant), ("app.mode", mode)):
            if value is not None:
                connection.execute("select set_config(%s, %s, true)", (name, value))
        query = sql.SQL("select count({}) from {}").format(sql.SQL(READABLE.get(table, "*")), sql.Identifier(table))
        return connection.execute(query).fetchone()[0]


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_seen_in_their_own_tenant_and_mode_only(filled: Edge, table: str) -> None:
    tenant = str(filled.scope.tenant_id)
    other = str(add_tenant(filled.owner_url))
    assert seen(filled, table, tenant, "test") >= 1
    assert seen(filled, table, tenant.upper(), "test") >= 1
    for scope in [(other, "test"), (tenant, "live"), (None, None), ("", ""), (tenant, ""), ("", "test"), (None, "test"),
                  (tenant, None), (tenant, "TEST"), (tenant, "garbage"), (str(uuid4()), "test")]:  # fmt: skip
        assert seen(filled, table, *scope) == 0, scope
    with pytest.raises(DatabaseError):
        seen(filled, table, "garbage", "test")


def test_one_tenant_cannot_write_into_another(filled: Edge) -> None:
    other = Scope(tenant_id=add_tenant(filled.owner_url), mode=Mode.TEST)
    inserts = {
        "audit_log": "insert into audit_log (tenant_id, mode, actor, action, entity, entity_id, request_id) "
        "values (%s, 'test', 'a', 'a', 'a', 'a', 'a')",
        "timeline": "insert into timeline (tenant_id, mode, entity_id, at, event) values (%s, 'test', 'x', now(), 'x')",
        "outbox": "insert into outbox (tenant_id, mode, order_key, kind, workflow_id, signal_name, request_id) "
        "values (%s, 'test', 'k', 'signal', 'w', 's', 'r')",
    }
    for statement in inserts.values():
        with psycopg.connect(filled.settings.app_url) as connection:
            connection.execute(
                "select set_config('app.tenant', %s, true), set_config('app.mode', 'test', true)",
                (str(other.tenant_id),),
            )
            with pytest.raises(InsufficientPrivilege, match="row-level security"):
                connection.execute(statement, (filled.scope.tenant_id,))


@pytest.mark.parametrize("table", ["audit_log", "timeline"])
@pytest.mark.parametrize("verb", ["update {} set tenant_id = tenant_id", "delete from {}", "truncate {}"])
def test_logs_are_append_only_for_app_and_owner(filled: Edge, table: str, verb: str) -> None:
    for url in (filled.settings.app_url, filled.owner_url):
        with psycopg.connect(url) as connection:
            connection.execute(
                "select set_config('app.tenant', %s, true), set_config('app.mode', 'test', true)",
                (str(filled.scope.tenant_id),),
            )
            with pytest.raises(InsufficientPrivilege):
                connection.execute(verb.format(table))


@pytest.mark.parametrize("table", TABLES)
def test_the_app_role_never_truncates(filled: Edge, table: str) -> None:
    with psycopg.connect(filled.settings.app_url) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"truncate {table}")


def test_each_role_reaches_only_its_own_tables(filled: Edge) -> None:
    refused = {
        "chama_relay": ("users", "idempotency_keys", "audit_log", "timeline"),
        "chama_auth": ("timeline", "audit_log"),
        "chama_app": (),
    }
    for role, tables in refused.items():
        for table in tables:
            with psycopg.connect(filled.settings.role_url(role)) as connection, pytest.raises(InsufficientPrivilege):
                connection.execute(f"select count(*) from {table}")
    with psycopg.connect(filled.settings.role_url("chama_auth")) as connection, pytest.raises(InsufficientPrivilege):
        connection.execute("select payload from outbox")
    with psycopg.connect(filled.settings.role_url("chama_relay")) as connection:
        assert connection.execute("select count(*) from outbox").fetchone()[0] >= 1


@pytest.mark.parametrize("table", [User, IdempotencyKey, OutboxRow, AuditRecord, TimelineEntry])
def test_declarations_match_the_database(filled: Edge, table: type[SQLModel]) -> None:
    rows = filled.sql(
        "select column_name, is_nullable = 'YES' from information_schema.columns where table_name = %s",
        table.__tablename__,
    )
    declared = {column.name: bool(column.nullable) for column in table.__table__.columns}
    assert declared.keys() == {name for name, _ in rows}


@pytest.mark.parametrize("table", TABLES)
def test_security_is_forced(filled: Edge, table: str) -> None:
    (row,) = filled.sql("select relrowsecurity, relforcerowsecurity from pg_class where relname = %s", table)
    assert row == (True, True)


_INDEXED = """
select distinct c.relname || '.' || a.attname || ' in ' || x.relname || ': ' || p.proname
  from pg_index i
  join pg_class c on c.oid = i.indrelid and c.relrowsecurity
  join pg_class x on x.oid = i.indexrelid
  join pg_am m on m.oid = x.relam and m.amname = 'btree'
 cross join lateral unnest(i.indkey::int[], i.indclass::oid[]) as k(attnum, opclass)
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  join pg_opclass f on f.oid = k.opclass
  join pg_amop o on o.amopfamily = f.opcfamily and (o.amoplefttype, o.amoprighttype) = (f.opcintype, f.opcintype)
  join pg_operator e on e.oid = o.amopopr
  join pg_proc p on p.oid = e.oprcode
 where not p.proleakproof order by 1
"""


def test_every_index_serves_under_row_level_security(edge: Edge) -> None:
    """Behind a policy, Postgres asks an index only with operators it holds for leakproof: not with an enum's, for one."""
    with psycopg.connect(edge.owner_url) as connection:
        assert connection.execute("select count(*) from pg_class where relrowsecurity").fetchone()[0] > 20
        assert [row[0] for row in connection.execute(_INDEXED)] == []
