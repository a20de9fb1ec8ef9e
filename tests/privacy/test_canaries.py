"""One person's data and every secret through everything there is, and then looked for (RELIABILITY D10, F4, F7, F8)."""

from datetime import timedelta
from typing import Any, Final

import httpx
import psycopg
from temporalio.client import Client

from cli.demo.world import CARD, Json, Person
from tests.fixtures.stack import judge
from tests.fixtures.stage import Stage, superuser_url
from tests.privacy.canaries import Search, canaries_of, search_logs_and_metrics, search_temporal

NAME: Final = "Zebulonia Quaxworthy"
EMAIL: Final = "zebulonia.quaxworthy@canary.test"
PHONE: Final = "+2348055512349"
BVN: Final = "22298765431"
IBAN: Final = "GB33BUKB20201555555555"
ACCOUNT: Final = "2087654329"
PASSWORD: Final = "canary-Pass-word-7719"
INSTRUMENT: Final = "pm_canary_of_zebulonia"
RETURN_URL: Final = "https://app.demo.test/done?who=canary-return-zebulonia"
KEY: Final = "canary-key-of-zebulonia"
REQUEST_ID: Final = "canary-request-of-zebulonia"
NOTE: Final = "the canary note says no"
PAN: Final = "4242424242424242"

_FALL = """
create sequence privacy_falls;
create function privacy_fall() returns trigger language plpgsql security definer as $$
begin
    if new.tenant_id = '{tenant}' and nextval('privacy_falls') <= 3 then
        raise exception 'the row does not fit' using detail = 'Failing row contains ({name}, {email}, {bvn}).';
    end if;
    return new;
end $$;
create trigger privacy_fall before insert on notifications for each row execute function privacy_fall();
"""
_MEND = "drop trigger privacy_fall on notifications; drop function privacy_fall; drop sequence privacy_falls"


async def test_canaries_turn_up_nowhere(observed: Stage, decrypting: Client) -> None:
    refusals: list[bytes] = []

    async def keep(answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            refusals.append(await answer.aread() + str(answer.headers).encode())

    observed.api.event_hooks["response"].append(keep)
    try:
        stumble(observed)
        tokens = await live_through_everything(observed)
    finally:
        with psycopg.connect(superuser_url(observed.stack)) as owner:
            (stumbles,) = owner.execute("select last_value from privacy_falls").fetchone() or (0,)
            owner.execute(_MEND)
    assert stumbles >= 3, "activities failed with the person's row in their error"
    await judge(observed, decrypting)

    search = Search(canaries_of(observed.stack, tokens | observed_secrets(observed)))
    await search_temporal(search, observed)
    await search_logs_and_metrics(search, observed, without=["request id"])  # it is there to be found in the logs
    assert len(refusals) >= 8
    for body in refusals:
        search.within("answer", body, without=["request id"])
    assert search.hits == [], "\n".join(search.hits)
    assert {*search.bytes_read} == {"history", "description", "visibility", "file", "log", "metrics", "answer"}
    await the_search_finds(observed)


def observed_secrets(world: Stage) -> dict[str, str]:
    keys = {f"{provider} secret key": key for provider, key in world.seeded.sandbox_keys.items()}
    return keys | {
        "name": NAME, "first name": "Zebulonia", "email": EMAIL, "phone": PHONE[1:], "bvn": BVN, "iban": IBAN,
        "account number": ACCOUNT,
        "password": PASSWORD, "instrument": INSTRUMENT, "return url": "canary-return-zebulonia", "key": KEY,
        "request id": REQUEST_ID, "note": NOTE, "pan": PAN, "pan in groups": "4242 4242 4242",
        "admin password": world.seeded.admin_password, "admin token": world.admin.token,
    }  # fmt: skip


def stumble(world: Stage) -> None:
    """The next three rows of mail fail as Postgres fails: with an error that quotes the row."""
    script = _FALL.format(tenant=world.seeded.scope.tenant_id, name=NAME, email=EMAIL, bvn=BVN)
    with psycopg.connect(superuser_url(world.stack)) as owner:
        owner.execute(script.encode())


async def live_through_everything(world: Stage) -> dict[str, str]:
    """Sign-up, campaigns, payments that succeed, are declined, quote the person and come back; the tokens made."""
    await world.start_clock()
    owner, ada = await somebody(world, "business_owner"), await somebody(world, "investor")
    await refused_at_the_door(world, owner, ada)
    failing = await campaign(world, owner, "all_or_nothing", 10_000_000)
    keeping = await campaign(world, owner, "keep_what_you_raise", 10_000_000)
    held = await pledge(world, ada, failing, 120_000, provider="stripe", instrument=CARD)
    paid = await pledge(world, ada, keeping, 130_000, provider="stripe", instrument=CARD)
    page = await pledge(world, ada, keeping, 140_000, provider="paystack", return_url=RETURN_URL)
    quoted = await pledge(world, ada, keeping, 150_000, provider="stripe", instrument=INSTRUMENT)
    declined = await pledge(world, ada, keeping, 160_000, provider="stripe", instrument="pm_card_chargeDeclined")
    await world.pay_page(await world.next_action(ada, f"/v1/investments/{page['id']}"))
    await paid_out(world, ada)
    for made, end in ((held, "held"), (paid, "captured"), (page, "captured"), (quoted, "failed"), (declined, "failed")):
        await world.until(ada, f"/v1/investments/{made['id']}", end)
    await world.advance(days=3)
    await world.until(ada, f"/v1/campaigns/{failing}", "closed_failed")
    await world.until(ada, f"/v1/investments/{held['id']}", "canceled", "refunded", "failed", "expired")
    return {"owner token": owner.token, "investor token": ada.token}


async def paid_out(world: Stage, ada: Person) -> None:
    """To an account whose holder the bank calls otherwise, so that a person has to look at it."""
    await world.top_up(100_000)
    await world.deposit(ada, 100_000)
    payee = {"currency": "NGN", "bank_code": "058", "account_number": ACCOUNT, "name": f"{NAME} {PHONE}"}
    assert (await ada.call("POST", "/v1/beneficiaries", payee | {"bank_code": ACCOUNT * 3})).status_code == 422
    made = await ada.post("/v1/beneficiaries", payee)
    await world.until(ada, f"/v1/beneficiaries/{made['id']}", "needs_review")
    await world.admin.post(f"/v1/admin/beneficiaries/{made['id']}/review", {"decision": "accept", "note": NOTE})
    order = {"beneficiary_id": made["id"], "amount": 50_000, "currency": "NGN"}
    sent = await ada.post("/v1/payouts", order)
    world.workflow_ids.append(sent["workflow_id"])
    await world.until(ada, f"/v1/payouts/{sent['id']}", "succeeded")


async def refused_at_the_door(world: Stage, owner: Person, ada: Person) -> None:
    """Everything wrong that a person can send, with the canaries in it."""
    taken = await world.api.post("/v1/auth/signup", json=signup(world, "investor"))
    assert taken.status_code == 409, "the address has an account"
    wrong = signup(world, "investor") | {"password": PASSWORD + "-no"}
    login = {name: wrong[name] for name in ("tenant", "mode", "email", "password")}
    assert (await world.api.post("/v1/auth/login", json=login)).status_code == 401
    assert (await world.api.get("/v1/users/me", headers={"Authorization": f"Bearer {ada.token}x"})).status_code == 401
    body = await terms(world, "keep_what_you_raise", 1_000)
    for wrong_body in (
        body | {NAME: EMAIL},
        body | {"kind": NAME},
        body | {"deadline_at": PHONE},
        body | {"goal": IBAN},
    ):
        assert (await owner.call("POST", "/v1/campaigns", wrong_body)).status_code == 422
    for text in (PAN, "4242 4242 4242 4242"):
        for name in ("title", "description"):
            assert (await owner.call("POST", "/v1/campaigns", body | {name: f"pay {text}"})).status_code == 422
    rejected = await owner.post("/v1/campaigns", body)
    review = f"/v1/admin/campaigns/{rejected['id']}/verify"
    assert (await world.admin.call("POST", review, {"decision": "reject", "note": f"{NOTE} {PAN}"})).status_code == 422
    await world.admin.post(review, {"decision": "reject", "note": NOTE})
    for path in (f"/v1/campaigns/{NAME}", f"/v1/investments/{EMAIL}", f"/v1/payments?purpose={NAME}"):
        assert (await ada.call("GET", path)).status_code >= 400


def signup(world: Stage, role: str) -> Json:
    email = EMAIL if role == "investor" else f"owner-{EMAIL}"
    return {"tenant": world.seeded.tenant, "mode": world.seeded.mode, "email": email, "password": PASSWORD,
            "name": f"{NAME} {PHONE}", "role": role}  # fmt: skip


async def somebody(world: Stage, role: str) -> Person:
    body = signup(world, role)
    (await world.api.post("/v1/auth/signup", json=body)).raise_for_status()
    return await world._log_in(world.api, world.seeded, body["email"], PASSWORD)


async def terms(world: Stage, kind: str, goal: int) -> Json:
    deadline = await world.business_now() + timedelta(days=2)
    return {"title": f"{NAME}'s bakery", "description": f"Call {PHONE}. BVN {BVN}, IBAN {IBAN}.", "kind": kind,
            "goal": {"amount": goal, "currency": "NGN"}, "deadline_at": deadline.isoformat()}  # fmt: skip


async def campaign(world: Stage, owner: Person, kind: str, goal: int) -> str:
    made = await owner.post("/v1/campaigns", await terms(world, kind, goal))
    world.workflow_ids.append(made["workflow_id"])
    await world.admin.post(f"/v1/admin/campaigns/{made['id']}/verify", {"decision": "approve", "note": NOTE})
    return str(made["id"])


async def pledge(world: Stage, person: Person, campaign_id: str, amount: int, **how: Any) -> Json:
    """Pledge, with a canary for a request id and for a key."""
    answer = await world.api.post(
        f"/v1/campaigns/{campaign_id}/invest",
        json={"amount": amount, "currency": "NGN", **how},
        headers={
            "Authorization": f"Bearer {person.token}", "Idempotency-Key": f"{KEY}-{amount}", "X-Request-Id": REQUEST_ID
        },
    )  # fmt: skip
    made: Json = answer.raise_for_status().json()["data"]
    world.workflow_ids.append(made["workflow_id"])
    return made


async def the_search_finds(world: Stage) -> None:
    """The same search finds what is meant to be in each place, so finding nothing says something."""
    tenant = str(world.seeded.scope.tenant_id)
    temporal = Search({"workflow": world.workflow_ids[-1], "tenant": tenant})
    await search_temporal(temporal, world)
    found = {hit.partition(" in ")[2].partition(" ")[0] for hit in temporal.hits}
    assert found == {"history", "description", "visibility", "file"}, found
    logs = Search({"request id": REQUEST_ID, "metric": "service_requests", "error": "RaiseException"})
    await search_logs_and_metrics(logs, world, without=[])
    assert {hit.partition(" in ")[0] for hit in logs.hits} == {"request id", "metric", "error"}
    assert any("log worker.log" in hit for hit in logs.hits)
