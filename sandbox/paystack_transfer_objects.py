"""Paystack's recipients, transfers, banks and events of transfers on the wire."""

from sandbox.book import Tx
from sandbox.paystack_banks import Bank, find_bank
from sandbox.paystack_objects import INTEGRATION, Wire, iso
from sandbox.records import Account, new_id
from sandbox.transfers import Recipient, Transfer, recipient_of
from sandbox.webhooks import announce

FIRST_TRANSFER, FIRST_RECIPIENT, FIRST_REQUEST = 860_000_000, 56_000_000, 1_068_000_000
_SENT = frozenset({"success", "reversed"})
_WORDS = {"failed": "Transfer could not be processed", "reversed": "Beneficiary bank not available"}
_OPENED = "2016-07-14T10:04:29.000Z"


def number(t: Transfer) -> int:
    """The transfer's id on the wire."""
    return FIRST_TRANSFER + t.seq


def recipient(r: Recipient) -> Wire:
    """A recipient as its creation answers it, and as it stands within a transfer."""
    at, known = iso(r.created), find_bank(r.bank, r.currency)
    return {
        "active": True,
        "createdAt": at,
        "currency": r.currency,
        "description": "",
        "domain": "test",
        "email": "",
        "id": FIRST_RECIPIENT + r.seq,
        "integration": INTEGRATION,
        "metadata": None,
        "name": r.name,
        "recipient_code": r.id,
        "type": r.kind,
        "updatedAt": at,
        "is_deleted": False,
        "isDeleted": False,
        "details": {
            "authorization_code": None,
            "account_number": r.number,
            "account_name": r.name,
            "bank_code": r.bank,
            "bank_name": known.name if known else r.bank,
        },
    }


def created(t: Transfer) -> Wire:
    """A transfer as its start answers it: with the recipient as a number."""
    return {
        "transfersessionid": [],
        "transfertrials": [],
        **_common(t),
        "integration": INTEGRATION,
        "request": FIRST_REQUEST + t.seq,
        "recipient": FIRST_RECIPIENT + t.recipient,
        "createdAt": iso(t.created),
        "updatedAt": iso(t.doc["changed"]),
    }


def transfer(t: Transfer, r: Recipient) -> Wire:
    """A transfer as verify, fetch and the list show it."""
    return {
        **created(t),
        "recipient": recipient(r),
        "session": {"provider": "nip" if t.status in _SENT else None, "id": _session(t)},
        "fee_charged": 0,
        "fees_breakdown": None,
        "gateway_response": _WORDS.get(t.status),
    }


def fetched(t: Transfer, r: Recipient) -> Wire:
    """A transfer as fetch shows it: with its fees as a list."""
    return {**transfer(t, r), "fees_breakdown": []}


def _common(t: Transfer) -> Wire:
    return {
        "amount": t.amount,
        "currency": t.currency,
        "domain": "test",
        "failures": None,
        "id": number(t),
        "reason": t.doc["reason"] or "",
        "reference": t.reference,
        "source": "balance",
        "source_details": None,
        "status": t.status,
        "titan_code": None,
        "transfer_code": t.id,
        "transferred_at": iso(t.doc["changed"]) if t.status in _SENT else None,
    }


def _session(t: Transfer) -> str | None:
    return f"{t.created}{number(t)}" if t.status in _SENT else None


def bank(b: Bank) -> Wire:
    """A bank as the list shows it."""
    return {
        "name": b.name,
        "slug": b.name.lower().replace(",", "").replace(" ", "-"),
        "code": b.code,
        "longcode": "",
        "gateway": None,
        "pay_with_bank": False,
        "supports_transfer": True,
        "available_for_direct_debit": False,
        "active": True,
        "is_deleted": False,
        "country": b.country,
        "currency": b.currency,
        "type": b.kind,
        "id": b.number,
        "createdAt": _OPENED,
        "updatedAt": _OPENED,
    }


def transfer_event(tx: Tx, account: Account, t: Transfer) -> None:
    """Announce `transfer.<status>`. The samples spell times in two ways, and tell of fees only where money went."""
    who = recipient(recipient_of(tx, t))
    at, changed = iso(t.created), iso(t.doc["changed"])
    data = {
        **_common(t),
        "integration": {"id": INTEGRATION, "is_live": False, "business_name": account.merchant, "logo_path": None},
        "recipient": who,
        "session": {"provider": "nip" if t.status in _SENT else None, "id": _session(t)},
    }
    if t.status == "success":
        data |= {"createdAt": at, "updatedAt": changed, "fee_charged": 0, "gateway_response": None}
    else:
        data |= {"created_at": at, "updated_at": changed}
        data["recipient"] = {**who, "created_at": who["createdAt"], "updated_at": who["updatedAt"]}
    kind = f"transfer.{t.status}"
    announce(tx, account, t, new_id("psk"), kind, {"event": kind, "data": data})
