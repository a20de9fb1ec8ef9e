"""A settlement line that failed for good is an operator's to put back; the others were never touched again."""

from cli.demo.world import World


async def test_a_refused_refund_is_asked_for_anew(world: World) -> None:
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=5_000_000, days=10)
    ada = await world.person()
    made = await world.invest(ada, campaign, 150_000, "paystack")
    await world.pay_page(made["next_action"])
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    await world.fault("paystack", "paystack.refund", "decline")
    await world.advance(days=11)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    [settlement] = await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements")
    assert (settlement["failed"], settlement["blocked_reason"]) == (1, "failed_lines")

    path = f"/v1/admin/settlements/{settlement['id']}/retry-failed-lines"
    assert (await world.admin.post(path))["requeued"] == 1
    await world.until(ada, f"/v1/investments/{made['id']}", "refunded")

    [settlement] = await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements")
    assert (settlement["done"], settlement["failed"]) == (1, 0)
    assert [each["refunded"] for each in await world.book("paystack")] == [150_000]
    refused = await world.admin.call("POST", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_retry")
