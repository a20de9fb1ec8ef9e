"""Campaigns that were there before 0016 are looked after from then on, and nobody is warned of what nobody had watched."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg

from cli.migrate import migrate
from cli.stack.postgres import EmbeddedPostgres
from contracts.base import Mode, Scope
from infra.database import Database
from migrations.versions.v0016_campaign_page import down_revision, revision
from models import health
from tests.fixtures.api import set_scope
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import PASSWORD, add_tenant, role_url
from tests.models.test_lifecycle_migration import _OLD, _upgrade


async def test_a_live_campaign_is_looked_after_from_now_on(postgres: EmbeddedPostgres, template_url: str) -> None:
    name = f"chama_old_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} owner chama_owner")
    url = template_url.rpartition("/")[0] + f"/{name}"
    _upgrade(url, down_revision)
    scope = Scope(tenant_id=add_tenant(url), mode=Mode.TEST)
    owner = add_user(url, scope, "business_owner")
    with psycopg.connect(url) as connection:
        set_scope(connection, scope)
        for campaign, status in (("cmp_live", "live"), ("cmp_over", "closed_failed"), ("cmp_draft", "draft")):
            connection.execute(_OLD, (scope.tenant_id, campaign, owner, status, datetime(2020, 1, 1, tzinfo=UTC)))
        connection.execute("update campaigns set go_live_at = '2020-01-01Z', held_minor = 1 where id = 'cmp_live'")
    _upgrade(url, revision)
    migrate(url, PASSWORD)
    database = Database(role_url(url, "chama_app"), name="test", max_size=1)
    await database.open()
    async with database.transaction(scope) as tx:
        opened = await health.watch(tx, scope, ["cmp_over", "cmp_draft"])
        rows = await (await tx.execute("select campaign_id, kind from campaign_warnings")).fetchall()
        watched = await (
            await tx.execute("select campaign_id from campaign_health where look_at is not null")
        ).fetchall()
    await database.close()
    kinds = {(row["campaign_id"], row["kind"]) for row in rows}
    assert opened == len(kinds) and ("cmp_live", "no_activity") not in kinds
    assert [row["campaign_id"] for row in watched] == ["cmp_live"]
