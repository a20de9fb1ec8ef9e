"""The provider sandbox as one server: `create_app` for tests, `serve` for the command line.

    <url>/stripe      base URL for a Stripe adapter        <url>/_sandbox    control (see control.py)
    <url>/paystack    base URL for a Paystack adapter      <url>/            what is in the book

State lives in the book file alone; a server started on the same file goes on where the last one was killed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox import checkout, clock, control, paystack, paystack_transfers, stripe
from sandbox.book import Book
from sandbox.exchange import Desk
from sandbox.mail import MailSink
from sandbox.webhooks import Courier


def create_app(book_path: Path, *, smtp_port: int | None, smtp_host: str = "127.0.0.1") -> Starlette:
    """The application. `smtp_port` None: no mail sink; 0: a free port, found at `app.state.smtp_port` once started."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        book = Book(book_path)
        book.open()
        courier = Courier(book)
        app.state.desk = Desk(book, courier)
        sink = MailSink(book, smtp_host, smtp_port) if smtp_port is not None else None
        if sink is not None:
            await sink.start()
            app.state.smtp_port = sink.port
        courier.start()
        ticker = asyncio.create_task(clock.tick_for_ever(book, courier.wake), name="sandbox-clock")
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
            await courier.stop()
            if sink is not None:
                await sink.stop()
            await book.close()

    routes = [*control.routes, *stripe.routes, *paystack.routes, *paystack_transfers.routes, *checkout.routes]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: _no_such_url, 405: _no_such_url})
    app.state.smtp_port = None
    return app


async def _no_such_url(request: Request, error: Exception) -> Response:
    """An unknown URL, in the words of the provider whose URL it would be."""
    path = request.url.path
    if path.startswith("/stripe/"):
        message = f"Unrecognized request URL ({request.method}: {path.removeprefix('/stripe')})."
        return JSONResponse({"error": {"type": "invalid_request_error", "message": message}}, 404)
    if path.startswith("/paystack/"):
        return JSONResponse({"status": False, "message": "The requested endpoint does not exist"}, 404)
    return JSONResponse({"error": "no such URL"}, 404)


class HangUpProtocol(HttpToolsProtocol):
    """Lets a response close its connection without a word (faults hang_* and reset_after)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the transport where `exchange.HangUp` finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def server_config(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """How this application wants to be served; port 0 takes a free one."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=HangUpProtocol,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def serve(host: str, port: int, book_path: Path, smtp_port: int | None) -> None:
    """Serve until told to stop (SIGINT, SIGTERM)."""
    app = create_app(book_path, smtp_port=smtp_port, smtp_host=host)
    uvicorn.Server(server_config(app, host, port)).run()
