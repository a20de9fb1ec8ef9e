"""Many payments at once, as if they had been made before: for measurements with a book of real size. Sends no event."""

import json
from typing import Any

from sandbox.book import Tx
from sandbox.records import Account, new_id
from sandbox.stripe_states import AUTHORIZATION_LIFETIME

MOST = 2_000
"""In one request, which has a size limit of its own."""


def plant_many(tx: Tx, account: Account, currency: str, payments: list[Any], *, captured: bool) -> int:
    """Book card payments, each `[id, reference, amount]`, as held or as captured; how many.

    Only for accounts whose provider holds money (stripe). Raises ValueError with a sentence for anything else.
    """
    if account.provider != "stripe":
        raise ValueError("only a stripe account holds money")
    if not 0 < len(payments) <= MOST or not all(_is_payment(each) for each in payments):
        raise ValueError(f"payments is a list of at most {MOST} [id, reference, amount]")
    now = account.now()
    status, due = ("succeeded", None) if captured else ("requires_capture", now + AUTHORIZATION_LIFETIME)
    rows = []
    for payment_id, reference, amount in payments:
        doc = {"capture_method": "manual", "metadata": {"reference": reference}, "kind": "pm_card_visa",
               "payment_method": new_id("pm"), "latest_charge": new_id("ch"), "charged_at": now}  # fmt: skip
        taken = amount if captured else 0
        rows.append(
            (payment_id, account.secret_key, reference, amount, currency.lower(), status, taken, now, due,
             f"{payment_id}_secret", json.dumps(doc))
        )  # fmt: skip
    tx.db.executemany(
        "insert into payments (id, account, reference, amount, currency, status, captured, refunded, created, due, access, doc)"
        " values (?,?,?,?,?,?,?,0,?,?,?,?)",
        rows,
    )
    return len(rows)


def _is_payment(each: Any) -> bool:
    if not isinstance(each, list) or len(each) != 3:
        return False
    return all(isinstance(name, str) and name for name in each[:2]) and type(each[2]) is int and each[2] > 0
