"""A campaign's whole life: reviewed, funded, its money released, its profit shared out twice, money withdrawn, completed."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from cli.demo.registry import story
from cli.demo.world import CARD, Json, Person, World, expect

STATEMENT: Final = "demo-statement.pdf"
"""Where under `var/` the investor's statement is put."""
_CARD_PAYS, _WALLET_PAYS = 400_000, 200_000
_PROFIT, _SHARE = 150_000, 60_000
"""A quarter's declared profit, and the two fifths of it that are distributed."""
_WITHDRAWN = 50_000
_MILESTONES: Final[list[Json]] = [
    {"title": "The oven is paid for", "share_bps": 7_000, "due_days": 20},
    {"title": "The first bread", "share_bps": 3_000, "due_days": 60},
]


@story("campaign.whole_life")
async def whole_life(world: World) -> None:
    """Reviewed, funded, two distributions approved by a second person, a withdrawal to a bank, a statement."""
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
    await world.advance(days=31)
    await world.until(owner, f"/v1/campaigns/{campaign}", "funded")
    await owner.post(f"/v1/campaigns/{campaign}/updates", {"title": "It bakes", "body": "The second oven is hot."})
    await _released(world, owner, campaign)
    for _ in range(2):
        await _quarter(world, owner, campaign)
    earned = 2 * _SHARE * _CARD_PAYS // (_CARD_PAYS + _WALLET_PAYS)
    figures = (await ada.get(f"/v1/users/{ada.user_id}/dashboard"))["totals"]["NGN"]
    expect(figures["earned"]["amount"] == earned, f"the dashboard shows {figures['earned']}, not {earned}")
    expect(float(figures["yearly_return"]) > 0, f"a gain without a yearly return: {figures}")
    await _withdraw(world, ada)
    await _statement(world, ada, began, closing=earned - _WITHDRAWN)
    ended = await owner.post(f"/v1/campaigns/{campaign}/complete")
    expect(ended["status"] == "completed", f"the campaign is {ended['status']}, not completed")


async def _approved(world: World, owner: Person, began: datetime) -> str:
    """Drafted, handed in, sent back, mended, handed in again and approved."""
    body = {"title": "Mama Kemi Bakery", "description": "An oven.", "kind": "all_or_nothing", "draft": True,
            "goal": {"amount": _CARD_PAYS + _WALLET_PAYS, "currency": "NGN"}, "profit_share_bps": 4_000,
            "min_kyc_level": 2, "milestones": _MILESTONES, "deadline_at": (began + timedelta(days=30)).isoformat()}  # fmt: skip
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


async def _released(world: World, owner: Person, campaign: str) -> None:
    """Each milestone with its evidence and an administrator's approval; the money is in the owner's wallet."""
    for number in range(1, len(_MILESTONES) + 1):
        evidence = {"evidence": "A photograph and the invoice.", "destination": "wallet"}
        await owner.post(f"/v1/campaigns/{campaign}/milestones/{number}/evidence", evidence)
        await world.admin.post(f"/v1/admin/campaigns/{campaign}/milestones/{number}/approve")
    seen = await owner.get(f"/v1/campaigns/{campaign}/milestones")
    world.workflow_ids.append(seen["workflow_id"])
    released, raised = seen["released"]["amount"], _CARD_PAYS + _WALLET_PAYS
    expect(released == raised, f"{released} are released, not {raised}")
    found = sum(each["available"] for each in await owner.get("/v1/wallet"))
    expect(found == raised, f"the owner's wallet holds {found}, not {raised}")


async def _quarter(world: World, owner: Person, campaign: str) -> None:
    """Three months, and their profit from the owner's declaration to the holders' wallets."""
    first = (await world.business_now()).date() + timedelta(days=1)
    await world.advance(days=92)
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
    payee = await world.payee(ada)
    await world.until(ada, f"/v1/beneficiaries/{payee['id']}", "verified")
    order = {"beneficiary_id": payee["id"], "amount": _WITHDRAWN, "currency": "NGN"}
    made = await ada.post("/v1/payouts", order)
    world.workflow_ids.append(made["workflow_id"])
    await world.until(ada, f"/v1/payouts/{made['id']}", "succeeded")
    sent = [each["taken"] for each in await world.transfers()]
    expect(sent == [_WITHDRAWN], f"the provider sent {sent}, not {[_WITHDRAWN]}")


async def _statement(world: World, ada: Person, began: datetime, *, closing: int) -> None:
    """The statement of all this, and its PDF for the reader of the demo."""
    until = (await world.business_now()).date() + timedelta(days=1)
    period = f"from={began.date() - timedelta(days=1)}&to={until}"
    found = await ada.get(f"/v1/statements/NGN?{period}")
    expect(found["closing"]["amount"] == closing, f"the statement closes with {found['closing']}, not {closing}")
    expect(found["invested"]["amount"] == _CARD_PAYS, f"the statement shows {found['invested']} invested")
    drawn = await ada.call("GET", f"/v1/statements/NGN/pdf?{period}")
    expect(drawn.content.startswith(b"%PDF-"), f"no PDF: {drawn.status_code}")
    await asyncio.to_thread((world.stack.directory / STATEMENT).write_bytes, drawn.content)
