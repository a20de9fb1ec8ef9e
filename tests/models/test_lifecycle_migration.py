"""Campaigns that were there before 0008 keep their terms, and know since when they are live."""

from pathlib import Path
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Mode, Scope
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import add_tenant

_OLD = """
insert into campaigns (tenant_id, mode, id, owner_id, title, description, kind, currency, goal_minor, cap_minor,
    min_ticket_minor, profit_share_bps, success_floor_bps, waiting_seconds, status, deadline_at, verified_at, created_at)
values (%s, 'test', %s, %s, 'Bakery', 'An oven.', 'all_or_nothing', 'NGN', 10, 10, 1, 0, 9000, 0, %s,
    '2030-02-01Z', %s, '2030-01-01Z')
"""


def _upgrade(url: str, revision: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def test_a_campaign_that_was_verified_went_live_then(postgres: EmbeddedPostgres, template_url: str) -> None:
    name = f"chama_old_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} owner chama_owner")
    url = template_url.replace("/template_chama", f"/{name}")
    _upgrade(url, "0006")
    scope = Scope(tenant_id=add_tenant(url), mode=Mode.TEST)
    owner = add_user(url, scope, "business_owner")
    states = {"live": "2030-01-02Z", "funded": "2030-01-02Z", "rejected": "2030-01-02Z", "submitted": None}
    with psycopg.connect(url) as connection:
        set_scope(connection, scope)
        for status, verified_at in states.items():
            connection.execute(_OLD, (scope.tenant_id, f"cmp_{status}", owner, status, verified_at))
    _upgrade(url, "head")
    with psycopg.connect(url) as connection:
        set_scope(connection, scope)
        query = (
            "select status, go_live_at = verified_at, close_when_funded, deadline_extensions from campaigns order by 1"
        )
        assert connection.execute(query).fetchall() == [
            ("funded", True, False, 0), ("live", True, False, 0), ("rejected", None, False, 0), ("submitted", None, False, 0),
        ]  # fmt: skip
        forced = "select relforcerowsecurity from pg_class where relname = 'campaigns'"
        assert connection.execute(forced).fetchone() == (True,)
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from campaigns").fetchone() == (0,), "no scope, no rows"
