"""Each page of the feed is read in the order of an index, and words by theirs: what Postgres plans for twenty thousand rows."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from contracts.base import Mode, Scope
from models.feed_pages import Sort, feed_query
from models.user import Role
from tests.fixtures.api import Edge
from tests.fixtures.feed import SEEDED
from tests.fixtures.postgres import add_tenant, role_url

INDEXES = {
    Sort.NEWEST: "campaign_feed_newest", Sort.ENDING_SOON: "campaign_feed_ending", Sort.MOST_FUNDED: "campaign_feed_funded",
    Sort.RECOMMENDED: "campaign_feed_scored",
}  # fmt: skip


@pytest.fixture(scope="module")
async def crowded(owner_url: str, edge: Edge) -> AsyncIterator[psycopg.Connection[Any]]:
    """The app role's connection to a tenant with twenty thousand campaigns, a hundred of them one owner's drafts."""
    scope = Scope(tenant_id=add_tenant(owner_url), mode=Mode.TEST)
    owner = edge.user(Role.BUSINESS_OWNER, scope)
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("select set_config('app.tenant', %s, false)", (str(scope.tenant_id),))
        connection.execute("select set_config('app.mode', 'test', false)")
        connection.execute(SEEDED, {"tenant": scope.tenant_id, "owner": owner.id, "count": 20_000})
        for table in ("campaigns", "campaign_feed", "campaign_words", "users"):
            connection.execute(f"analyze {table}")
    with psycopg.connect(role_url(owner_url, "chama_app"), autocommit=True) as connection:
        connection.execute("select set_config('app.tenant', %s, false)", (str(scope.tenant_id),))
        connection.execute("select set_config('app.mode', 'test', false), set_config('plan_cache_mode', %s, false)",
                           ("force_generic_plan",))  # fmt: skip
        yield connection


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("filters", [(), ("status",)])
@pytest.mark.parametrize("sort", Sort)
def test_a_page_is_read_in_the_order_of_its_index(
    crowded: psycopg.Connection[Any], sort: Sort, filters: tuple[str, ...], later: bool, everything: bool
) -> None:
    query = feed_query(sort, filters, later, everything)
    name = f"p{uuid4().hex}"
    crowded.execute(f"prepare {name} as {query}".encode())
    key = "now()" if sort in (Sort.NEWEST, Sort.ENDING_SOON) else "5"
    values = ["'usr_1'", *(["'live'"] if filters else []), *([key, "'cmp_seed'"] if later else []), "50"]
    plan = "\n".join(row[0] for row in crowded.execute(f"explain execute {name}({', '.join(values)})".encode()))
    assert f"using {INDEXES[sort]} on campaign_feed" in plan, plan
    assert "Seq Scan on campaign_feed" not in plan and "Seq Scan on campaigns" not in plan, plan
    if sort is Sort.ENDING_SOON:
        assert "Sort" not in plan
        return
    public, hidden = plan.split("Merge Append", 1)[1].split("SELECT* 2", 1)
    assert "Sort  " not in public.split("Sort Key", 1)[1].split("\n", 1)[1], plan
    if everything:
        assert f"using {INDEXES[sort]}" in hidden and "Sort  " not in hidden, plan
    else:
        assert "campaign_feed_hidden" in hidden, plan


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("sort", Sort)
def test_words_that_all_have_end_with_the_page(crowded: psycopg.Connection[Any], sort: Sort, everything: bool) -> None:
    """Twenty thousand have the word: about as many are looked at as the page has rows."""
    query = feed_query(sort, ("q",), False, everything, many=True)
    name = f"p{uuid4().hex}"
    crowded.execute(f"prepare {name} as {query}".encode())
    someone = crowded.execute("select id from users").fetchone()
    assert someone is not None
    values = f"'{someone[0]}', 'street', 50, 20000"
    lines = crowded.execute(f"explain (analyze, timing off) execute {name}({values})".encode())
    plan = "\n".join(row[0] for row in lines)
    assert f"using {INDEXES[sort]} on campaign_feed" in plan and "Seq Scan on campaign_feed" not in plan, plan
    looked_at = [int(found) for found in re.findall(rf"using {INDEXES[sort]} .*actual rows=(\d+)", plan)]
    assert looked_at and max(looked_at) <= 200, plan


def test_words_are_found_by_their_index(crowded: psycopg.Connection[Any], owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        scope = crowded.execute("select current_setting('app.tenant'), 'test'").fetchone()
        assert scope is not None
        connection.execute("select set_config('app.tenant', %s, true), set_config('app.mode', %s, true)", scope)
        body = connection.execute("select prosrc from pg_proc where proname = 'campaigns_matching'").fetchone()
        assert body is not None
        rows = connection.execute(f"explain {body[0].replace('wanted', chr(39) + '17' + chr(39))}").fetchall()
        plan = "\n".join(row[0] for row in rows)
    assert "campaign_words_found" in plan and "Seq Scan" not in plan, plan
