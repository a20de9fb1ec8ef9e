"""What each failure of the wire proves, for both rails: the difference between "nothing happened" and "we do not know"."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
import structlog

from activities.gateways.protocols import PaymentRail, RailNotSent, RailRejected, RailUnknown
from activities.gateways.registry import RAILS, RailAccount, build_rail
from tests.fixtures.postgres import free_port
from tests.gateways.samples import REFERENCE, order

KEY = "sk_test_do_not_log_me"


def rail(provider: str, client: httpx.AsyncClient, base_url: str, timeout_seconds: float = 2.0) -> PaymentRail:
    account = RailAccount.model_validate({"provider": provider, "base_url": base_url, "secret_key": KEY})
    return build_rail(account, client, timeout_seconds=timeout_seconds)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(handle: Handler) -> AsyncIterator[str]:
    """A TCP peer that reads one request and then does what the test says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.split(b":")[1]))
            await handle(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def says(status: str, body: bytes, *headers: str) -> Handler:
    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return handle


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def cut_short(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"id":')
    await writer.drain()


async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n")
    while not reader.at_eof():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def not_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    await writer.drain()


FAILURES: dict[str, tuple[Handler, str]] = {
    "hang": (hang, "timeout"),
    "dribble": (dribble, "timeout"),
    "reset": (reset, "connection_lost"),
    "cut short": (cut_short, "connection_lost"),
    "not http": (not_http, "connection_lost"),
    "500": (says("500 Oops", b'{"error":{"type":"api_error"}}'), "server_error"),
    "503": (says("503 Busy", b"<html>"), "server_error"),
    "408": (says("408 Slow", b"{}"), "server_error"),
    "malformed": (says("200 OK", b'{"id": "pi_1", '), "unreadable_answer"),
    "not an object": (says("200 OK", b"[]"), "unreadable_answer"),
    "empty": (says("200 OK", b""), "unreadable_answer"),
    "html": (says("200 OK", b"<html>maintenance</html>"), "unreadable_answer"),
    "html refusal": (says("403 No", b"<html>firewall</html>"), "unreadable_answer"),
    "absurd nesting": (says("200 OK", b'{"a":' * 100_000), "unreadable_answer"),
    "too large": (says("200 OK", b'{"a":"' + b"x" * 5_000_000 + b'"}'), "unreadable_answer"),
    "redirect": (says("302 Found", b"{}", "Location: http://127.0.0.1:9/elsewhere"), "unexpected_status"),
}


@pytest.fixture(params=sorted(RAILS))
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("failure", FAILURES)
async def test_after_sending_an_effect_is_unknown_and_a_question_is_not(
    provider: str, client: httpx.AsyncClient, failure: str
) -> None:
    handle, code = FAILURES[failure]
    async with raw_server(handle) as url:
        # Half of the limit is for connecting, which on a busy machine can take its time even here.
        subject = rail(provider, client, url, timeout_seconds=1.5 if code == "timeout" else 5.0)
        effect, question = await asyncio.gather(
            subject.start(order()), subject.look_up(reference=REFERENCE, provider_id=None), return_exceptions=True
        )
    assert isinstance(effect, RailUnknown) and effect.code == code, effect
    assert isinstance(question, RailNotSent) and question.code == code, question


async def test_no_connection_means_nothing_was_sent(provider: str, client: httpx.AsyncClient) -> None:
    subject = rail(provider, client, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RailNotSent, match="connect_failed"):
        await subject.start(order())


async def test_no_free_connection_means_nothing_was_sent(provider: str) -> None:
    async with raw_server(hang) as url, httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as narrow:
        slow = asyncio.create_task(rail(provider, narrow, url, 3.0).look_up(reference=REFERENCE, provider_id=None))
        await asyncio.sleep(0.1)
        with pytest.raises(RailNotSent, match="connect_failed"):
            await rail(provider, narrow, url, 0.4).start(order())
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("Retry-After: 7", timedelta(seconds=7)),
        ("Retry-After: 99999999", timedelta(hours=1)),
        ("Retry-After: soon", None),
        ("X-Nothing: 1", None),
    ],
)
async def test_throttled_means_nothing_was_done(
    provider: str, client: httpx.AsyncClient, header: str, wait: timedelta | None
) -> None:
    async with raw_server(says("429 Slow down", b"<html>", header)) as url:
        with pytest.raises(RailNotSent, match="rate_limited") as throttled:
            await rail(provider, client, url).start(order())
    assert throttled.value.retry_after == wait


@pytest.mark.parametrize("key", ["", "sk test", "sk\r\nX-Evil: 1", "schlüssel"])
async def test_a_key_that_cannot_be_one_is_never_sent(provider: str, client: httpx.AsyncClient, key: str) -> None:
    account = RailAccount.model_validate({"provider": provider, "base_url": "http://127.0.0.1:1", "secret_key": key})
    with pytest.raises(RailRejected, match="not_configured"):
        await build_rail(account, client).start(order())
    with pytest.raises(RailNotSent, match="not_configured"):
        await build_rail(account, client).look_up(reference=REFERENCE, provider_id=None)


async def test_a_refused_question_never_fails_a_payment(provider: str, client: httpx.AsyncClient) -> None:
    body = b'{"status":false,"message":"Invalid key","error":{"type":"invalid_request_error"}}'
    async with raw_server(says("401 Who", body)) as url:
        with pytest.raises(RailNotSent, match="unauthorized"):
            await rail(provider, client, url).look_up(reference=REFERENCE, provider_id=None)
        with pytest.raises(RailRejected, match="unauthorized"):
            await rail(provider, client, url).start(order())


async def test_failures_are_logged_without_key_or_person(
    provider: str, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another test may have bound the logger already, or configured one that is silent.
    loud = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr("activities.gateways.http._log", loud)
    body = f'{{"error":{{"type":"x","message":"{KEY} ada@example.test"}}}}'.encode()
    async with raw_server(says("500 Oops", body)) as url:
        with structlog.testing.capture_logs() as logs, pytest.raises(RailUnknown) as unknown:
            await rail(provider, client, url).start(order())
    [entry] = logs
    assert (entry["event"], entry["rail"], entry["code"]) == ("rail_exchange_failed", provider, "server_error")
    for text in (str(logs), str(unknown.value), repr(unknown.value)):
        assert KEY not in text
        assert "ada@" not in text


async def test_cookies_do_not_travel_between_accounts(provider: str) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says("500 Oops", b"{}", "Set-Cookie: session=of-the-first-account; Path=/")(reader, writer)

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(watch, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient() as shared:
        for _ in range(2):
            with pytest.raises(RailNotSent):
                await rail(provider, shared, url).look_up(reference=REFERENCE, provider_id=None)
    server.close()
    assert len(seen) == 2
    assert b"cookie" not in seen[1].lower()


def test_secrets_print_as_stars(provider: str) -> None:
    account = RailAccount.model_validate({"provider": provider, "secret_key": KEY, "webhook_secret": KEY})
    assert KEY not in repr(account)


def test_an_unknown_provider_is_named(client: httpx.AsyncClient) -> None:
    with pytest.raises(ValueError, match="no payment rail named 'adyen'"):
        build_rail(RailAccount.model_validate({"provider": "adyen", "secret_key": KEY}), client)
