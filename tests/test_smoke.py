from infra.database import Database, fetch_one


async def test_app_sees_only_its_tenant(database: Database, scope) -> None:
    async with database.transaction(scope) as tx:
        assert (await fetch_one(tx, "select count(*) as n from tenants"))["n"] == 1
    async with database.transaction() as tx:
        assert (await fetch_one(tx, "select count(*) as n from tenants"))["n"] == 0
