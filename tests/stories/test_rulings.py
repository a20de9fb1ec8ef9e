"""Nobody can say whether the money was taken: only a named operator's word, or the provider's own answer, moves on."""

import pytest

from cli.demo.world import CARD, Json, Person
from tests.fixtures.stage import Stage, events
from tests.fixtures.stories import Stories, Told

STORIES = Stories()
FOR_EVER = 100_000


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, told: Told) -> None:
    await told(STORIES, name)


async def _rule(world: Stage, made: Json, outcome: str) -> None:
    path = f"/v1/admin/payments/{made['payment_id']}/resolve-unknown"
    await world.admin.post(path, {"outcome": outcome, "reason": "The provider's support told us so."})


async def _unknown_for_long(world: Stage, person: Person, made: Json) -> None:
    """Unknown, and after a day's look-ups put before a person."""
    await world.event(person, made, "outcome_unknown")
    await world.forward(made["payment_id"], hours=30)
    seen = await world.until_true(
        lambda: world.investment(person, made), lambda s: s["blocked_reason"] == "unknown_outcome", "it is visible"
    )
    assert events(seen).count("outcome_unknown") == 1, "told once, not at every look-up"
    assert ("unknown_outcome", "open", None) in await world.cases()
    assert [case["kind"] for case in await world.admin.get("/v1/admin/cases")] == ["unknown_outcome"]


async def _mute_stripe(world: Stage, operation: str) -> None:
    """The operation takes effect, its answer is lost, and nothing is heard of it afterwards."""
    await world.fault("stripe", operation, "reset_after")
    await world.fault("stripe", "stripe.get", "500_before", times=FOR_EVER)
    await world.fault("stripe", "webhook", "drop", times=FOR_EVER)


@STORIES.tell
async def ruled_charged(world: Stage) -> None:
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await _mute_stripe(world, "stripe.capture")
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await _unknown_for_long(world, ada, made)
    assert (await world.investment(ada, made))["status"] == "held", "nothing moves on a guess"
    await _rule(world, made, "charged")
    seen = await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    ruled = next(each for each in seen["timeline"] if each["event"] == "outcome_ruled")
    assert ruled["detail"] == {"outcome": "charged", "operator_id": world.admin.user_id}
    assert await world.cases() == [("unknown_outcome", "resolved", "charged")]
    assert await world.counters(campaign) == (0, 0, 100_000)
    assert await world.taken("stripe") == [(100_000, 0)]
    again = await world.admin.call(
        "POST", f"/v1/admin/payments/{made['payment_id']}/resolve-unknown", {"outcome": "not_charged", "reason": "No."}
    )
    assert (again.status_code, again.json()["code"]) == (409, "outcome_known")
    audited = await world.sql(
        "select actor, detail from audit_log where tenant_id = %(tenant)s and action = 'payment.ruled'"
    )
    assert [(row["actor"], row["detail"]["reason"]) for row in audited] == [
        (world.admin.user_id, "The provider's support told us so.")
    ]


@STORIES.tell
async def ruled_not_charged(world: Stage) -> None:
    """The provider never took the request in: the payment ends unsent, its place is free."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.create", "500_before", times=FOR_EVER)
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await world.event(ada, made, "outcome_unknown")
    refused = await ada.call("POST", f"/v1/admin/payments/{made['payment_id']}/resolve-unknown", {
        "outcome": "not_charged", "reason": "I say so."})  # fmt: skip
    assert refused.status_code == 403, "only an operator may rule"
    assert await world.counters(campaign) == (100_000, 0, 0)
    await _rule(world, made, "not_charged")
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")
    assert (await world.payment(ada, made))["error_code"] == "ruled_not_charged"
    assert await world.counters(campaign) == (0, 0, 0)
    assert await world.book("stripe") == []
    await world.mailed(ada, "did not go through")


@STORIES.tell
async def ruled_not_captured(world: Stage) -> None:
    """The hold stands and the capture did not happen: it is made again, under the same key, once."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await world.fault("stripe", "stripe.capture", "500_before")
    await world.fault("stripe", "stripe.get", "500_before", times=FOR_EVER)
    await world.fault("stripe", "webhook", "drop", times=FOR_EVER)
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await _unknown_for_long(world, ada, made)
    await world.clear_faults("stripe")
    await _rule(world, made, "not_charged")
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    assert await world.taken("stripe") == [(100_000, 0)]
    assert await world.counters(campaign) == (0, 0, 100_000)


@STORIES.tell
async def the_provider_answers_after_all(world: Stage) -> None:
    """No ruling is needed when a look-up answers at last, and the case closes with the answer."""
    campaign = await world.campaign("keep_what_you_raise", goal=500_000)
    ada = await world.person()
    await _mute_stripe(world, "stripe.capture")
    made = await world.invest(ada, campaign, 100_000, "stripe", instrument=CARD)
    await _unknown_for_long(world, ada, made)
    await world.clear_faults("stripe")
    await world.forward(made["payment_id"], hours=13)
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")
    assert await world.taken("stripe") == [(100_000, 0)]
    assert await world.cases() == [("unknown_outcome", "resolved", "looked up: captured")]
