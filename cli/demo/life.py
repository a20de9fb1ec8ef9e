"""A campaign's whole life: reviewed, funded, its money released by milestones, its profit shared out six times, completed."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cli.demo.registry import story
from cli.demo.world import CARD, Json, Person, World, expect
from cli.seed import ZONE

STATEMENT: Final = "demo-statement.pdf"
"""Where under `var/` the investor's statement is put."""
_CARD_PAYS, _WALLET_PAYS = 400_000, 200_000
_PROFIT, _SHARE = 150_000, 60_000
"""A quarter's declared profit, and the two fifths of it that are distributed."""
_WITHDRAWN = 50_000
_QUARTERS = 6
_QUARTER_DAYS = 92
_DAYS_RAISING = 31
_PARTS = (360_000, 240_000)
"""Of what was raised, released when the oven is ordered, and when it bakes."""


@story("campaign.whole_life")
async def whole_life(world: World) -> None:
    """Reviewed, funded, released by milestones, six distributions approved by a second person, a withdrawal, a statement."""
    await world.start_clock()
    began = await world.business_now()
    owner, ada, bem = await world.person("business_owner"), await world.person(), await world.person()
    for person in (ada, bem):
        seen = {"kyc_level": 2, "country": "NG", "reason": "Passport seen."}
        await world.admin.post(f"/v1/admin/users/{person.user_id}/verification", seen)
    campaign = await _approved(world, owner, began)
    await world.deposit(bem, _WALLET_PAYS)
    card = await world.invest(ada, campaign, _CARD_PAYS, "stripe", instrument=CARD)
    await world.invest(bem, campaign, _WALLET_PAYS, "wallet")
    await world.until(ada, f"/v1/investments/{card['id']}", "held")
    await world.advance(days=_DAYS_RAISING)
    await world.until(owner, f"/v1/campaigns/{campaign}", "funded")
    bank = await _account(world, owner)
    await _milestone(world, owner, campaign, 1, bank)
    await _quarter(world, owner, campaign)
    await _milestone(world, owner, campaign, 2, bank)
    await owner.post(f"/v1/campaigns/{campaign}/updates", {"title": "It bakes", "body": "The second oven is hot."})
    for _ in range(_QUARTERS - 1):
        await _quarter(world, owner, campaign)
    earned = _QUARTERS * _SHARE * _CARD_PAYS // (_CARD_PAYS + _WALLET_PAYS)
    figures = (await ada.get(f"/v1/users/{ada.user_id}/dashboard"))["totals"]["NGN"]
    expect(figures["earned"]["amount"] == earned, f"the dashboard shows {figures['earned']}, not {earned}")
    expect(float(figures["yearly_return"]) > 0, f"a gain without a yearly return: {figures}")
    await _withdraw(world, ada)
    await world.advance(days=2)
    await world.until(owner, f"/v1/campaigns/{campaign}", "completed")
    await _statements(world, ada, began, earned=earned)


async def _approved(world: World, owner: Person, began: datetime) -> str:
    """Drafted, handed in, sent back, mended, handed in again and approved."""
    ends = began + timedelta(days=_DAYS_RAISING + _QUARTERS * _QUARTER_DAYS)
    shared_until = ends.astimezone(ZoneInfo(ZONE)).date()
    body = {"title": "Mama Kemi Bakery", "description": "An oven.", "kind": "all_or_nothing", "draft": True,
            "goal": {"amount": sum(_PARTS), "currency": "NGN"}, "profit_share_bps": 4_000, "min_kyc_level": 2,
            "deadline_at": (began + timedelta(days=_DAYS_RAISING - 1)).isoformat(), "profit_until": f"{shared_until}",
            "milestones": [{"title": "The oven is ordered", "share_bps": 6_000, "due_days": 60},
                           {"title": "It bakes", "share_bps": 4_000, "due_days": 200}]}  # fmt: skip
    made = await owner.post("/v1/campaigns", body)
    world.workflow_ids.append(made["workflow_id"])
    path, review = f"/v1/campaigns/{made['id']}", f"/v1/admin/campaigns/{made['id']}/verify"
    await owner.post(f"{path}/submit")
    await world.admin.post(review, {"decision": "request_changes", "note": "Which oven?"})
    edited = await owner.call("PATCH", path, {"description": "A second oven, with steam."})
    expect(edited.is_success, f"the draft could not be mended: {edited.text}")
    await owner.post(f"{path}/submit")
    await world.admin.post(review, {"decision": "approve"})
    await world.until(owner, path, "live")
    return str(made["id"])


async def _account(world: World, person: Person) -> str:
    """The person's own account at a bank, verified: the beneficiary's id."""
    payee = await world.payee(person)
    await world.until(person, f"/v1/beneficiaries/{payee['id']}", "verified")
    return str(payee["id"])


async def _milestone(world: World, owner: Person, campaign: str, number: int, bank: str) -> None:
    """Evidence, a second person's yes, and the tranche at the owner's bank."""
    await world.top_up(_PARTS[number - 1])
    at = f"campaigns/{campaign}/milestones/{number}"
    await owner.post(f"/v1/{at}/evidence", {"evidence": "The invoice, and a picture.", "destination": bank})
    released = await world.admin.post(f"/v1/admin/{at}/approve")
    payout = released["tranches"][number - 1]["payout"]
    world.workflow_ids.append(released["workflow_id"])
    await world.until(owner, f"/v1/payouts/{payout['id']}", "succeeded")
    await _sent(world, *_PARTS[:number])


async def _sent(world: World, *amounts: int) -> None:
    """These transfers, and no others, are in the provider's own record."""
    taken = sorted(each["taken"] for each in await world.transfers())
    expect(taken == sorted(amounts), f"the provider sent {taken}, not {sorted(amounts)}")


async def _quarter(world: World, owner: Person, campaign: str) -> None:
    """Three months, and their profit from the owner's declaration to the holders' wallets."""
    first = (await world.business_now()).date() + timedelta(days=1)
    await world.advance(days=_QUARTER_DAYS)
    last = f"{first + timedelta(days=89)}"
    await world.deposit(owner, _SHARE)
    body: Json = {"declared_profit": {"amount": _PROFIT, "currency": "NGN"}, "evidence": "The books of the quarter.",
                  "period_start": f"{first}", "period_end": last, "record_date": last}  # fmt: skip
    run = await owner.post(f"/v1/campaigns/{campaign}/distributions", body)
    at = f"/v1/campaigns/{campaign}/distributions/{run['id']}"
    world.workflow_ids.append(run["workflow_id"])
    await owner.post(f"{at}/calculate")
    await world.until(owner, at, "calculated")
    await owner.post(f"{at}/submit")
    own = await owner.call("POST", f"/v1/admin/distributions/{run['id']}/approve")
    expect(own.status_code == 403, f"the owner approved its own distribution: {own.status_code}")
    await world.admin.post(f"/v1/admin/distributions/{run['id']}/approve")
    paid = await world.until(owner, at, "paid")
    expect(paid["totals"]["net"] == _SHARE, f"the run paid {paid['totals']}, not {_SHARE}")


async def _withdraw(world: World, ada: Person) -> None:
    """To an account that the bank knows under her name."""
    await world.top_up(_WITHDRAWN)
    order = {"beneficiary_id": await _account(world, ada), "amount": _WITHDRAWN, "currency": "NGN"}
    made = await ada.post("/v1/payouts", order)
    world.workflow_ids.append(made["workflow_id"])
    await world.until(ada, f"/v1/payouts/{made['id']}", "succeeded")
    await _sent(world, *_PARTS, _WITHDRAWN)


async def _statements(world: World, ada: Person, began: datetime, *, earned: int) -> None:
    """Of the first year, in which she invested, and of the last, in which she withdrew; its PDF is for the demo's reader."""
    first_day, today = began.date() - timedelta(days=1), (await world.business_now()).date() + timedelta(days=1)
    first = await ada.get(f"/v1/statements/NGN?from={first_day}&to={first_day + timedelta(days=365)}")
    expect(first["invested"]["amount"] == _CARD_PAYS, f"the statement shows {first['invested']} invested")
    period = f"from={today - timedelta(days=365)}&to={today}"
    last = await ada.get(f"/v1/statements/NGN?{period}")
    closing = earned - _WITHDRAWN
    expect(last["closing"]["amount"] == closing, f"the statement closes with {last['closing']}, not {closing}")
    drawn = await ada.call("GET", f"/v1/statements/NGN/pdf?{period}")
    expect(drawn.content.startswith(b"%PDF-"), f"no PDF: {drawn.status_code}")
    await asyncio.to_thread((world.stack.directory / STATEMENT).write_bytes, drawn.content)
