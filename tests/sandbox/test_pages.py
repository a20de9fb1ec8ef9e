import re

import httpx

from sandbox.pages import money, way_back
from tests.sandbox.conftest import Merchant, Receiver
from tests.sandbox.test_paystack import begin

ACTION = {"confirm": "true", "payment_method": "pm_card_authenticationRequired"}


def test_money_as_people_write_it() -> None:
    assert money(500_000, "NGN", "paystack") == "NGN 5,000.00"
    assert money(5, "usd") == "USD 0.05"
    assert money(-450, "NGN", "paystack") == "NGN -4.50"
    assert (money(1234, "jpy"), money(1234, "kwd")) == ("JPY 1,234", "KWD 1.234")


def test_way_back_only_to_web_pages() -> None:
    assert way_back("https://shop.test/x?a=1", b="2") == "https://shop.test/x?a=1&b=2"
    assert way_back("javascript:alert(1)", b="2") is None and way_back("//x", b="2") is None and way_back(None) is None


async def test_checkout_page_shows_what_is_paid_and_escapes(paystack: Merchant) -> None:
    await paystack.ask("POST", "accounts", provider="paystack", merchant="<b>Umoja</b>", webhook_url="")
    data = await begin(paystack)
    page = await paystack.client.get(data["authorization_url"])
    assert (
        page.headers["content-type"].startswith("text/html")
        and "default-src 'none'" in page.headers["content-security-policy"]
    )
    for part in (
        "NGN 5,000.00",
        data["reference"],
        "&lt;b&gt;Umoja",
        'id="pay"',
        'id="decline"',
        'id="cancel"',
        "<html lang",
    ):
        assert part in page.text, part
    canceled = await paystack.client.post(data["authorization_url"], data={"choice": "cancel"})
    assert "Payment not completed" in canceled.text
    paid = await paystack.client.post(data["authorization_url"], data={"choice": "pay"})
    assert "Payment successful" in paid.text


async def test_3ds_page(stripe: Merchant, receiver: Receiver) -> None:
    intent = (await stripe.intent(return_url="https://shop.test/done", capture_method="manual", **ACTION)).json()
    url = intent["next_action"]["redirect_to_url"]["url"]
    assert "USD 50.00" in (await stripe.client.get(url)).text
    back = await stripe.client.post(url, data={"choice": "pay"})
    assert back.status_code == 303 and "redirect_status=succeeded" in back.headers["location"]
    assert (await stripe.client.get(f"/v1/payment_intents/{intent['id']}")).json()["status"] == "requires_capture"
    refused = (await stripe.intent(**ACTION)).json()
    await stripe.client.post(refused["next_action"]["redirect_to_url"]["url"], data={"choice": "decline"})
    declined = (await stripe.client.get(f"/v1/payment_intents/{refused['id']}")).json()
    assert declined["status"] == "requires_payment_method"
    assert declined["last_payment_error"]["code"] == "payment_intent_authentication_failure"
    kinds = [e.json["type"] for e in await receiver.take(refused["id"], 2)]
    assert kinds == ["payment_intent.requires_action", "payment_intent.payment_failed"]


async def test_card_page_pays_by_client_secret(stripe: Merchant) -> None:
    intent = (await stripe.intent()).json()
    url = f"{stripe.base}/stripe/pay/{intent['client_secret']}?return_url=https://shop.test/done"
    page = await stripe.client.get(url)
    assert re.search(r'name="return_url" value="https://shop.test/done"', page.text)
    declined = await stripe.client.post(url, data={"choice": "decline"})
    assert 'role="alert"' in declined.text
    paid = await stripe.client.post(url, data={"choice": "pay"})
    assert paid.headers["location"].startswith(f"https://shop.test/done?payment_intent={intent['id']}")
    assert (await stripe.client.get(f"/v1/payment_intents/{intent['id']}")).json()["status"] == "succeeded"
    assert (await stripe.client.post(url, data={"choice": "pay"})).status_code == 303, "paying again changes nothing"


async def test_unknown_links_and_urls(stripe: Merchant) -> None:
    async with httpx.AsyncClient(base_url=stripe.base) as client:
        for path in ("/paystack/checkout/none", "/stripe/3ds/none", "/stripe/pay/none"):
            assert (await client.get(path)).status_code == 404
        assert "Unrecognized" in (await client.get("/stripe/v1/nothing")).json()["error"]["message"]
        assert (await client.get("/paystack/nothing")).json()["status"] is False


async def test_index_lists_accounts_and_payments(stripe: Merchant) -> None:
    intent = (await stripe.intent(reference="on-the-index")).json()
    text = (await stripe.control.get("/")).text
    assert "on-the-index" in text and intent["client_secret"] in text and stripe.key not in text
    health = (await stripe.control.get("/healthz")).json()
    assert health["status"] == "ok"
