"""Messages of the investment process (`workflows/investment.py`)."""

from datetime import datetime

from contracts.base import Message, Scope
from domain.investment import InvestmentStatus


class InvestmentInput(Message):
    """Starts an investment's process.

    `settled_as`: paid from the wallet, the money was held or moved in the ledger with the request, so there is nothing
    to collect.

    `notices`: whether messages may be queued about the investment itself. Those about a payment are sent by its own process.
    """

    scope: Scope
    investment_id: str
    payment_id: str
    as_of: datetime
    settled_as: InvestmentStatus | None = None
    notices: bool = True


class InvestmentResult(Message):
    """How the process ended: `held` and `captured` are good ends, the campaign's settlement goes on from there."""

    status: InvestmentStatus
