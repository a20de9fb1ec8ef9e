"""One wallet, many withdrawals; one payout, a cancel and its sending at once: exactly one outcome each."""

import asyncio
from collections import Counter

from tests.fixtures.payouts import WALLET, saver
from tests.fixtures.stage import Stage

RIVALS, PAYOUTS, EACH = 12, 16, 30_000


async def test_the_whole_balance_is_withdrawn_once(world: Stage) -> None:
    ada = await saver(world)
    answers = await asyncio.gather(
        *(ada.person.call("POST", "/v1/payouts", ada.order(WALLET), f"all-{n}") for n in range(RIVALS))
    )
    outcomes = Counter("" if each.is_success else each.json()["code"] for each in answers)
    assert outcomes == {"": 1, "insufficient_funds": RIVALS - 1}
    (made,) = (each.json()["data"] for each in answers if each.is_success)
    await ada.until(made, "succeeded")
    assert await ada.sent() == [("success", WALLET)]
    assert await world.wallet(ada.person) == 0


async def test_a_cancel_races_the_sending(world: Stage) -> None:
    ada = await saver(world, wallet=PAYOUTS * EACH)
    pauses = [0.01 * n for n in range(PAYOUTS)]

    async def asked_and_canceled(pause: float) -> tuple[str, bool]:
        made = await ada.person.post("/v1/payouts", ada.order(EACH))
        await asyncio.sleep(pause)
        answer = await ada.person.call("POST", f"/v1/payouts/{made['id']}/cancel")
        assert answer.is_success or answer.json()["code"] == "payout_sent", answer.text
        return (await ada.until(made, "succeeded", "canceled"))["status"], answer.is_success

    ends = Counter(await asyncio.gather(*(asked_and_canceled(pause) for pause in pauses)))
    canceled, sent = ends[("canceled", True)], ends[("succeeded", False)]
    assert canceled + sent == PAYOUTS, ends
    assert await ada.sent() == [("success", EACH)] * sent
    assert await world.wallet(ada.person) == canceled * EACH
