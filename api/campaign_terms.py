"""What a campaign is asked to be: the terms in requests, the rules between them, and the row they make."""

from datetime import UTC
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from api.commands import Unit
from api.envelope import Amount, Currency, Day, LongText, ShortText, StrictModel, Timestamp
from api.policy import authorize
from contracts.campaign import CampaignInput
from contracts.ids import workflow_id
from contracts.visibility import ENTITY
from domain.business import Category, countries
from domain.campaign import CampaignKind, check_first_deadline
from domain.distribution_run import check_profit_until
from domain.eligibility import MAX_KYC_LEVEL
from domain.errors import InvalidRequest, NotFound
from domain.milestone import MAX_DUE_DAYS, MilestoneTerm, check_milestones
from domain.money import CURRENCIES
from models.base import update
from models.campaign import Campaign, get_campaign

Kind = Literal["all_or_nothing", "keep_what_you_raise"]
Bps = Annotated[int, Field(ge=0, le=10_000)]
FeeBps = Annotated[int, Field(ge=0, le=5_000)]
KycLevel = Annotated[int, Field(ge=0, le=MAX_KYC_LEVEL)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2")]
Countries = Annotated[list[Country], Field(min_length=1, max_length=250)]


def _known(code: str) -> str:
    if code not in countries():
        raise ValueError("not a country of ISO 3166-1")
    return code


Home = Annotated[str, Field(json_schema_extra={"enum": sorted(countries())}), AfterValidator(_known)]
"""Where the business is: ISO 3166-1 alpha-2, and nothing else."""
Trade = Annotated[Category, Field(strict=False)]
"""What the business does; a text on the wire."""
WaitingSeconds = Annotated[int, Field(ge=0, le=2_592_000)]
TEXTS: Final = frozenset({"title", "description"})
"""What may be edited once a campaign is approved."""
_MAY_BE_NULL: Final = frozenset({"max_per_investor", "countries", "milestones", "profit_until", "category", "country"})


class MoneyBody(StrictModel):
    """An amount in minor units."""

    amount: Amount
    currency: Currency


class MilestoneBody(StrictModel):
    """One milestone: its part of the money, and when its evidence is due: at a time, or so many days after the funding."""

    title: ShortText
    share_bps: Annotated[int, Field(ge=1, le=10_000)]
    due_at: Timestamp | None = None
    due_days: Annotated[int, Field(ge=1, le=MAX_DUE_DAYS)] | None = None


Milestones = Annotated[list[MilestoneBody], Field(min_length=2, max_length=20)]


class CampaignTerms(StrictModel):
    """What investors are offered. Amounts share one currency.

    `cap` defaults to the goal; `min_ticket` to one minor unit. `success_floor_bps`: the part of the goal that must really
    be captured for the campaign to stay funded (see the README's rule). `waiting_seconds`: how long after the deadline
    slow money may still arrive. `close_when_funded`: it ends as soon as held and captured money reach the goal.
    `min_kyc_level`, `countries`: who may invest; without countries, from anywhere. `milestones`: for what the money is released
    in parts; without, in one. `profit_until`: the last day of the period whose profit is shared. `category`, `country`: of
    the business.
    """

    title: ShortText
    description: LongText
    kind: Kind
    goal: MoneyBody
    cap: MoneyBody | None = None
    min_ticket: MoneyBody | None = None
    max_per_investor: MoneyBody | None = None
    deadline_at: Timestamp
    profit_share_bps: Bps = 0
    success_floor_bps: Bps = 9_000
    waiting_seconds: WaitingSeconds = 259_200
    close_when_funded: bool = False
    min_kyc_level: KycLevel = 0
    countries: Countries | None = None
    milestones: Milestones | None = None
    profit_until: Day | None = None
    category: Trade | None = None
    country: Home | None = None


class CampaignRequest(CampaignTerms):
    """A campaign, for review at once or, with `draft`, to be worked on first."""

    draft: bool = False


class CampaignEdit(StrictModel):
    """The terms that change; what is left out stays. Null is no limit (`max_per_investor`), anywhere (`countries`), one tranche
    (`milestones`), no period (`profit_until`), or not said (`category`, `country`)."""

    title: ShortText | None = None
    description: LongText | None = None
    kind: Kind | None = None
    goal: MoneyBody | None = None
    cap: MoneyBody | None = None
    min_ticket: MoneyBody | None = None
    max_per_investor: MoneyBody | None = None
    deadline_at: Timestamp | None = None
    profit_share_bps: Bps | None = None
    success_floor_bps: Bps | None = None
    waiting_seconds: WaitingSeconds | None = None
    close_when_funded: bool | None = None
    min_kyc_level: KycLevel | None = None
    countries: Countries | None = None
    milestones: Milestones | None = None
    profit_until: Day | None = None
    category: Trade | None = None
    country: Home | None = None

    def given(self) -> dict[str, Any]:
        """The terms to change, by name. Null is a value for six of them only."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name in self.model_fields_set and (getattr(self, name) is not None or name in _MAY_BE_NULL)
        }


def check_terms(terms: CampaignTerms) -> None:
    """Raises InvalidRequest naming the field that breaks a rule."""
    currency = terms.goal.currency
    if currency not in CURRENCIES:
        raise InvalidRequest("unknown_currency", "Not an ISO 4217 currency.", field="goal.currency")
    for name in ("cap", "min_ticket", "max_per_investor"):
        money: MoneyBody | None = getattr(terms, name)
        if money is not None and money.currency != currency:
            raise InvalidRequest("currency_mismatch", f"All amounts are in {currency}.", field=f"{name}.currency")
    if terms.cap is not None and terms.cap.amount < terms.goal.amount:
        raise InvalidRequest("cap_below_goal", "The cap is at least the goal.", field="cap.amount")
    minimum = terms.min_ticket.amount if terms.min_ticket else 1
    if minimum > (terms.cap or terms.goal).amount:
        raise InvalidRequest("minimum_above_cap", "The smallest ticket fits under the cap.", field="min_ticket.amount")
    if terms.max_per_investor is not None and terms.max_per_investor.amount < minimum:
        raise InvalidRequest(
            "limit_below_minimum",
            "The limit per investor is at least the smallest ticket.",
            field="max_per_investor.amount",
        )
    if terms.milestones is not None:
        offered = [MilestoneTerm(**each.model_dump()) for each in terms.milestones]
        check_milestones(offered, deadline_at=terms.deadline_at)
    if terms.profit_until is not None:
        check_profit_until(terms.profit_until, terms.deadline_at.date())


def columns(terms: CampaignTerms) -> dict[str, Any]:
    """The terms as columns of the campaign's row."""
    return {
        "title": terms.title,
        "description": terms.description,
        "kind": CampaignKind(terms.kind),
        "currency": terms.goal.currency,
        "goal_minor": terms.goal.amount,
        "cap_minor": (terms.cap or terms.goal).amount,
        "min_ticket_minor": terms.min_ticket.amount if terms.min_ticket else 1,
        "max_per_investor_minor": terms.max_per_investor.amount if terms.max_per_investor else None,
        "deadline_at": terms.deadline_at,
        "profit_share_bps": terms.profit_share_bps,
        "success_floor_bps": terms.success_floor_bps,
        "waiting_seconds": terms.waiting_seconds,
        "close_when_funded": terms.close_when_funded,
        "min_kyc_level": terms.min_kyc_level,
        "countries": sorted(set(terms.countries)) if terms.countries else None,
        "milestones": [_milestone(each) for each in terms.milestones] if terms.milestones else None,
        "profit_until": terms.profit_until,
        "category": terms.category,
        "country": terms.country,
    }


def _milestone(term: MilestoneBody) -> dict[str, Any]:
    """A milestone as the row keeps it: times as the API shows them."""
    due_at = term.due_at.astimezone(UTC).isoformat().replace("+00:00", "Z") if term.due_at else None
    return {"title": term.title, "due_at": due_at, "due_days": term.due_days, "share_bps": term.share_bps}


def edited(row: Campaign, changes: dict[str, Any]) -> CampaignTerms:
    """The row's terms with the changes. A cap that was the goal follows it, unless it is given."""

    def money(amount_minor: int) -> MoneyBody:
        return MoneyBody(amount=amount_minor, currency=row.currency)

    limit = row.max_per_investor_minor
    terms: dict[str, Any] = {
        "title": row.title,
        "description": row.description,
        "kind": str(row.kind),
        "goal": money(row.goal_minor),
        "cap": None if row.cap_minor == row.goal_minor else money(row.cap_minor),
        "min_ticket": None if row.min_ticket_minor == 1 else money(row.min_ticket_minor),
        "max_per_investor": money(limit) if limit else None,
        "deadline_at": row.deadline_at,
        "profit_share_bps": row.profit_share_bps,
        "success_floor_bps": row.success_floor_bps,
        "waiting_seconds": row.waiting_seconds,
        "close_when_funded": row.close_when_funded,
        "min_kyc_level": row.min_kyc_level,
        "countries": row.countries,
        "milestones": [MilestoneBody(**each) for each in row.milestones] if row.milestones else None,
        "profit_until": row.profit_until,
        "category": row.category,
        "country": row.country,
    }
    return CampaignTerms.model_construct(**terms | changes)


async def locked(unit: Unit, campaign_id: str, action: str) -> Campaign:
    """The campaign, held until the command commits. Raises NotFound, also for one that is not the caller's to `action`."""
    campaign = await get_campaign(unit.tx, campaign_id, lock=True)
    if campaign is None:
        raise NotFound("campaign")
    authorize(unit.principal, action, owner_id=campaign.owner_id)
    return campaign


async def wake(unit: Unit, campaign_id: str, signal: str = "changed") -> Campaign:
    """The changed row, and its process told to look at it.

    Without a next action the test clock waits until the process has named one.
    """
    await update(unit.tx, Campaign, {"id": campaign_id}, {"next_action_at": None})
    await unit.signal(workflow_id("campaign", unit.scope, campaign_id), signal)
    return await fresh(unit, campaign_id)


async def fresh(unit: Unit, campaign_id: str) -> Campaign:
    """The row as this command has left it."""
    found = await get_campaign(unit.tx, campaign_id)
    assert found is not None
    return found


async def start_process(unit: Unit, campaign: Campaign) -> None:
    """Start the campaign's process, which waits for the reviewer. Raises InvalidRequest `invalid_deadline`."""
    check_first_deadline(campaign.deadline_at, as_of=unit.as_of)
    await unit.start(
        "CampaignWorkflow",
        workflow_id("campaign", unit.scope, campaign.id),
        CampaignInput(scope=unit.scope, campaign_id=campaign.id, as_of=unit.as_of),
        search_attributes={ENTITY.name: campaign.id},
        summary=f"campaign {campaign.id}",
    )
