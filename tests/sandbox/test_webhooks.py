import asyncio
import hashlib
import hmac
import time

from sandbox.webhooks import paystack_signature, stripe_signature
from tests.sandbox.conftest import Merchant, Receiver
from tests.sandbox.test_paystack import begin, choose

VISA = {"confirm": "true", "payment_method": "pm_card_visa"}


def test_known_answers() -> None:
    body = (
        b'{"id":"evt_1","object":"event","type":"charge.succeeded","data":{"object":{"id":"ch_1","object":"charge"}}}'
    )
    assert stripe_signature("whsec_kat", body, 1700000000) == (
        "t=1700000000,v1=627479781be7434352ee4c71fc0122e4b1f61e2cdcfeb5c0c9595e197f7d0957"
    )
    body = b'{"event":"charge.success","data":{"id":1,"reference":"r-1","amount":500000}}'
    assert paystack_signature("sk_test_kat", body) == (
        "2eb6d790cdd9e6ea6482a0ccb199c95ad26fce49e49ed5a1c7f7160260c81227"
        "d6fe9d63702fab04898624448a9c2431a344ee43ede2cf09223a5151b8cc82ce"
    )


async def test_stripe_signature_has_real_time_and_the_accounts_secret(stripe: Merchant, receiver: Receiver) -> None:
    await stripe.ask("POST", "clock", now="2031-01-01T00:00:00+00:00")
    await stripe.intent(reference="signed", **VISA)
    event = (await receiver.take('"signed"'))[0]
    stamp = int(event.headers["stripe-signature"].split(",")[0].removeprefix("t="))
    assert abs(stamp - time.time()) < 10, "business time in the signature would look like a replay"
    assert event.headers["stripe-signature"] == stripe_signature(f"whsec_{stripe.key}", event.raw, stamp)
    assert event.json["created"] == 1924992000 and event.json["data"]["object"]["status"] == "succeeded"


async def test_paystack_signature_is_of_the_raw_body(paystack: Merchant, receiver: Receiver) -> None:
    data = await begin(paystack)
    await choose(paystack, data, "pay")
    event = (await receiver.take(data["reference"]))[0]
    expected = hmac.new(paystack.key.encode(), event.raw, hashlib.sha512).hexdigest()
    assert event.headers["x-paystack-signature"] == expected


async def test_refused_deliveries_are_repeated_with_the_same_event(stripe: Merchant, receiver: Receiver) -> None:
    receiver.refuse = 2
    await stripe.intent(reference="stubborn", **VISA)
    events = await receiver.take('"stubborn"', 3)
    assert len({e.raw for e in events}) == 1
    assert 0.15 < events[1].at - events[0].at < 1 < events[2].at - events[0].at
    await asyncio.sleep(0.1)
    delivery = (await stripe.ask("GET", "webhooks"))["deliveries"][0]
    assert (delivery["state"], [a["outcome"] for a in delivery["log"]]) == ("delivered", ["500", "500", "200"])


async def test_forged_signatures_do_not_verify(paystack: Merchant, receiver: Receiver) -> None:
    await paystack.fault("webhook", "forged")
    data = await begin(paystack)
    await choose(paystack, data, "pay")
    events = await receiver.take(data["reference"], 2)
    good = [e for e in events if e.headers["x-paystack-signature"] == paystack_signature(paystack.key, e.raw)]
    assert len(good) == 1
