"""The HTTP application: assembles what the other modules define, and nothing else.

It starts, and accepts commands, while Temporal is down; Postgres may come up after it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI
from temporalio.client import Client

from api import errors, openapi
from api.auth import Passwords, Tokens
from api.feed_known import KnownPages, Questions, Stamps
from api.limits import Limits
from api.operator import CodecCors, OperatorDesk
from api.routes import (
    admin_outbox,
    auth,
    beneficiaries,
    campaign_life,
    campaigns,
    clock,
    codec,
    covers,
    dashboards,
    distributions,
    feed,
    health,
    holders,
    investments,
    ledger,
    milestones,
    operations,
    payments,
    payouts,
    people,
    progress,
    statements,
    stuck,
    warnings,
    webhooks,
)
from api.streams import Streams
from infra import logging
from infra.crypto import EncryptionCodec, Vault, token_key
from infra.database import Database, Tx
from infra.delivery import ClientFactory, TemporalLink
from infra.outgoing import http_client
from infra.settings import Settings
from models.clock import business_now

ROUTERS = (  # tried in this order: what is asked most often comes first
    feed.router,
    auth.router,
    investments.router,
    campaigns.router,
    payments.router,
    ledger.router,
    health.router,
    webhooks.router,
    clock.router,
    operations.router,
    admin_outbox.router,
    codec.router,
    stuck.router,
    campaign_life.router,
    people.router,
    statements.router,
    dashboards.router,
    distributions.router,
    holders.router,
    progress.router,
    covers.router,
    warnings.router,
    beneficiaries.router,
    payouts.router,
    milestones.router,
)

DESCRIPTION = """
Community finance on durable workflows. Amounts are integers of minor units. Every POST that moves or promises money
takes an `Idempotency-Key`; a repeat answers as the first did. Errors are RFC 9457 problems with a stable `code`.
"""


def create_app(
    settings: Settings | None = None,
    *,
    database: Database | None = None,
    temporal: ClientFactory | None = None,
    business_now: Callable[[Tx], Awaitable[datetime]] = business_now,
) -> FastAPI:
    """The application. Without arguments it reads the environment (uvicorn's factory mode).

    `database` replaces the app role's pool (it is opened here), `temporal` the connection to Temporal, `business_now`
    the clock commands read. Raises infra.crypto.CryptoError when a key is missing, or the operator token unfit.
    """
    settings = settings or Settings()
    logging.configure(settings.log_level)
    app = FastAPI(
        title="Chama",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings = settings
    app.state.database = database or Database(settings.app_url, name="api", max_size=settings.database_pool_max)
    app.state.streams = Streams(app.state.database, most=settings.streams_max)
    app.state.feed_stamps, app.state.feed_questions = Stamps(app.state.database), Questions()
    app.state.auth_database = Database(settings.role_url("chama_auth"), name="api auth", max_size=4)
    app.state.temporal = TemporalLink(temporal or (lambda: _connect(settings)))
    app.state.tokens = Tokens(token_key(settings), settings.token_seconds)
    app.state.operator = OperatorDesk(settings, token_key(settings))
    app.state.passwords = Passwords(settings)
    app.state.vault = Vault.from_settings(settings)
    EncryptionCodec.from_settings(settings)  # needed at the first delivery: its absence must be seen now
    app.state.http = http_client()
    app.state.business_now = business_now
    errors.install(app)
    app.add_middleware(CodecCors, origin=app.state.operator.origin)
    app.add_middleware(
        KnownPages,
        tokens=app.state.tokens,
        stamps=app.state.feed_stamps,
        questions=app.state.feed_questions,
    )
    app.add_middleware(
        Limits,
        body_max=settings.max_body_bytes,
        body_seconds=settings.body_seconds,
        https=settings.public_url.startswith("https://"),
    )
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app)
    return app


async def _connect(settings: Settings) -> Client:
    from infra.temporal import connect

    return await connect(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the pools (they connect in the background) and close them."""
    await app.state.database.open()
    await app.state.auth_database.open()
    try:
        yield
    finally:
        await app.state.streams.close()
        await app.state.database.close()
        await app.state.auth_database.close()
        await app.state.http.aclose()
