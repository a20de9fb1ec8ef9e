"""Both rails over one scripted provider. A request outside the published contract fails the test that made it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from activities.gateways.paystack import PaystackRail
from activities.gateways.paystack_transfers import PaystackTransfers
from activities.gateways.stripe import StripeRail
from sandbox.server import create_app, server_config
from tests.gateways.contract import Contract
from tests.gateways.provider import ScriptedProvider, scripted_provider, serve_config


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    app = create_app(tmp_path_factory.mktemp("conformance") / "book.sqlite", smtp_port=None)
    async with serve_config(server_config(app, "127.0.0.1", 0)) as url:
        yield url


@pytest.fixture(scope="session")
def stripe_contract() -> Contract:
    return Contract("stripe.openapi.json")


@pytest.fixture(scope="session")
def paystack_contract() -> Contract:
    return Contract("paystack.openapi.json")


@pytest.fixture
def stripe_api(server: ScriptedProvider, stripe_contract: Contract) -> Iterator[ScriptedProvider]:
    server.reset(stripe_contract)
    yield server
    assert not server.violations
    assert not server.replies, "a scripted answer was never asked for"


@pytest.fixture
def paystack_api(server: ScriptedProvider, paystack_contract: Contract) -> Iterator[ScriptedProvider]:
    server.reset(paystack_contract)
    yield server
    assert not server.violations
    assert not server.replies, "a scripted answer was never asked for"


@pytest.fixture
def stripe(client: httpx.AsyncClient, stripe_api: ScriptedProvider) -> StripeRail:
    return StripeRail(client, stripe_api.url, "sk_test_1", "whsec_1", timeout_seconds=5)


@pytest.fixture
def paystack(client: httpx.AsyncClient, paystack_api: ScriptedProvider) -> PaystackRail:
    return PaystackRail(client, paystack_api.url, "sk_test_1", timeout_seconds=5)


@pytest.fixture
def transfers(client: httpx.AsyncClient, paystack_api: ScriptedProvider) -> PaystackTransfers:
    return PaystackTransfers(client, paystack_api.url, "sk_test_1", timeout_seconds=5)
