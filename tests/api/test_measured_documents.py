"""The bare side of `make bench` answers the same documents as we do: else nothing is compared, and the run stops there."""

from benchmarks.bare_api import _PAGE, _ROW
from models.user import users_of
from tests.fixtures.api import Edge
from tests.fixtures.pledges import add_pledge


async def test_the_bare_page_and_row_are_ours(edge: Edge) -> None:
    database = edge.app.state.database
    pledge = await add_pledge(database, edge.scope, edge.owner_url)
    async with database.transaction(edge.scope) as tx:
        [investor] = await users_of(tx, [pledge.investment.investor_id])
        bare = await (await tx.execute(f"select page::json -> 0 as first from ({_PAGE}) p", (investor.id,))).fetchone()
        row = await (await tx.execute(_ROW, (investor.id,))).fetchone()
    assert bare is not None and row is not None
    ours = (await edge.http.get("/v1/investments?limit=50", headers=edge.headers(investor))).json()["data"]
    assert [set(each) for each in ours] == [set(bare["first"])]
    me = (await edge.http.get("/v1/users/me", headers=edge.headers(investor))).json()["data"]
    assert set(me) == set(row)
