"""The stories of invest-and-capture. Each has a tenant of its own, and ends by checking what everybody can see."""

import asyncio

from cli.demo.registry import story
from cli.demo.world import CARD, World, expect


async def _counters(world: World, campaign_id: str, *, pledged: int = 0, held: int = 0, captured: int = 0) -> None:
    seen = await world.admin.get(f"/v1/campaigns/{campaign_id}")
    got = tuple(seen[each]["amount"] for each in ("pledged", "held", "captured"))
    expect(got == (pledged, held, captured), f"the campaign counts {got}, not {(pledged, held, captured)}")


async def _taken_once(world: World, provider: str, amount: int, times: int = 1) -> None:
    taken = [each for each in await world.book(provider) if each["captured"]]
    expect([each["captured"] for each in taken] == [amount] * times, f"the provider took {taken}")


@story("invest.immediate")
async def immediate(world: World) -> None:
    """A card and a hosted page pay at once into a keep-what-you-raise campaign."""
    campaign = await world.campaign("keep_what_you_raise", goal=1_000_000)
    ada, bem = await world.person(), await world.person()
    card = await world.invest(ada, campaign, 250_000, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, 100_000, "paystack", return_url="https://app.demo.test/done")
    await world.pay_page(page["next_action"])
    await world.until(ada, f"/v1/investments/{card['id']}", "captured")
    await world.until(bem, f"/v1/investments/{page['id']}", "captured")
    await _counters(world, campaign, captured=350_000)
    mails = await world.until_true(lambda: _receipts(world), lambda found: found >= 2, "two receipts in the mail sink")
    expect(mails >= 2, "no receipts")


async def _receipts(world: World) -> int:
    sent = (await world.sandbox.get("/_sandbox/mail")).json()
    letters = sent["mail"] if isinstance(sent, dict) else sent
    return sum("Receipt for" in each["subject"] for each in letters)


@story("invest.all_or_nothing_success")
async def all_or_nothing_success(world: World) -> None:
    """Sixty days: card pledges are authorized and renewed, the wallet is held, and at success everything is captured."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=600_000, cap={"amount": 900_000, "currency": "NGN"}, days=60)
    ada, bem, chi = [await world.person() for _ in range(3)]
    await world.deposit(chi, 300_000)
    card = await world.invest(ada, campaign, 200_000, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, 150_000, "paystack")
    await world.pay_page(page["next_action"])
    held = await world.invest(chi, campaign, 250_000, "wallet")
    await world.until(ada, f"/v1/investments/{card['id']}", "held")
    await world.until(bem, f"/v1/investments/{page['id']}", "captured")
    await _counters(world, campaign, held=450_000, captured=150_000)
    await world.advance(days=61)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "funded")
    for person, made in ((ada, card), (bem, page), (chi, held)):
        await world.until(person, f"/v1/investments/{made['id']}", "captured")
    await _counters(world, campaign, captured=600_000)
    seen = await ada.get(f"/v1/investments/{card['id']}")
    renewals = sum(each["event"] == "authorization_renewed" for each in seen["timeline"])
    expect(renewals >= 7, f"a 7-day authorization was renewed {renewals} times in 60 days")


@story("invest.all_or_nothing_failure")
async def all_or_nothing_failure(world: World) -> None:
    """The goal is missed: authorizations are voided, charges refunded, the wallet's hold released."""
    await world.start_clock()
    campaign = await world.campaign("all_or_nothing", goal=5_000_000, days=60)
    ada, bem, chi = [await world.person() for _ in range(3)]
    await world.deposit(chi, 300_000)
    card = await world.invest(ada, campaign, 200_000, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, 150_000, "paystack")
    await world.pay_page(page["next_action"])
    held = await world.invest(chi, campaign, 250_000, "wallet")
    await world.until(ada, f"/v1/investments/{card['id']}", "held")
    await world.until(bem, f"/v1/investments/{page['id']}", "captured")
    await world.advance(days=61)
    await world.until(world.admin, f"/v1/campaigns/{campaign}", "closed_failed")
    await world.until(ada, f"/v1/investments/{card['id']}", "canceled")
    await world.until(bem, f"/v1/investments/{page['id']}", "refunded")
    await world.until(chi, f"/v1/investments/{held['id']}", "canceled")
    await _counters(world, campaign)
    wallet = await chi.get("/v1/wallet")
    expect(wallet[0]["available"] == 300_000, f"the wallet was not released: {wallet}")
    refunded = [each["refunded"] for each in await world.book("paystack")]
    expect(refunded == [150_000], f"the provider refunded {refunded}")


@story("invest.declined")
async def declined(world: World) -> None:
    """A declined card ends the pledge with its reason, and frees the place."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    made = await world.invest(ada, campaign, 200_000, "stripe", instrument="pm_card_chargeDeclined")
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    payment = await ada.get(f"/v1/payments/{made['payment_id']}")
    expect(payment["error_code"] == "generic_decline", f"the reason is {payment['error_code']}")
    await _counters(world, campaign)


@story("invest.hang_after_success")
async def hang_after_success(world: World) -> None:
    """The provider takes the money and never answers: the outcome is looked up, and there is no second charge."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.create", "hang_after", seconds=8)
    await world.fault("stripe", "stripe.capture", "hang_after", seconds=8)
    made = await world.invest(ada, campaign, 120_000, "stripe", instrument=CARD)
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    expect(await world.faults_fired("stripe") == 2, "the faults did not fire")
    expect(any(each["event"] == "outcome_unknown" for each in seen["timeline"]), "nothing was ever unknown")
    await _taken_once(world, "stripe", 120_000)


@story("invest.duplicate_and_early_webhook")
async def duplicate_and_early_webhook(world: World) -> None:
    """Webhooks come three times over, and before the API's own answer: one effect."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada, bem = await world.person(), await world.person()
    await world.fault("stripe", "webhook", "early", times=2)
    await world.fault("paystack", "webhook", "duplicate", n=3, times=5)
    card = await world.invest(ada, campaign, 90_000, "stripe", instrument=CARD)
    page = await world.invest(bem, campaign, 60_000, "paystack")
    await world.pay_page(page["next_action"])
    await world.until(ada, f"/v1/investments/{card['id']}", "captured")
    await world.until(bem, f"/v1/investments/{page['id']}", "captured")
    await _counters(world, campaign, captured=150_000)
    await _taken_once(world, "stripe", 90_000)
    await _taken_once(world, "paystack", 60_000)


@story("invest.worker_killed")
async def worker_killed(world: World) -> None:
    """`kill -9` of the worker in the middle of a capture: the next worker finds the claim and finishes, once."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "hang_after", seconds=6)
    made = await world.invest(ada, campaign, 70_000, "stripe", instrument=CARD)
    await world.until_true(lambda: world.faults_fired("stripe"), lambda n: n == 1, "the capture is under way")
    await asyncio.to_thread(world.stack.kill, "worker")
    await asyncio.to_thread(world.stack.start, "worker")
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    await _counters(world, campaign, captured=70_000)
    await _taken_once(world, "stripe", 70_000)
