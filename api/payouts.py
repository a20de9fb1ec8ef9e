"""Payouts at the edge, whoever asks for one: to whom money may go, and the payout's process."""

from typing import Any

from activities.gateways.registry import PAYOUT_CAPABILITIES
from api.commands import Unit
from api.distributions import wake_run
from contracts.ids import workflow_id
from contracts.payout import PayoutInput
from contracts.visibility import ENTITY, PROVIDER
from domain.beneficiary import check_payable
from domain.errors import InvalidRequest, NotFound
from domain.money import Money
from models.beneficiary import BeneficiaryRow, get_beneficiary
from models.distribution_payouts import REASON, make_due
from models.payout import Payout


async def own_beneficiary(unit: Unit, beneficiary_id: str, owner_id: str) -> BeneficiaryRow:
    """The owner's beneficiary, to which money may be sent, locked. Raises NotFound, Conflict `beneficiary_not_verified`."""
    found = await get_beneficiary(unit.tx, beneficiary_id, lock=True)
    if found is None or found.owner_id != owner_id:
        raise NotFound("beneficiary")
    check_payable(found.status)
    return found


def check_sendable(beneficiary: BeneficiaryRow, amount: Money, *, currency_field: str, amount_field: str) -> None:
    """Refuse what the beneficiary's provider does not send; the fields are the request's, for the error.

    Raises InvalidRequest `currency_mismatch` and `below_payout_minimum`.
    """
    if amount.currency != beneficiary.currency:
        text = f"The beneficiary is paid in {beneficiary.currency}."
        raise InvalidRequest("currency_mismatch", text, field=currency_field)
    least = PAYOUT_CAPABILITIES[beneficiary.provider].minimum_minor[amount.currency]
    if amount.amount_minor < least:
        text = f"{beneficiary.provider} sends {least} minor units at least."
        raise InvalidRequest("below_payout_minimum", text, field=amount_field)


async def start_payout(unit: Unit, payout: Payout) -> None:
    """Start the process of a payout that the same command reserves."""
    await unit.start("PayoutWorkflow", **_process(unit, payout))


async def wake_payout(unit: Unit, payout: Payout, signal: str, *, insist: bool) -> None:
    """Have the payout's process look, starting it anew where it had ended (money that a bank returned).

    That of a distribution's line is its run's while the payout is on its way: it is told once until it looks, for a run has
    a hundred thousand of them, unless somebody insists.
    """
    if payout.reason == REASON and not payout.ended:
        if await make_due(unit.tx, payout, unit.as_of) or insist:
            await wake_run(unit, payout.subject_id)
        return
    await unit.signal_with_start("PayoutWorkflow", signal_name=signal, **_process(unit, payout))


def _process(unit: Unit, payout: Payout) -> dict[str, Any]:
    return {
        "workflow_id": workflow_id("payout", unit.scope, payout.id),
        "input": PayoutInput(scope=unit.scope, payout_id=payout.id, as_of=unit.as_of),
        "search_attributes": {ENTITY.name: payout.id, PROVIDER.name: payout.provider},
        "summary": f"payout {payout.id}",
    }
