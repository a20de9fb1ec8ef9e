"""Campaigns that were funded before 0013 have a plan of one tranche: their owners ask for it."""

from uuid import uuid4

import psycopg

from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Mode, Scope
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import add_tenant
from tests.models.test_lifecycle_migration import _OLD, _upgrade


def test_a_funded_campaign_gets_one_tranche(postgres: EmbeddedPostgres, template_url: str) -> None:
    name = f"chama_old_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} owner chama_owner")
    url = template_url.replace("/template_chama", f"/{name}")
    _upgrade(url, "0012")
    scope = Scope(tenant_id=add_tenant(url), mode=Mode.TEST)
    owner = add_user(url, scope, "business_owner")
    with psycopg.connect(url) as connection:
        set_scope(connection, scope)
        for status, captured in (("funded", 9), ("live", 5), ("closed_failed", 0)):
            connection.execute(_OLD, (scope.tenant_id, f"cmp_{status}", owner, status, "2030-01-02Z"))
            connection.execute("update campaigns set captured_minor = %s where id = %s", (captured, f"cmp_{status}"))
    _upgrade(url, "head")
    with psycopg.connect(url) as connection:
        set_scope(connection, scope)
        tranches = "select campaign_id, number, share_bps, amount_minor, fee_minor, status, due_at from tranches"
        assert connection.execute(tranches).fetchall() == [("cmp_funded", 1, 10_000, 9, 0, "open", None)]
        plans = "select id, amount_minor, status, next_action_at from milestone_plans"
        assert connection.execute(plans).fetchall() == [("cmp_funded", 9, "waiting", None)]
