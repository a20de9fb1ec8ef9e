"""Reads in one round trip: the caller's role, read anew for each request, and the document come with the same statement.

@router.get("/investments", response_model=Envelope[list[InvestmentView]])
async def list_investments(reader: Annotated[Reader, reads("investment.read")], limit: Limit = 50) -> Response:
    return await reader.page(lambda who: pages.investments(…), limit)

What is asked may depend on the role. The token says which role to expect; where the row says otherwise, the question is
asked again for the role it really is, so that a changed role counts at once and the usual read stays one trip.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import Depends, Security
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from starlette.requests import Request
from starlette.responses import Response

from api.auth import InvalidToken, Principal, Tokens
from api.dependencies import BEARER, Allowed
from api.envelope import document, encode_cursor
from api.policy import authorize, may_ask
from domain.errors import Forbidden, NotFound
from infra.database import Database
from models import pages
from models.user import Role, active_role

_REMEMBERED: Final = 512
_REMEMBERED_BYTES: Final = 256
"""So many queries, each at most so long, are remembered for each kind of read."""
Questions = Callable[[Principal], pages.Question]
"""What to ask for somebody of that role."""


class Answered(Protocol):
    """An answer that says which role its caller has now."""

    @property
    def role(self) -> Role:
        """It."""
        ...


A = TypeVar("A", bound=Answered)


def owner_seen(principal: Principal) -> str | None:
    """Whose things a list shows: one's own, or everybody's (None) to an admin."""
    return None if principal.role is Role.ADMIN else principal.user_id


class Reader:
    """The caller as the token names him, and his one question. The role is checked when the answer is there."""

    def __init__(self, request: Request, action: str, claimed: Principal) -> None:
        self.request, self._action, self._claimed = request, action, claimed
        self.database: Database = request.app.state.database

    async def one(self, question: Questions) -> Response:
        """One thing. Raises InvalidToken, Forbidden, and NotFound for what is not there or not the caller's to see."""
        principal, answer = await self._ask(question)
        if answer.document is None:
            raise NotFound(self._action.partition(".")[0])
        authorize(principal, self._action, owner_id=answer.owner_id)
        return document(self.request, answer.document)

    async def page(self, question: Questions, limit: int) -> Response:
        """A newest-first page of `limit` rows, with the cursor of the next. Raises InvalidToken or Forbidden."""
        _, answer = await self._ask(question)
        rows = answer.document or ""
        more = None
        if answer.rows == limit:
            last = json.loads(rows.rpartition(pages.SEPARATOR)[2])
            more = encode_cursor(last["created_at"], last["id"])
        return document(self.request, f"[{rows}]", next_cursor=more)

    async def principal(self) -> Principal:
        """The caller with the role he has now. Raises InvalidToken or Forbidden."""
        role = await active_role(self.database, self._claimed.scope, self._claimed.user_id)
        if role is None:
            raise InvalidToken
        if not may_ask(role, self._action):
            raise Forbidden("forbidden", "Your role does not allow this.")
        return replace(self._claimed, role=role)

    async def asked(self, ask: Callable[[Principal], Awaitable[A | None]]) -> tuple[Principal, A]:
        """What `ask` answers to the caller with the role he has now. Raises InvalidToken or Forbidden."""
        expected = self._claimed
        if expected.role is not None and may_ask(expected.role, self._action):
            answer = await ask(expected)
            if answer is None:
                raise InvalidToken
            if answer.role is expected.role:
                return expected, answer
        principal = await self.principal()
        answer = await ask(principal)
        if answer is None:
            raise InvalidToken
        return principal, answer

    async def _ask(self, question: Questions) -> tuple[Principal, pages.Answer]:
        return await self.asked(lambda who: pages.ask(self.database, who.scope, who.user_id, question(who)))


class Reads(Allowed):
    """The dependency of a read: checks the token, and leaves the role to the question's answer.

    `strict`: a query parameter that the endpoint does not name, or that is given twice, is refused.
    """

    def __init__(self, action: str, *, strict: bool = False) -> None:
        super().__init__(action)
        self.strict = strict

    async def __call__(  # type: ignore[override]
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
    ) -> Reader:
        """The reader. Raises InvalidToken."""
        if credentials is None:
            raise InvalidToken
        tokens: Tokens = request.app.state.tokens
        return Reader(request, self.action, tokens.check(credentials.credentials))


def reads(action: str, *, strict: bool = False) -> Any:
    """The dependency that reads as a caller whose role has `action`; `strict`: unknown parameters are refused."""
    return Depends(Reads(action, strict=strict))


def _unfit(given: list[str], known: frozenset[str]) -> list[dict[str, Any]]:
    """What is wrong with the names of the parameters. Input is never echoed: an unknown one is not named."""
    unknown = {"type": "extra_forbidden", "loc": ("query", ""), "msg": ""}
    twice = sorted(name for name in known if given.count(name) > 1)
    return [unknown] * (not known.issuperset(given)) + [
        {"type": "given_twice", "loc": ("query", name), "msg": "Give it once."} for name in twice
    ]


def read_handler(route: APIRoute) -> Callable[[Request], Coroutine[Any, Any, Response]] | None:
    """How a route with `reads(…)` answers, without the general machinery for dependencies: it costs more than the read.

    The same steps in the same order: the token, the parameters by FastAPI's own fields, the endpoint. None for a route
    that reads in another way.
    """
    found = [each for each in route.dependant.dependencies if isinstance(each.call, Reads)]
    if not found:
        return None
    (needed,) = found
    assert len(route.dependant.dependencies) == 1 and route.body_field is None, "a read has no other needs"
    name, reads_as, endpoint = needed.name or "", needed.call, route.dependant.call
    path, query = route.dependant.path_params, route.dependant.query_params
    needed_query = [each for each in query if each.field_info.is_required()]
    assert isinstance(reads_as, Reads) and endpoint is not None
    strict, names = reads_as.strict, frozenset(each.alias for each in query)
    understood: dict[bytes, dict[str, Any]] = {}

    def asked(request: Request) -> tuple[dict[str, Any], list[Any]]:
        """The query's values, and what is wrong with it. The same query means the same: most are asked again and again."""
        raw: bytes = request.scope["query_string"]
        if (values := understood.get(raw)) is not None:
            return values, []
        # What is not asked for is left to the endpoint's own defaults.
        fields = [each for each in query if each.alias in request.query_params or each in needed_query]
        values, wrong = request_params_to_args(fields, request.query_params)
        if strict:
            wrong = [*wrong, *_unfit([each for each, _ in request.query_params.multi_items()], names)]
        if not wrong and len(raw) <= _REMEMBERED_BYTES:
            if len(understood) >= _REMEMBERED:
                understood.clear()
            understood[raw] = values
        return values, wrong

    async def answer(request: Request) -> Response:
        reader = await reads_as(request, await BEARER(request))
        given, errors = request_params_to_args(path, request.path_params) if path else ({}, [])
        if needed_query or request.scope["query_string"]:
            values, wrong = asked(request)
            given |= values
            errors = [*errors, *wrong]
        if errors:
            await reader.principal()  # who may not ask is not told what was wrong with the question
            raise RequestValidationError(errors)
        response: Response = await endpoint(**{name: reader}, **given)
        return response

    return answer
