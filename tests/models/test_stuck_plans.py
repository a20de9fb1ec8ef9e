"""The monitor reads what is at work, not what ever was: what Postgres plans where almost everything has ended."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from contracts.base import Mode, Scope
from domain.stuck import StuckKind
from models.stuck import ROW_KINDS, explained
from tests.fixtures.api import set_scope
from tests.fixtures.feed import SEEDED
from tests.fixtures.pledges import add_user
from tests.fixtures.postgres import add_tenant, role_url

MANY = 5_000
_FILLED = (
    """insert into payments (tenant_id, mode, id, purpose, subject_id, payer_id, provider, amount_minor, currency, capture,
           status, created_at)
       select %(tenant)s, 'test', 'pay_' || n, 'deposit', 'pay_' || n, %(user)s, 'stripe', 500, 'NGN', 'immediate', 'succeeded',
           now() from generate_series(1, %(many)s) n""",
    """insert into payment_attempts (tenant_id, mode, reference, payment_id, ordinal, provider, amount_minor, currency, status,
           started_at)
       select %(tenant)s, 'test', 'ref-' || n, 'pay_' || n, 1, 'stripe', 500, 'NGN', 'captured', now()
         from generate_series(1, %(many)s) n""",
    """insert into refunds (tenant_id, mode, id, payment_id, attempt_reference, provider, amount_minor, currency, reason,
           source_account, status, created_at)
       select %(tenant)s, 'test', 'ref_' || n, 'pay_' || n, 'ref-' || n, 'stripe', 500, 'NGN', 'late_success', 'x', 'succeeded',
           now() from generate_series(1, %(many)s) n""",
    """insert into beneficiaries (tenant_id, mode, id, owner_id, provider, currency, created_at, recipient, kind, bank_code, name,
           sealed_number, number_end, status)
       select %(tenant)s, 'test', 'ben_1', %(user)s, 'paystack', 'NGN', now(), 'R', 'bank', '058', 'Ada', 'x', '1', 'verified'""",
    """insert into payouts (tenant_id, mode, id, owner_id, provider, currency, created_at, recipient, reference, beneficiary_id,
           reason, subject_id, source_account, amount_minor, requested_by, status)
       select %(tenant)s, 'test', 'pyo_' || n, %(user)s, 'paystack', 'NGN', now(), 'R', 'pyo_' || n, 'ben_1', 'withdrawal', 'x',
           'x', 500, %(user)s, 'succeeded' from generate_series(1, %(many)s) n""",
    """insert into effects (tenant_id, mode, key, provider, operation, request_hash, status)
       select %(tenant)s, 'test', 'attempt/ref-' || n || '/start', 'stripe', 'start', 'x', 'done'
         from generate_series(1, %(many)s) n""",
)
_TABLES = ("payments", "payment_attempts", "refunds", "campaigns", "payouts", "effects")


@pytest.fixture(scope="module")
def filled(owner_url: str) -> Scope:
    """A tenant with thousands of payments, refunds, campaigns, payouts and effects, of which none is at work."""
    scope = Scope(tenant_id=add_tenant(owner_url), mode=Mode.TEST)
    user = add_user(owner_url, scope)
    with psycopg.connect(owner_url) as connection:
        set_scope(connection, scope)
        for statement in _FILLED:
            connection.execute(statement, {"tenant": scope.tenant_id, "user": user, "many": MANY})
        connection.execute(SEEDED, {"tenant": scope.tenant_id, "owner": user, "count": MANY})
    with psycopg.connect(owner_url, autocommit=True) as connection:
        for table in _TABLES:
            connection.execute(f"analyze {table}")
    return scope


@pytest.fixture(params=["chama_audit", "chama_app"])
def reader(request: pytest.FixtureRequest, owner_url: str, filled: Scope) -> Iterator[psycopg.Connection[Any]]:
    """The relay's scan, of all tenants, and an admin's request, of one."""
    with psycopg.connect(role_url(owner_url, request.param)) as connection:
        if request.param == "chama_app":
            set_scope(connection, filled)
        yield connection


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_no_statement_reads_what_has_ended(reader: psycopg.Connection[Any], kind: StuckKind) -> None:
    query, values = explained(kind)
    plan = "\n".join(row[0] for row in reader.execute(query, values))
    assert re.findall(rf"Seq Scan on ({'|'.join(_TABLES)})\b", plan) == [], plan
