"""No text of any request takes a card number (RELIABILITY F8). The list of requests is the API's own."""

from collections.abc import Iterator
from typing import Any

import httpx
from pydantic import SecretStr

from api.main import create_app
from cli.seed import admin_password
from domain.cards import holds_card_number
from tests.fixtures.api import assert_problem, edge_settings, no_temporal

CARDS = ("4242424242424242", "5555 5555 5555 4444", "3782-822463-10005")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, schema) of every operation that takes JSON."""
    for path, verbs in document["paths"].items():
        for method, operation in verbs.items():
            content = operation.get("requestBody", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref")
            if reference is not None:  # a webhook's body is the provider's own
                yield method, path, document["components"]["schemas"][reference.rpartition("/")[2]]


async def test_every_field_of_every_request_refuses_card_numbers() -> None:
    app = create_app(edge_settings("postgresql://x:y@127.0.0.1/z"), temporal=no_temporal)
    tried = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chama.test") as http:
        for method, path, schema in operations(app.openapi()):
            for field in schema["properties"]:
                for value in (CARDS[0], f"my card: {CARDS[1]}.", [CARDS[2]], {"deep": CARDS[0]}):
                    answer = await http.request(method, path, json={field: value})
                    body = assert_problem(answer, 422, "card_number")
                    assert not any(card in str(body) for card in CARDS)
                tried.append(f"{path}: {field}")
    assert {
        "/v1/auth/signup: name",
        "/v1/campaigns: description",
        "/v1/campaigns/{campaign_id}/invest: return_url",
    } <= {*tried}


async def test_an_id_with_a_card_number_among_its_digits_can_be_named() -> None:
    """One id in two thousand has one by chance; refused, its owner could neither invest nor be paid."""
    app = create_app(edge_settings("postgresql://x:y@127.0.0.1/z"), temporal=no_temporal)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://chama.test") as http:
        for beneficiary in ("ben_4884427761625f14bbb3b811757e87a9", "ben_aaaa4242424242424242bbbbbbbbbbbb"):
            answer = await http.post("/v1/payouts", json={"beneficiary_id": beneficiary})
            assert_problem(answer, 401, "invalid_token")  # past the reading of the body


def test_the_demo_administrator_can_always_log_in() -> None:
    """The derived password is a text of a request too."""
    settings = edge_settings("postgresql://x:y@127.0.0.1/z").model_copy(
        update={"vault_key": SecretStr("a key, always the same")}
    )
    passwords = [admin_password(settings, f"t-{number}") for number in range(20_000)]
    assert not any(map(holds_card_number, passwords))
    assert len(set(passwords)) == 20_000
    assert any(not set(each) & set("0123456789") for each in passwords)
