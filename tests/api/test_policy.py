"""Every endpoint names its action; the table decides (RELIABILITY E1)."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from api.auth import Principal
from api.dependencies import Allowed, public
from api.main import create_app
from api.operator import operator
from api.policy import POLICY, authorize, may_ask
from api.routing import StrictRoute
from contracts.base import Mode, Scope
from domain.errors import Forbidden, NotFound
from models.user import Role
from tests.fixtures.api import Edge, assert_problem, edge_settings, no_temporal

SCOPE = Scope(tenant_id=uuid4(), mode=Mode.TEST)


def calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def routes() -> list[APIRoute]:
    app = create_app(edge_settings("postgresql://x:y@127.0.0.1/z"), temporal=no_temporal)
    found = [context.original_route for context in iter_route_contexts(app.routes)]
    return [route for route in found if isinstance(route, APIRoute)]


def test_every_route_names_its_action_or_is_public() -> None:
    found = routes()
    assert len(found) >= 6
    named = set()
    for route in found:
        marks = [
            call for call in calls(route.dependant) if isinstance(call, Allowed) or call is public or call is operator
        ]
        assert len(marks) == 1, f"{route.methods} {route.path} names no action (or several)"
        assert isinstance(route, StrictRoute), f"{route.path} does not read its body strictly"
        if isinstance(marks[0], Allowed):
            named.add(marks[0].action)
    assert named == set(POLICY), "an action no endpoint names, or the other way round"


def test_only_these_routes_are_public() -> None:
    open_to_all = {route.path for route in routes() if any(call is public for call in calls(route.dependant))}
    assert open_to_all == {
        "/healthz",
        "/readyz",
        "/v1/auth/signup",
        "/v1/auth/login",
        "/v1/codec/login",
        "/v1/webhooks/payments",
        "/v1/webhooks/payments/{provider}/{endpoint_id}",
        "/webhooks/payment",
    }


def test_only_these_routes_are_the_operators() -> None:
    of_operator = {route.path for route in routes() if any(call is operator for call in calls(route.dependant))}
    assert of_operator == {"/v1/codec/decode", "/v1/codec/encode"}


@pytest.mark.parametrize("role", list(Role))
def test_self_means_oneself(role: Role) -> None:
    me = Principal("usr_1", role, SCOPE)
    authorize(me, "user.read_self", owner_id="usr_1")
    for other in ("usr_2", None, ""):
        with pytest.raises(NotFound):
            authorize(me, "user.read_self", owner_id=other)


def test_admin_things_are_for_admins() -> None:
    authorize(Principal("usr_1", Role.ADMIN, SCOPE), "outbox.list_stuck")
    for role in (Role.INVESTOR, Role.BUSINESS_OWNER, None):
        with pytest.raises(Forbidden):
            authorize(Principal("usr_1", role, SCOPE), "outbox.list_stuck", owner_id="usr_1")
    assert not may_ask(Role.INVESTOR, "outbox.list_stuck")


async def test_routes_with_an_action_refuse_strangers(edge: Edge) -> None:
    for route in routes():
        if any(isinstance(call, Allowed) for call in calls(route.dependant)):
            for method in route.methods:
                assert_problem(await edge.http.request(method, route.path), 401, "invalid_token")


def test_the_openapi_document_is_3_1_and_shows_problems_and_security() -> None:
    document = create_app(edge_settings("postgresql://x:y@127.0.0.1/z"), temporal=no_temporal).openapi()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["AccessToken"]["scheme"] == "bearer"
    signup = document["paths"]["/v1/auth/signup"]["post"]
    assert signup["responses"]["422"] == {"$ref": "#/components/responses/Problem"}
    problem = document["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
    assert problem["$ref"].endswith("/Problem")
    assert document["paths"]["/v1/users/me"]["get"]["security"] == [{"AccessToken": []}]
