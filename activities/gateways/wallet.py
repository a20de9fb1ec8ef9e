"""The wallet as a rail: money that is already in our own ledger, held for a pledge when the request was made.

No exchange takes place: the answer is a definite yes, and its consequence (posting or voiding the hold) happens in the
same transaction that records it. It lets a settlement treat wallet pledges and card pledges as one kind of line.
"""

from datetime import datetime, timedelta

from activities.gateways.protocols import (
    PaymentFact,
    PaymentOrder,
    PaymentPage,
    RailAnswer,
    RailCapabilities,
    RailRejected,
    RefundAnswer,
    RefundFact,
    RefundOrder,
    RefundPage,
    Resolution,
    SignatureRefused,
    WebhookEvent,
)
from domain.payment import WALLET


class WalletRail:
    """Always available, never unknown. Satisfies `PaymentRail`."""

    name = WALLET
    capabilities = RailCapabilities(
        authorize=True,
        saved_instrument=False,
        resolution=Resolution.REPLAY,
        authorization_lifetime=timedelta(0),
        not_found_grace=timedelta(0),
    )

    async def start(self, order: PaymentOrder) -> RailAnswer:
        """Wallet pledges are held by the request itself."""
        raise RailRejected("wallet_holds_with_the_request")

    async def look_up(self, *, reference: str, provider_id: str | None) -> RailAnswer:
        """There is nobody to ask: the ledger is the truth."""
        return RailAnswer(fact=PaymentFact.ABSENT, reference=reference)

    async def capture(self, *, provider_id: str, amount_minor: int, currency: str, key: str) -> RailAnswer:
        """Post the hold."""
        return RailAnswer(
            fact=PaymentFact.CAPTURED, amount_minor=amount_minor, captured_minor=amount_minor, currency=currency
        )

    async def void(self, *, provider_id: str | None, key: str, reference: str | None = None) -> RailAnswer:
        """Void the hold."""
        return RailAnswer(fact=PaymentFact.VOIDED, reference=reference)

    async def refund(self, order: RefundOrder) -> RefundAnswer:
        """Put the money back into the wallet."""
        return RefundAnswer(fact=RefundFact.SUCCEEDED, reference=order.reference, amount_minor=order.amount_minor)

    async def look_up_refund(self, order: RefundOrder, *, refund_provider_id: str | None) -> RefundAnswer:
        """As sent."""
        return await self.refund(order)

    async def list_payments(self, *, since: datetime, cursor: str | None) -> PaymentPage:
        """No statement of its own."""
        return PaymentPage(payments=[])

    async def list_refunds(self, *, since: datetime, cursor: str | None) -> RefundPage:
        """No statement of its own."""
        return RefundPage(refunds=[])

    def verify_webhook(self, raw: bytes, headers: dict[str, str], now: datetime) -> WebhookEvent:
        """Nobody sends any."""
        raise SignatureRefused("missing")
