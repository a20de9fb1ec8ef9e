"""Who may do what: one table, read by every endpoint.

An action is `<noun>.<verb>`. Each names the (role, relation) pairs that may do it; everything else is refused.

    any     on everybody's things of the tenant and mode
    own     on things whose owner is the caller
    self    on the caller as a person (the subject is the caller)

`own` and `self` are checked with the owner's or subject's id, once the thing has been read: what is not yours looks
exactly like what does not exist.
"""

from enum import StrEnum
from typing import Final

from api.auth import Principal
from domain.errors import Forbidden, NotFound
from models.user import Role


class Relation(StrEnum):
    """How the caller stands to the thing."""

    ANY = "any"
    OWN = "own"
    SELF = "self"


ADMIN, BUSINESS_OWNER, INVESTOR = Role.ADMIN, Role.BUSINESS_OWNER, Role.INVESTOR
ANY, OWN, SELF = Relation.ANY, Relation.OWN, Relation.SELF

POLICY: Final[dict[str, frozenset[tuple[Role, Relation]]]] = {
    "user.read_self": frozenset({(ADMIN, SELF), (BUSINESS_OWNER, SELF), (INVESTOR, SELF)}),
    "user.verify": frozenset({(ADMIN, ANY)}),
    "dashboard.read": frozenset({(ADMIN, ANY), (INVESTOR, SELF), (BUSINESS_OWNER, SELF)}),
    "dashboard.read_tenant": frozenset({(ADMIN, ANY)}),
    "campaign.create": frozenset({(BUSINESS_OWNER, ANY)}),
    "campaign.read": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, ANY), (INVESTOR, ANY)}),
    "campaign.edit": frozenset({(BUSINESS_OWNER, OWN)}),
    "campaign.verify": frozenset({(ADMIN, ANY)}),
    "campaign.pause": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "campaign.move_deadline": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "campaign.cancel": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "campaign.post_update": frozenset({(BUSINESS_OWNER, OWN)}),
    "campaign.invest": frozenset({(INVESTOR, ANY), (BUSINESS_OWNER, ANY)}),
    "campaign.pay_out": frozenset({(BUSINESS_OWNER, OWN)}),
    "campaign.complete": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "milestone.read": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, ANY), (INVESTOR, ANY)}),
    "milestone.submit": frozenset({(BUSINESS_OWNER, OWN)}),
    "milestone.approve": frozenset({(ADMIN, ANY)}),
    "milestone.vote": frozenset({(BUSINESS_OWNER, ANY), (INVESTOR, ANY)}),
    "distribution.declare": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "distribution.read": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, OWN)}),
    "distribution.approve": frozenset({(ADMIN, ANY)}),
    "distribution.pay": frozenset({(ADMIN, ANY)}),
    "distribution_line.read": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, SELF), (INVESTOR, SELF)}),
    "payout_preference.read": frozenset({(ADMIN, ANY), (BUSINESS_OWNER, SELF), (INVESTOR, SELF)}),
    "payout_preference.change": frozenset({(BUSINESS_OWNER, SELF), (INVESTOR, SELF)}),
    "payout_hold.change": frozenset({(ADMIN, ANY)}),
    "investment.charge_back": frozenset({(ADMIN, ANY)}),
    "settlement.read": frozenset({(ADMIN, ANY)}),
    "settlement.retry": frozenset({(ADMIN, ANY)}),
    "investment.read": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "investment.choose_refund": frozenset({(INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "investment.cancel": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "payment.read": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "payment.resolve_unknown": frozenset({(ADMIN, ANY)}),
    "deposit.create": frozenset({(INVESTOR, SELF), (BUSINESS_OWNER, SELF)}),
    "wallet.read": frozenset({(INVESTOR, SELF), (BUSINESS_OWNER, SELF)}),
    "beneficiary.create": frozenset({(INVESTOR, SELF), (BUSINESS_OWNER, SELF)}),
    "beneficiary.read": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "beneficiary.disable": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "beneficiary.review": frozenset({(ADMIN, ANY)}),
    "payout.create": frozenset({(INVESTOR, SELF), (BUSINESS_OWNER, SELF)}),
    "payout.read": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "payout.cancel": frozenset({(ADMIN, ANY), (INVESTOR, OWN), (BUSINESS_OWNER, OWN)}),
    "payout.approve": frozenset({(ADMIN, ANY)}),
    "payout.check": frozenset({(ADMIN, ANY)}),
    "ledger.read": frozenset({(ADMIN, ANY)}),
    "case.list": frozenset({(ADMIN, ANY)}),
    "case.resolve": frozenset({(ADMIN, ANY)}),
    "warning.list": frozenset({(ADMIN, ANY)}),
    "clock.read": frozenset({(ADMIN, ANY)}),
    "clock.change": frozenset({(ADMIN, ANY)}),
    "outbox.list_stuck": frozenset({(ADMIN, ANY)}),
    "stuck.list": frozenset({(ADMIN, ANY)}),
}
"""Action → who may."""


def may_ask(role: Role, action: str) -> bool:
    """Whether the role has the action under any relation; checked before the thing is read."""
    return any(allowed is role for allowed, _ in POLICY[action])


def authorize(principal: Principal, action: str, *, owner_id: str | None = None) -> None:
    """Pass, or raise: Forbidden when the role never may, NotFound when it may but this thing is another's.

    `owner_id` is the owner (or, for `self`, the subject); without it only the relation `any` can pass.
    """
    relations = {relation for role, relation in POLICY[action] if role is principal.role}
    if not relations:
        raise Forbidden("forbidden", "Your role does not allow this.")
    if ANY in relations or (owner_id is not None and owner_id == principal.user_id):
        return
    raise NotFound(action.partition(".")[0])
