import asyncio
import email.message
import os
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import httpx

from tests.fixtures.postgres import free_port
from tests.sandbox.conftest import Receiver, eventually, merchant_at, running_sandbox

VISA = {"confirm": "true", "payment_method": "pm_card_visa"}
ROOT = Path(__file__).parents[2]


async def test_restart_keeps_the_book_keys_and_owed_webhooks(tmp_path: Path, receiver: Receiver) -> None:
    book = tmp_path / "book.sqlite"
    async with (
        running_sandbox(book) as (url, _),
        merchant_at(url, "stripe", f"http://127.0.0.1:{free_port()}/nobody") as merchant,
    ):
        first = (await merchant.intent(key="k", reference="kept", **VISA)).json()
        await merchant.fault("stripe.get", "429")
        await asyncio.sleep(0.4)
        key = merchant.key
    async with (
        running_sandbox(book) as (url, _),
        httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        data = {"amount": 5000, "currency": "usd", "metadata[reference]": "kept", **VISA}
        again = await client.post("/stripe/v1/payment_intents", data=data, headers={"Idempotency-Key": "k"})
        assert again.json() == first and again.headers["idempotent-replayed"] == "true"
        assert (await client.get(f"/stripe/v1/payment_intents/{first['id']}")).status_code == 429
        account = {"provider": "stripe", "secret_key": key, "webhook_url": receiver.url, "webhook_secret": "whsec_x"}
        assert (await client.post("/_sandbox/accounts", json=account)).status_code == 200
        assert (await receiver.take('"kept"'))[0].json["type"] == "payment_intent.succeeded"


async def start(command: list[str], url: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, cwd=ROOT)  # noqa: ASYNC220  a real process, to be killed

    async def up() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{url}/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(up, 15)
    return process


async def test_kill_nine_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = f"serve('127.0.0.1', {port}, Path({str(tmp_path / 'book')!r}), None)"
    code = f"from pathlib import Path; from sandbox.server import serve; {serve}"
    process = await start([sys.executable, "-c", code], url)
    answered: list[str] = []
    try:
        async with merchant_at(url, "stripe") as merchant:

            async def work(n: int) -> None:
                for i in range(1000):
                    try:
                        answer = await merchant.intent(reference=f"{n}-{i}", key=f"{n}-{i}", **VISA)
                    except httpx.TransportError:
                        return
                    assert answer.status_code == 200
                    answered.append(answer.json()["id"])

            workers = [asyncio.create_task(work(n)) for n in range(4)]
            await eventually(lambda: len(answered) > 30, 15)
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.gather(*workers)
            process.wait()
            process = await start([sys.executable, "-c", code], url)
            kept = {p["payment_id"] for p in (await merchant.ask("GET", "book"))["payments"]}
            assert set(answered) <= kept and len(kept) <= len(answered) + 4
    finally:
        process.kill()
        process.wait()


async def test_mail_sink(tmp_path: Path) -> None:
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "chama@example.test",
        "Ada <ada@example.test>",
        "Receipt – ₦5,000",
    )
    message["Message-ID"] = "<m-1@example.test>"
    message.set_content("Thank you, Ada.")
    message.add_alternative("<p>Thank you, <b>Ada</b>.</p>", subtype="html")

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as smtp:
            smtp.send_message(message)

    async with running_sandbox(tmp_path / "book.sqlite", smtp_port=0) as (url, app):
        await asyncio.to_thread(send, app.state.smtp_port)
        async with httpx.AsyncClient(base_url=url) as client:
            [mail] = (await client.get("/_sandbox/mail", params={"to": "ADA@example.test"})).json()
            assert (mail["from"], mail["to"], mail["subject"]) == (
                "chama@example.test",
                ["ada@example.test"],
                "Receipt – ₦5,000",
            )
            assert mail["text"].strip() == "Thank you, Ada." and "<b>Ada</b>" in mail["html"]
            assert mail["message_id"] == "<m-1@example.test>"
            assert (await client.get("/_sandbox/mail", params={"to": "eve@example.test"})).json() == []
