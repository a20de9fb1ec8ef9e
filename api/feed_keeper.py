"""The keeper of the feed: scores campaigns whose money, news or time has moved, and watches their health. A task of the
relay process.

It looks every second, tenant by tenant, as the app role: the relay's own role only finds whose feed has something to do.
After a round it rests at least nine times as long as the round took, so it never takes more than a tenth of a processor
from the money. Any number may run; a tenant's feed is one keeper's at a time, and a crash leaves it for the next round.
"""

import asyncio
import contextlib

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from contracts.base import Scope
from infra.database import Database
from models import feed, health

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1
_REST = 9


async def run_feed_keeper(finder: Database, worker: Database, stop: asyncio.Event) -> None:
    """Keep every feed until `stop` is set. `finder` logs in as chama_relay, `worker` as chama_app; both are open."""
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        begun = clock()
        try:
            await keep(finder, worker)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("feed.database_down", exc_info=error)
        except Exception as error:
            log.error("feed.not_kept", exc_info=error)  # messages are delivered all the same
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(_POLL_SECONDS, _REST * (clock() - begun)))


async def keep(finder: Database, worker: Database) -> int:
    """One round over every tenant with something to do; how many campaigns were scored anew. A long queue is left for
    the next round, so that each tenant has its turn; what goes wrong with one is logged, and the others have theirs.

    Raises OperationalError and PoolTimeout where the database is away."""
    async with finder.transaction() as tx:
        scopes = await feed.at_work(tx)
    rescored = 0
    for scope in scopes:
        try:
            rescored += await _keep_one(worker, scope)
        except PoolTimeout:
            raise
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # no word from the server: the connection is gone
                raise
            log.warning("feed.tenant_not_kept", scope=str(scope), exc_info=error)
        except Exception as error:
            log.error("feed.tenant_not_kept", scope=str(scope), exc_info=error)
    return rescored


async def _keep_one(worker: Database, scope: Scope) -> int:
    """One tenant's turn; how many of its campaigns were scored anew."""
    async with worker.transaction(scope) as tx:
        done = await feed.refresh(tx)
        if done is None:
            return 0
        await health.watch(tx, scope, done.ids)
    return done.rescored
