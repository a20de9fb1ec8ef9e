"""What Chama asks of a payment rail, and the only three ways a call may fail.

A rail either answers (`RailAnswer`: a definite fact), or raises:

    RailError
    ├── RailNotSent     nothing reached the provider (no connection, or it refused before any effect): safe to repeat
    ├── RailRejected    the provider understood and refused: definite, final, carries its code
    └── RailUnknown     the request may have taken effect: resolve by look-up before anything else (DESIGN §2.4)

Adapters know nothing of the sandbox: only their base URL differs. They hold no state and write no rows.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from pydantic import Field

from contracts.base import Message
from contracts.payment import NextAction


class RailError(Exception):
    """Base. `code` is the provider's or our own short reason; never holds credentials or personal data."""

    def __init__(self, code: str, message: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.retry_after = retry_after


class RailNotSent(RailError):
    """Nothing took effect: repeat with the same key (connection refused, 429, a 503 the rail documents as untouched)."""


class RailRejected(RailError):
    """Definite refusal (4xx with a code): repeating the same request cannot help."""


class RailUnknown(RailError):
    """Timeout, reset, 5xx or unreadable body after the request was sent: it may have taken effect."""


class SignatureRefused(Exception):
    """A webhook that the provider did not sign. `reason` is a short code: missing, malformed, stale, mismatch, or
    unconfigured (we hold no secret to check with)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PaymentFact(StrEnum):
    """What the provider says of one payment attempt, in one vocabulary for all rails."""

    ABSENT = "absent"
    """The provider does not know our reference (inconclusive within the rail's grace period)."""
    REQUIRES_ACTION = "requires_action"
    """Waits for the payer: hosted page, card details, 3-D Secure."""
    PENDING = "pending"
    """The payer did his part; the rail has not decided (slow money)."""
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    VOIDED = "voided"
    """Canceled at the provider before capture."""
    EXPIRED = "expired"
    """An authorization that lapsed, or a hosted page nobody completed."""


class RefundFact(StrEnum):
    """What the provider says of one refund."""

    ABSENT = "absent"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class PaymentOrder(Message):
    """One attempt to take money.

    `reference` is ours, unique per attempt, fixed before the call ([a-z0-9-], ≤ 50). `key` is the idempotency key for
    rails that have one (≤ 64). Amounts are minor units.
    """

    reference: str
    key: str
    amount_minor: int
    currency: str
    capture_now: bool
    """False: authorize only (rails with `authorize`); True: take the money at once."""
    payer_email: str
    return_url: str | None = None
    instrument: str | None = None
    """A payment-method token from the provider's own client library, or one saved earlier."""
    customer: str | None = None
    """The provider's id of the payer that a saved instrument belongs to."""
    off_session: bool = False
    """The payer is not present: charge the saved instrument, never ask for action."""
    save_instrument: bool = False
    description: str = ""


class RailAnswer(Message):
    """A definite answer about one payment attempt. Amount and currency are as the provider states them, in our minor units."""

    fact: PaymentFact
    provider_id: str | None = None
    """The provider's id of the payment (Stripe pi_…, Paystack transaction id as text)."""
    reference: str | None = None
    amount_minor: int | None = None
    """The amount of the authorization or charge."""
    captured_minor: int = 0
    refunded_minor: int = 0
    currency: str | None = None
    next_action: NextAction | None = None
    instrument: str | None = None
    customer: str | None = None
    code: str | None = None
    """Decline code, where declined."""
    created_at: datetime | None = None


class RefundOrder(Message):
    """One refund of a captured payment. `reference` and `key` as in PaymentOrder."""

    reference: str
    key: str
    payment_reference: str
    provider_id: str
    amount_minor: int
    currency: str


class RefundAnswer(Message):
    """A definite answer about one refund."""

    fact: RefundFact
    provider_id: str | None = None
    reference: str | None = None
    payment_provider_id: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    code: str | None = None


class WebhookEvent(Message):
    """A verified event, reduced to what finds the payment; the truth is fetched afterwards (DESIGN §2.10)."""

    event_id: str
    """Unique per provider account; where the rail has none, built from event name, object id and status."""
    kind: str
    """The provider's own event name."""
    reference: str | None = None
    """Our attempt or refund reference, where the event carries it."""
    provider_id: str | None = None
    """The payment's id at the provider; of a transfer its code, which is never any payment's id."""


class Resolution(StrEnum):
    """How an UNKNOWN of this rail is resolved."""

    REPLAY = "replay"
    """An identical request with the same key *is* the look-up."""
    LOOKUP = "lookup"
    """Ask by our reference."""


class RailCapabilities(Message):
    """What the workflow must know of a rail to choose its path."""

    authorize: bool
    """Can hold now and capture later."""
    saved_instrument: bool
    resolution: Resolution
    authorization_lifetime: timedelta = timedelta(0)
    not_found_grace: timedelta = timedelta(0)
    """How long after the call "absent" proves nothing."""
    unique_reference: bool = False
    """A second start under a reference that is taken is refused as such, however soon it comes."""
    replay_lifetime: timedelta = timedelta(0)
    """For `REPLAY`: how long after the first call an identical request is still recognised. Later it would be a second
    effect: look up instead."""


class PaymentPage(Message):
    """One page of the provider's own list of payments, for the auditor."""

    payments: list[RailAnswer]
    next_cursor: str | None = None


class PaymentRail(Protocol):
    """One provider account. Every method is a few HTTP exchanges at most (usually one) and raises only RailError."""

    name: str
    capabilities: RailCapabilities

    async def start(self, order: PaymentOrder) -> RailAnswer:
        """Create (and, with an instrument, confirm) the payment."""

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        """The truth about an attempt, by the provider's id when known, else by our reference. ABSENT when unknown there."""

    async def capture(self, *, provider_id: str, amount_minor: int, currency: str, key: str) -> RailAnswer:
        """Take an authorized amount, in whole. Already captured is success."""

    async def void(self, *, provider_id: str | None, key: str, reference: str | None = None) -> RailAnswer:
        """Release an authorization, or close an unpaid payment. Answers CAPTURED if the money was taken after all.

        One of `provider_id` and `reference` is needed: a hosted page nobody has paid on has no id on some rails.
        """

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Give back part or all of a captured payment."""

    async def look_up_refund(self, order: RefundOrder, *, refund_provider_id: str | None) -> RefundAnswer:
        """The truth about a refund."""

    async def list_payments(self, *, since: datetime, cursor: str | None) -> PaymentPage:
        """Payments created at or after `since`, in any stable order, for reconciliation."""

    async def list_refunds(self, *, since: datetime, cursor: str | None) -> "RefundPage":
        """Refunds created at or after `since`."""

    def verify_webhook(self, raw: bytes, headers: dict[str, str], now: datetime) -> WebhookEvent:
        """Check the signature over the raw bytes and read the event. `headers` keys are lower-case. Raises SignatureRefused."""


class RefundPage(Message):
    """One page of the provider's own list of refunds."""

    refunds: list[RefundAnswer]
    next_cursor: str | None = None


class PayoutFact(StrEnum):
    """What the provider says of one payout: money of ours, sent to a beneficiary's account."""

    ABSENT = "absent"
    """The provider does not know our reference (inconclusive within the rail's grace period)."""
    PENDING = "pending"
    """On its way: not decided."""
    NEEDS_APPROVAL = "needs_approval"
    """Stands still until the account's owner approves it at the provider; `code` says how. Not decided."""
    SUCCEEDED = "succeeded"
    """Sent. The beneficiary's bank may still return it."""
    FAILED = "failed"
    """Ended without leaving the account. `code` says why."""
    RETURNED = "returned"
    """It left and came back: the amount is in the account again. May follow `SUCCEEDED`."""


INSUFFICIENT_BALANCE: Final = "insufficient_balance"
"""The code of the RailRejected that a top-up of the provider account mends."""


class BeneficiaryKind(StrEnum):
    """What `Beneficiary.bank_code` names."""

    BANK = "bank"
    MOBILE_MONEY = "mobile_money"


class Beneficiary(Message):
    """Who is paid. Personal data, so it prints without name and number, and never travels through a workflow."""

    name: str = Field(repr=False)
    account_number: str = Field(repr=False)
    """Or the number of a telephone, for mobile money."""
    bank_code: str
    """The provider's own code of the bank or operator."""
    currency: str
    kind: BeneficiaryKind = BeneficiaryKind.BANK


class PayoutOrder(Message):
    """One payout. `reference` and `key` as in PaymentOrder, the reference within the rail's own alphabet and length."""

    reference: str
    key: str
    amount_minor: int
    currency: str
    recipient: str
    """What `create_recipient` answered."""
    reason: str = ""
    """Shown to the beneficiary: no personal data of others."""


class PayoutAnswer(Message):
    """A definite answer about one payout. Amounts and currency are as the provider states them, in our minor units."""

    fact: PayoutFact
    provider_id: str | None = None
    reference: str | None = None
    amount_minor: int | None = None
    """What the beneficiary gets."""
    fee_minor: int | None = None
    """What the provider took from our account besides; None where the answer does not tell."""
    currency: str | None = None
    recipient: str | None = None
    """None where the answer does not tell."""
    code: str | None = None
    """Why it failed or was returned, or what it waits for."""
    created_at: datetime | None = None


class PayoutCapabilities(Message):
    """What a process must know of a rail before it sends money there."""

    resolution: Resolution
    minimum_minor: dict[str, int]
    """The least amount by currency, in our minor units; a currency that is not here cannot be paid out."""
    reference_pattern: str
    """What a reference of ours must match as a whole."""
    resolves_accounts: frozenset[str]
    """Currencies in which an account number can be turned into its holder's name."""
    not_found_grace: timedelta = timedelta(0)
    """How long after the call "absent" proves nothing."""
    unique_reference: bool = False
    """A second start under a reference that is taken pays nothing again, however late it comes."""


class PayoutPage(Message):
    """One page of the provider's own list of payouts, for the auditor."""

    payouts: list[PayoutAnswer]
    next_cursor: str | None = None


class PayoutRail(Protocol):
    """The side of a provider account that sends money out. As `PaymentRail`: few exchanges, only RailError."""

    name: str
    capabilities: PayoutCapabilities

    async def resolve_account(self, *, bank_code: str, account_number: str, currency: str) -> str:
        """The name of the account's holder, as the bank has it.

        RailRejected: `account_not_found`, `bank_unknown`, or `resolution_unsupported` (see `resolves_accounts`).
        """

    async def create_recipient(self, beneficiary: Beneficiary) -> str:
        """The provider's handle for the beneficiary. Moves no money and may be repeated after any outcome."""

    async def start_transfer(self, order: PayoutOrder) -> PayoutAnswer:
        """Send the money, unless it was sent under this reference before: then the answer is what became of it.

        After an unknown outcome not to be repeated within `not_found_grace`: a refusal could then be about the repeat alone.
        """

    async def look_up_transfer(self, *, reference: str | None = None, provider_id: str | None = None) -> PayoutAnswer:
        """The truth about a payout, by our reference or the provider's id; give both where both are known.

        ABSENT when unknown there; RailUnknown if it is, yet the provider once gave it an id.
        """

    async def list_transfers(self, *, since: datetime, cursor: str | None) -> PayoutPage:
        """Payouts created at or after `since`, in any stable order, for reconciliation."""

    async def balance(self, currency: str) -> int:
        """What can be sent right now, in our minor units; 0 where the account holds nothing in that currency."""
