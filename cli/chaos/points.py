"""Fault points: where a worker dies on purpose, just before or just after something takes effect (RELIABILITY B1, §1a).

    activity:<name>:before|after       around the body of one activity; after = done, and the result is lost
    commit:<n>:before|after            around the n-th commit since the worker began; before = rolled back
    provider:<operation>:before|after  around one exchange with a provider; after = answered, and the answer is lost

A point is reached in the ordinary worker's own code, which knows nothing of it: the strikes sit in a worker interceptor,
in a `Database` and in an HTTP transport that only this harness builds. What a strike does is the harness's choice: raise
`Struck` (*crash in process*: the activity fails as if its worker had died, and Temporal retries it under its policy) or
kill the process (see `cli.chaos.crashing_worker`).
"""

import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

import httpx
from temporalio import activity
from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

import worker as assembly
from contracts.base import Scope
from infra.database import Database, Tx
from infra.outgoing import http_client
from infra.settings import Settings
from infra.temporal import plugin


class Kind(StrEnum):
    """What a point lies around."""

    ACTIVITY = "activity"
    COMMIT = "commit"
    PROVIDER = "provider"


class Moment(StrEnum):
    """On which side of it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, order=True)
class Point:
    """One place to strike."""

    kind: Kind
    name: str
    moment: Moment

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{self.moment}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The point of that name. Raises ValueError with a sentence when there can be none."""
        kind, _, rest = text.partition(":")
        name, _, moment = rest.rpartition(":")
        if kind not in [*Kind] or moment not in [*Moment] or not name:
            raise ValueError(f"{text!r} is no fault point: kind:name:before|after, with a kind of {', '.join(Kind)}")
        return cls(Kind(kind), name, Moment(moment))


class Struck(Exception):
    """The in-process death of an activity. No code of the product knows it, so none can handle it."""


def crash(point: Point) -> None:
    """The strike in process: everything the activity held is lost, and Temporal is told of a failure."""
    raise Struck(str(point))


class Strikes:
    """Which points are armed, and how often each has been struck.

    Each armed point strikes `times` times per subject: per workflow for an activity, once and for all for the others.
    """

    def __init__(self, points: Iterable[Point], strike: Callable[[Point], None] = crash, *, times: int = 1) -> None:
        self.points = tuple(dict.fromkeys(points))
        self.struck: Counter[Point] = Counter()
        self._strike, self._times = strike, times
        self._by_subject: Counter[tuple[Point, str]] = Counter()

    def reach(self, kind: Kind, name: str, moment: Moment, subject: str = "") -> None:
        """The code has come to this point: strike, or let it pass."""
        point = Point(kind, name, moment)
        if point not in self.points or self._by_subject[point, subject] >= self._times:
            return
        self._by_subject[point, subject] += 1
        self.struck[point] += 1
        self._strike(point)

    @property
    def missed(self) -> list[Point]:
        """Armed points that were never reached: no story drives them."""
        return [point for point in self.points if not self.struck[point]]


class ActivityStrikes(Interceptor):
    """Strikes around every activity's body."""

    def __init__(self, strikes: Strikes) -> None:
        self._strikes = strikes

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap every activity."""
        return _Body(next, self._strikes)


class _Body(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, strikes: Strikes) -> None:
        super().__init__(next)
        self._strikes = strikes

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        where = (Kind.ACTIVITY, info.activity_type)
        self._strikes.reach(*where, Moment.BEFORE, info.workflow_id or "")
        result = await super().execute_activity(input)
        self._strikes.reach(*where, Moment.AFTER, info.workflow_id or "")
        return result


class StrikingDatabase(Database):
    """Strikes around every commit, counted from one."""

    def __init__(self, strikes: Strikes, url: str, *, name: str, max_size: int = 10) -> None:
        super().__init__(url, name=name, max_size=max_size)
        self._strikes, self._numbers = strikes, itertools.count(1)

    @asynccontextmanager
    async def transaction(self, scope: Scope | None = None) -> AsyncIterator[Tx]:
        """As `Database.transaction`; before = everything is rolled back, after = everything stands."""
        async with super().transaction(scope) as tx:
            yield tx
            number = str(next(self._numbers))
            self._strikes.reach(Kind.COMMIT, number, Moment.BEFORE)
        self._strikes.reach(Kind.COMMIT, number, Moment.AFTER)


_OPERATIONS: Final = {
    ("POST", r"/v1/payment_intents"): "stripe.create",
    ("GET", r"/v1/payment_intents"): "stripe.list",
    ("GET", r"/v1/payment_intents/search"): "stripe.search",
    ("GET", r"/v1/payment_intents/[^/]+"): "stripe.get",
    ("POST", r"/v1/payment_intents/[^/]+/capture"): "stripe.capture",
    ("POST", r"/v1/payment_intents/[^/]+/cancel"): "stripe.cancel",
    ("POST", r"/v1/customers"): "stripe.customer",
    ("POST", r"/v1/refunds"): "stripe.refund",
    ("GET", r"/v1/refunds"): "stripe.list_refunds",
    ("GET", r"/v1/refunds/[^/]+"): "stripe.get_refund",
    ("POST", r"/transaction/initialize"): "paystack.initialize",
    ("POST", r"/transaction/charge_authorization"): "paystack.charge",
    ("GET", r"/transaction/verify/[^/]+"): "paystack.verify",
    ("GET", r"/transaction"): "paystack.list",
    ("POST", r"/refund"): "paystack.refund",
    ("GET", r"/refund"): "paystack.list_refunds",
    ("GET", r"/refund/[^/]+"): "paystack.get_refund",
    ("GET", r"/bank/resolve"): "paystack.resolve",
    ("POST", r"/transferrecipient"): "paystack.recipient",
    ("POST", r"/transfer"): "paystack.transfer",
    ("GET", r"/transfer/verify/[^/]+"): "paystack.verify_transfer",
    ("GET", r"/transfer/[^/]+"): "paystack.get_transfer",
    ("GET", r"/transfer"): "paystack.list_transfers",
    ("GET", r"/balance"): "paystack.balance",
}
"""Method and end of path → the operation, by the names the sandbox has for its faults."""
OPERATIONS: Final = tuple(sorted(_OPERATIONS.values()))


def operation_of(method: str, path: str) -> str | None:
    """The operation a request is; None for what is no call to a provider (the test clock)."""
    found = [name for (verb, end), name in _OPERATIONS.items() if verb == method and re.fullmatch(rf"/\w+{end}", path)]
    return found[0] if found else None


class StrikingTransport(httpx.AsyncBaseTransport):
    """Strikes around every exchange with a provider, below the adapter: before the request, after the reply."""

    def __init__(self, strikes: Strikes) -> None:
        self._strikes, self._inner = strikes, httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; after = the provider has done it and answered, so a refusal has no after."""
        operation = operation_of(request.method, request.url.path)
        if operation is not None:
            self._strikes.reach(Kind.PROVIDER, operation, Moment.BEFORE)
        response = await self._inner.handle_async_request(request)
        if operation is not None and response.is_success:
            try:
                self._strikes.reach(Kind.PROVIDER, operation, Moment.AFTER)
            except Struck:
                await response.aclose()
                raise
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


@asynccontextmanager
async def struck_worker(settings: Settings, strikes: Strikes) -> AsyncIterator[None]:
    """The ordinary worker of `worker.py`, running in this process, with the strikes around what it does."""
    db = StrikingDatabase(strikes, settings.app_url, name="chama-worker", max_size=settings.database_pool_max)
    await db.open()
    try:
        async with http_client(transport=StrikingTransport(strikes)) as http:
            client = await Client.connect(
                settings.temporal_address,
                namespace=settings.temporal_namespace,
                plugins=[plugin(settings), SimplePlugin("fault points", interceptors=[ActivityStrikes(strikes)])],
            )
            async with assembly.build_worker(settings, client, db, http):
                yield
    finally:
        await db.close()


async def registered(settings: Settings) -> list[str]:
    """The names of every activity the worker registers, from its own registry. Connects to Temporal, runs nothing."""
    client = await Client.connect(
        settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin(settings)]
    )
    async with http_client() as http:
        return activity_names(assembly.activities(settings, Database(settings.app_url, name="names"), http, client))


def activity_names(bound: Iterable[Callable[..., Any]]) -> list[str]:
    """The registered names of activity functions, sorted."""
    return sorted(activity._Definition.must_from_callable(each).name or "" for each in bound)


def both(kind: Kind, names: Iterable[str]) -> list[Point]:
    """Every one of `names`, before and after."""
    return [Point(kind, name, moment) for name in names for moment in Moment]
