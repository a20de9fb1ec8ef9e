"""A settlement line that failed for good is an operator's to put back; the others were never touched again."""

from cli.demo.world import Json, Person, World


async def refused(world: World) -> tuple[str, Person, Json]:
    """A failed campaign whose only refund the provider refuses: the campaign, the investor, and what was invested."""
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
    return campaign, ada, made


async def settlement_of(world: World, campaign: str) -> Json:
    [settlement] = await world.admin.get(f"/v1/admin/campaigns/{campaign}/settlements")
    return dict(settlement)


async def kinds(world: World) -> list[str]:
    """The kinds of the open cases."""
    return sorted(each["kind"] for each in await world.admin.get("/v1/admin/cases"))


async def retry(world: World, settlement: Json) -> str | int:
    """How many lines were put back, or the code of the refusal."""
    answer = await world.admin.call("POST", f"/v1/admin/settlements/{settlement['id']}/retry-failed-lines")
    found: str | int = answer.json()["data"]["requeued"] if answer.is_success else answer.json()["code"]
    return found


async def test_a_refused_refund_is_asked_for_anew(world: World) -> None:
    campaign, ada, made = await refused(world)
    settlement = await settlement_of(world, campaign)
    assert (settlement["failed"], settlement["blocked_reason"]) == (1, "failed_lines")
    assert await kinds(world) == ["failed_line", "failed_refund"]

    assert await retry(world, settlement) == 1
    await world.until(ada, f"/v1/investments/{made['id']}", "refunded")

    settlement = await settlement_of(world, campaign)
    assert (settlement["done"], settlement["failed"]) == (1, 0)
    assert [each["refunded"] for each in await world.book("paystack")] == [150_000]
    assert (await retry(world, settlement), await kinds(world)) == ("nothing_to_retry", [])
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] == [], "the refund that was refused is history"


async def test_what_is_refused_again_is_a_case_again(world: World) -> None:
    campaign, ada, made = await refused(world)
    await world.fault("paystack", "paystack.refund", "decline")
    assert await retry(world, await settlement_of(world, campaign)) == 1

    async def failed_again() -> Json:
        return await settlement_of(world, campaign)

    await world.until_true(failed_again, lambda seen: seen["failed"] == 1, "it is refused again")
    assert await kinds(world) == ["failed_line", "failed_refund"]
    assert await retry(world, await settlement_of(world, campaign)) == 1
    await world.until(ada, f"/v1/investments/{made['id']}", "refunded")


async def test_what_was_settled_by_another_way_is_not_retried(world: World) -> None:
    """The admin closes the case that names the amount: nothing is stuck any more, and the money is not sent a second time."""
    campaign, ada, made = await refused(world)
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] != []
    [case] = [each for each in await world.admin.get("/v1/admin/cases") if each["kind"] == "failed_refund"]
    closed = await world.admin.post(f"/v1/admin/cases/{case['id']}/resolve", {"resolution": "Paid by cheque 17."})
    assert (closed["status"], closed["resolution"]) == ("resolved", "Paid by cheque 17.")
    again = await world.admin.call("POST", f"/v1/admin/cases/{case['id']}/resolve", {"resolution": "Twice."})
    assert (again.status_code, again.json()["code"]) == (409, "case_resolved")
    settlement = await settlement_of(world, campaign)
    assert (settlement["failed"], settlement["blocked_reason"]) == (1, None)
    assert (await retry(world, settlement), await kinds(world)) == ("nothing_to_retry", []), (
        "the line's case went with it"
    )
    [line] = await world.admin.get(f"/v1/admin/settlements/{settlement['id']}/lines")
    assert (line["status"], line["dealt_with_at"] is None) == ("failed", False)
    assert (await world.admin.get("/v1/admin/stuck"))["findings"] == []
    assert (await ada.get(f"/v1/investments/{made['id']}"))["status"] == "captured"
    assert [each["refunded"] for each in await world.book("paystack")] == [0]
