"""The bodies of `chama api`, `chama relay`, `chama worker` and `chama sandbox`: one process each.

`hold` is for the supervisor: import everything, then wait for a line on standard input before serving, so that the
imports overlap with Postgres and Temporal coming up.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from infra.settings import Settings


def api(*, hold: bool) -> None:
    """Serve HTTP until SIGTERM; requests under way are finished first."""
    with _lasting():
        import uvicorn
        from uvicorn.config import STARTUP_FAILURE

        from api.main import create_app

    _wait_if(hold)
    settings = Settings()
    with _lasting():
        app = create_app(settings)
    streams = app.state.streams

    class Server(uvicorn.Server):
        """Ends the streams when asked to end: it would wait for them, as for any request."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            streams.stop()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,  # the application writes its own, with the request id
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here asks for the client's address or scheme
        timeout_graceful_shutdown=8,
    )
    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def worker(*, hold: bool) -> None:
    """Run workflows and activities until SIGTERM."""
    with _lasting():
        import worker as assembly

    _wait_if(hold)
    assembly.main()


def relay(*, hold: bool) -> None:
    """Deliver the outbox, build the hash chains, keep the feed and watch for what is stuck, until SIGTERM."""
    with _lasting():
        from api.chainer import run_chainer
        from api.feed_keeper import run_feed_keeper
        from api.relay import run_relay
        from api.watch import metrics_served, run_watch
        from infra import logging
        from infra.anchors import AnchorFile
        from infra.database import Database
        from infra.temporal import connect

    settings = Settings()
    logging.configure(settings.log_level)
    _wait_if(hold)

    async def run() -> None:
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, stop.set)
        client = partial(connect, settings)
        anchors = AnchorFile(Path(settings.anchor_file)) if settings.anchor_file else None
        async with contextlib.AsyncExitStack() as opened:

            async def as_role(role: str, size: int) -> Database:
                database = Database(settings.role_url(f"chama_{role}"), name=f"chama-{role}", max_size=size)
                opened.push_async_callback(database.close)
                await database.open()
                return database

            outbox, chained = await as_role("relay", 4), await as_role("chain", 1)
            # Reads every tenant, changes nothing: what is stuck is found in tables the relay's own role does not see.
            reader = await as_role("audit", 1)
            feeds = await as_role("app", 1)
            opened.enter_context(metrics_served(settings.metrics_host, settings.metrics_port))
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(run_watch(reader, client))
                tasks.create_task(run_chainer(chained, anchors, stop, anchor_seconds=settings.anchor_seconds))
                tasks.create_task(run_feed_keeper(outbox, feeds, stop))
                await run_relay(outbox, client, stop)
                watch.cancel()

    asyncio.run(run())


def sandbox(host: str, port: int, book: Path, smtp_port: int | None) -> None:
    """Serve the providers' simulators until SIGTERM."""
    with _lasting():
        from sandbox.server import serve

    serve(host, port, book, smtp_port)


@contextlib.contextmanager
def _lasting() -> Iterator[None]:
    """What is made in here lasts as long as the process: the collector looks at it neither now nor while it serves."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _wait_if(hold: bool) -> None:
    """Wait for the supervisor's word; leave quietly when it is gone before it came."""
    if hold and not sys.stdin.readline():
        # No clean-up to do, and imported libraries' exit handlers have nothing to wait for.
        os._exit(0)
