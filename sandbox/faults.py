"""Faults a person or a test asks for, and random ones drawn from a seed.

A planned fault belongs to one account and one operation ("stripe.capture"; "any" is every API operation; "webhook" is
every outgoing event), fires `times` times and may be narrowed by `match`: reference, amount, payment_id, and for
webhooks event.

    before the effect   500_before, hang_before, 429
    within the effect   decline, requires_action, wrong_amount     (the operation decides what they mean)
    after the effect    500_after, hang_after, reset_after, malformed
    webhooks            drop, duplicate, late, reorder, early, forged

Parameters: `seconds` (hang, late), `retry_after` (429), `amount` (wrong_amount), `n` (duplicate: extra copies), and
`store` (500_after: keep the *500* as the answer of the Idempotency-Key, as Stripe itself does once execution began; by
default the true answer is kept, so that a repeat resolves the unknown outcome).
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

from sandbox.book import Tx
from sandbox.records import Account

BEFORE = frozenset({"500_before", "hang_before", "429"})
WITHIN = frozenset({"decline", "requires_action", "wrong_amount"})
AFTER = frozenset({"500_after", "hang_after", "reset_after", "malformed"})
API_KINDS = BEFORE | WITHIN | AFTER
WEBHOOK_KINDS = frozenset({"drop", "duplicate", "late", "reorder", "early", "forged"})
OPERATIONS = frozenset(
    {
        "any", "webhook",
        "stripe.create", "stripe.get", "stripe.list", "stripe.search", "stripe.confirm", "stripe.capture", "stripe.cancel",
        "stripe.refund", "stripe.get_refund", "stripe.list_refunds", "stripe.customer", "stripe.get_charge",
        "paystack.initialize", "paystack.verify", "paystack.list", "paystack.charge", "paystack.refund",
        "paystack.get_refund", "paystack.list_refunds",
        "paystack.banks", "paystack.resolve", "paystack.recipient", "paystack.transfer", "paystack.verify_transfer",
        "paystack.get_transfer", "paystack.list_transfers", "paystack.balance",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What a call or an event is about, as far as it is known before the effect."""

    reference: str | None = None
    amount: int | None = None
    payment_id: str | None = None
    event: str | None = None

    def meets(self, match: dict[str, Any]) -> bool:
        """Whether every given condition holds."""
        return all(getattr(self, name) == wanted for name, wanted in match.items())


@dataclass(frozen=True)
class Fault:
    """A fault that fires now. The empty kind means none."""

    kind: str = ""
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long to hang or to be late, real seconds."""
        return float(self.params.get("seconds", 30))


NONE = Fault()


def plan(tx: Tx, account: str, body: dict[str, Any]) -> int:
    """Record a planned fault and return its id. Raises ValueError with a sentence when it makes no sense."""
    operation, kind, times = body.get("operation"), body.get("kind"), body.get("times", 1)
    match = body.get("match") or {}
    if operation not in OPERATIONS:
        raise ValueError(f"unknown operation; one of {', '.join(sorted(OPERATIONS))}")
    kinds = WEBHOOK_KINDS if operation == "webhook" else API_KINDS
    if kind not in kinds:
        raise ValueError(f"unknown kind for {operation}; one of {', '.join(sorted(kinds))}")
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise ValueError("times is a positive integer")
    if not isinstance(match, dict) or set(match) - {"reference", "amount", "payment_id", "event"}:
        raise ValueError("match has reference, amount, payment_id, event")
    params = {name: body[name] for name in ("seconds", "retry_after", "amount", "n", "store") if name in body}
    return tx.run(
        "insert into faults (account, operation, kind, times, params, match) values (?,?,?,?,?,?)",
        account,
        operation,
        kind,
        times,
        json.dumps(params),
        json.dumps(match),
    )


def describe(tx: Tx, account: str) -> list[dict[str, Any]]:
    """All planned faults of the account with how often each fired."""
    return [
        {**dict(row), "params": json.loads(row["params"]), "match": json.loads(row["match"])}
        for row in tx.rows(
            "select id, operation, kind, times, fired, params, match from faults where account=?", account
        )
    ]


def pick(tx: Tx, account: Account, operation: str, target: Target) -> Fault:
    """The fault this call or event meets: the oldest planned one that matches, else one drawn from the seed."""
    names = (operation, operation if operation == "webhook" else "any")
    sql = "select * from faults where account=? and operation in (?,?) and fired < times order by id"
    for row in tx.rows(sql, account.secret_key, *names):
        if target.meets(json.loads(row["match"])):
            tx.run("update faults set fired = fired + 1 where id = ?", row["id"])
            return Fault(row["kind"], json.loads(row["params"]))
    return _draw(tx, account, operation, target)


def _draw(tx: Tx, account: Account, operation: str, target: Target) -> Fault:
    """A seeded fault. The draw depends on (seed, operation, reference, nth call) only, so concurrency cannot shift it."""
    if account.seed is None:
        return NONE
    wanted = account.seed.get("operations")
    if wanted and operation not in wanted:
        return NONE
    reference = f"{target.event}:{target.reference}" if operation == "webhook" else (target.reference or "")
    tx.run(
        "insert into calls (account, operation, reference, n) values (?,?,?,1)"
        " on conflict (account, operation, reference) do update set n = n + 1",
        account.secret_key,
        operation,
        reference,
    )
    row = tx.row(
        "select n from calls where account=? and operation=? and reference=?", account.secret_key, operation, reference
    )
    assert row is not None
    generator = random.Random(f"{account.seed['seed']}|{operation}|{reference}|{row['n']}")  # noqa: S311  replayable, not secret
    left = generator.random()
    kinds = WEBHOOK_KINDS if operation == "webhook" else API_KINDS
    for kind, rate in sorted(account.seed["rates"].items()):
        if kind not in kinds:
            continue
        left -= rate
        if left < 0:
            return Fault(kind, {"seconds": account.seed.get("seconds", 2), **account.seed.get("params", {})})
    return NONE


def wrong(amount: int, fault: Fault) -> int:
    """The amount this fault makes of a true amount: the given one, else one unit off (the hardest to notice)."""
    if fault.kind != "wrong_amount":
        return amount
    return int(fault.params.get("amount", amount - 1 if amount > 1 else amount + 1))
