"""Which paths of which workflow are kept as golden histories, and the story that walks each of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from cli.demo.world import Json, Person
from tests.fixtures.stage import Stage
from tests.replay.golden import CONTINUED, Facts
from tests.stories import test_canceling as canceling
from tests.stories import test_distribution_payouts as distribution_payouts
from tests.stories import test_distributions as distributions
from tests.stories import test_lifecycle as lifecycle
from tests.stories import test_milestones as milestones
from tests.stories import test_paying as paying
from tests.stories import test_payouts as payouts
from tests.stories import test_retrying_lines as retrying
from tests.stories import test_rulings as rulings
from tests.stories import test_settling as settling
from tests.stories import test_slow_money as slow_money
from tests.stories import test_webhooks as webhooks

Story = Callable[[Stage], Awaitable[None]]
PAYMENT, INVESTMENT, CAMPAIGN = "PaymentWorkflow", "InvestmentWorkflow", "CampaignWorkflow"
SETTLEMENT, REFUND, INBOX, CLOCK = "SettlementWorkflow", "RefundWorkflow", "InboxWorkflow", "ClockWorkflow"
NOTICES, DISTRIBUTION = "NoticesWorkflow", "DistributionWorkflow"
PAYOUT, BENEFICIARY = "PayoutWorkflow", "BeneficiaryWorkflow"
MILESTONE = "MilestoneWorkflow"
MOST_PATHS_NEEDED = {PAYMENT: 5, INVESTMENT: 5, CAMPAIGN: 5, PAYOUT: 5, MILESTONE: 5}
"""The workflows money waits in; all others need one path at least."""


@dataclass(frozen=True)
class Walk:
    """One path: the first run of `kind` that the story leaves behind and `fits`."""

    kind: str
    path: str
    story: Story
    fits: Callable[[Facts], bool]


def ends(*results: str) -> Callable[[Facts], bool]:
    """Ended with one of these."""
    return lambda facts: facts.result in results


def resumed(*results: str) -> Callable[[Facts], bool]:
    """Started again on a payment with a history."""
    return lambda facts: bool(facts.input.get("resume")) and not facts.is_continuation and facts.result in results


def signaled(*names: str) -> Callable[[Facts], bool]:
    """Heard one of these."""
    return lambda facts: bool({*names} & {*facts.signals})


def returned(ranges: int) -> Callable[[Facts], bool]:
    """Gave money back, in so many ranges."""
    return lambda facts: facts.activities.count("return_escrow_range") == ranges


async def a_campaign_is_rejected(world: Stage) -> None:
    """The review says no."""
    owner = await world.person("business_owner")
    body = {
        "title": "Mama Kemi Bakery",
        "description": "A second oven.",
        "kind": "all_or_nothing",
        "goal": {"amount": 100_000, "currency": "NGN"},
        "deadline_at": (await world.business_now() + timedelta(days=30)).isoformat(),
    }
    made = await owner.post("/v1/campaigns", body)
    world.workflow_ids.append(made["workflow_id"])
    await world.admin.post(f"/v1/admin/campaigns/{made['id']}/verify", {"decision": "reject", "note": "No accounts."})
    await world.until(owner, f"/v1/campaigns/{made['id']}", "rejected")


async def _page(world: Stage) -> tuple[Person, Json]:
    """A pledge whose payer stands before the provider's page, however busy the machine is."""
    campaign, ada = await world.campaign("keep_what_you_raise", goal=500_000), await world.person()
    made = await world.invest(ada, campaign, 40_000, "paystack")
    return ada, {**made, "next_action": await world.next_action(ada, f"/v1/payments/{made['payment_id']}")}


async def a_page_is_paid(world: Stage) -> None:
    """Charged at once."""
    ada, made = await _page(world)
    await world.pay_page(made["next_action"])
    await world.until(ada, f"/v1/investments/{made['id']}", "captured")


async def a_page_is_declined(world: Stage) -> None:
    """Found by polling."""
    ada, made = await _page(world)
    await world.pay_page(made["next_action"], "decline")
    await world.forward(made["payment_id"], minutes=2)
    await world.until(ada, f"/v1/investments/{made['id']}", "failed")


async def a_card_is_held_and_released(world: Stage) -> None:
    """The hold's process has ended before the cancel begins another."""
    campaign, ada = await world.campaign("all_or_nothing", goal=500_000), await world.person()
    made = await world.held(ada, campaign, 150_000)
    await (await world.temporal()).get_workflow_handle(made["workflow_id"]).result()
    await world.cancel(ada, made)
    await world.until(ada, f"/v1/investments/{made['id']}", "canceled")


WALKS = (
    Walk(PAYMENT, "held", a_card_is_held_and_released, ends("requires_capture")),
    Walk(PAYMENT, "resumed_and_released", a_card_is_held_and_released, resumed("canceled")),
    Walk(PAYMENT, "paid_on_the_page", a_page_is_paid, ends("succeeded")),
    Walk(PAYMENT, "declined_on_the_page", a_page_is_declined, ends("failed")),
    Walk(PAYMENT, "canceled_before_payment", canceling.canceled_before_payment_then_paid, ends("canceled")),
    Walk(PAYMENT, "expired_unpaid", paying.an_unpaid_page_expires_and_its_late_money_goes_back, ends("expired")),
    Walk(
        PAYMENT,
        "canceled_while_unknown",
        canceling.a_capture_that_wins_the_race_is_refunded,
        signaled("cancel_requested"),
    ),
    Walk(PAYMENT, "ruled_charged", rulings.ruled_charged, signaled("outcome_ruled")),
    Walk(PAYMENT, "ruled_not_charged", rulings.ruled_not_charged, signaled("outcome_ruled")),
    Walk(
        PAYMENT,
        "left_its_late_money",
        canceling.slow_money_canceled_on_its_way_that_no_event_tells_of,
        lambda facts: ends("canceled")(facts) and not facts.input.get("late"),
    ),
    Walk(
        PAYMENT,
        "looked_for_late_money",
        canceling.slow_money_canceled_on_its_way_that_no_event_tells_of,
        lambda facts: ends("canceled")(facts) and bool(facts.input.get("late")),
    ),
    Walk(
        INVESTMENT,
        "canceled_with_late_money",
        canceling.slow_money_canceled_on_its_way_that_no_event_tells_of,
        ends("canceled"),
    ),
    Walk(INVESTMENT, "captured", a_page_is_paid, ends("captured")),
    Walk(INVESTMENT, "held", a_card_is_held_and_released, ends("held")),
    Walk(INVESTMENT, "failed", a_page_is_declined, ends("failed")),
    Walk(INVESTMENT, "canceled", canceling.canceled_before_payment_then_paid, ends("canceled")),
    Walk(INVESTMENT, "expired", paying.an_unpaid_page_expires_and_its_late_money_goes_back, ends("expired")),
    Walk(INVESTMENT, "paid_from_the_wallet", paying.the_wallet_pays_at_once, ends("captured")),
    Walk(CAMPAIGN, "funded", settling.a_failed_capture_above_the_floor, ends("funded")),
    Walk(CAMPAIGN, "failed_after_capture", settling.failed_captures_below_the_floor, ends("closed_failed")),
    Walk(CAMPAIGN, "renewed_then_failed", settling.a_card_that_cannot_be_renewed, ends("closed_failed")),
    Walk(CAMPAIGN, "waited_for_slow_money", slow_money.it_arrives_within_the_window, ends("funded")),
    Walk(CAMPAIGN, "nothing_came", slow_money.it_never_arrives, ends("closed_failed")),
    Walk(CAMPAIGN, "rejected", a_campaign_is_rejected, ends("rejected")),
    Walk(CAMPAIGN, "reviewed_scheduled_paused_extended", lifecycle.from_draft_to_funded, ends("funded")),
    Walk(CAMPAIGN, "canceled", lifecycle.canceled_with_money_of_every_kind, ends("closed_failed")),
    Walk(CAMPAIGN, "closed_early", lifecycle.closed_when_the_goal_is_reached, ends("funded")),
    Walk(CAMPAIGN, "never_corrected", lifecycle.never_corrected, ends("rejected")),
    Walk(NOTICES, "another_deadline_and_news", lifecycle.from_draft_to_funded, lambda f: True),
    Walk(SETTLEMENT, "captured_but_one", settling.a_failed_capture_above_the_floor, lambda f: f.detail["failed"] == 1),
    Walk(SETTLEMENT, "looked_up_again", settling.failed_captures_below_the_floor, lambda f: f.timers > 0),
    Walk(SETTLEMENT, "renewals", settling.a_card_that_cannot_be_renewed, ends("done")),
    Walk(SETTLEMENT, "lines_put_back", retrying.test_a_refused_refund_is_asked_for_anew, signaled("line_reported")),
    Walk(REFUND, "of_late_money", canceling.canceled_before_payment_then_paid, ends("succeeded")),
    Walk(REFUND, "after_the_window", slow_money.it_comes_after_the_window_and_goes_back, ends("succeeded")),
    Walk(PAYOUT, "paid", payouts.a_withdrawal_is_paid, ends("succeeded")),
    Walk(PAYOUT, "approved_and_paid", payouts.a_large_one_needs_a_second_person, ends("succeeded")),
    Walk(PAYOUT, "rejected", payouts.a_large_one_needs_a_second_person, ends("rejected")),
    Walk(
        PAYOUT, "looked_up", payouts.a_request_that_never_arrived_is_sent_again_after_the_grace, lambda f: f.timers > 0
    ),
    Walk(PAYOUT, "topped_up", payouts.an_empty_provider_account_is_topped_up, ends("succeeded")),
    Walk(PAYOUT, "canceled", payouts.an_empty_provider_account_is_topped_up, ends("canceled")),
    Walk(PAYOUT, "failed", payouts.a_transfer_that_fails_gives_the_money_back, ends("failed")),
    Walk(PAYOUT, "returned", payouts.money_the_bank_returns_is_in_the_wallet_again, ends("returned")),
    Walk(BENEFICIARY, "verified", payouts.a_withdrawal_is_paid, ends("verified")),
    Walk(BENEFICIARY, "for_a_person", payouts.names_that_differ_are_for_a_person, ends("needs_review")),
    Walk(INBOX, "a_late_event", canceling.canceled_before_payment_then_paid, lambda f: True),
    Walk(INBOX, "late_and_reordered", webhooks.late_and_reordered_webhooks_change_nothing, lambda f: True),
    Walk(DISTRIBUTION, "paid", distributions.from_profit_to_wallets, ends("paid")),
    Walk(DISTRIBUTION, "waited_for_its_money", distributions.unfunded_it_waits, lambda f: f.timers > 0),
    Walk(DISTRIBUTION, "sent_back_then_canceled", distributions.sent_back_then_canceled, ends("canceled")),
    Walk(DISTRIBUTION, "held_line", distributions.a_held_line_is_let_go, ends("partially_paid")),
    Walk(MILESTONE, "completed", milestones.three_tranches_to_completed, ends("completed")),
    Walk(MILESTONE, "voted_and_returned", milestones.missed_and_the_rest_goes_back, returned(1)),
    Walk(MILESTONE, "given_time_then_returned", milestones.missed_then_given_more_time, returned(1)),
    Walk(MILESTONE, "ended_by_a_command", milestones.missed_and_the_rest_goes_back, ends("completed")),
    Walk(MILESTONE, "nothing_to_keep", milestones.a_failed_payout_is_sent_again, lambda f: f.timers == 0),
    Walk(DISTRIBUTION, "through_a_provider", distribution_payouts.some_to_wallets_and_some_to_banks, ends("paid")),
    Walk(CLOCK, "past_a_deadline", settling.a_failed_capture_above_the_floor, lambda f: True),
)
"""Paths of the stack as it is."""

CONTINUED_WALKS = (
    Walk(
        PAYMENT,
        f"{CONTINUED}_while_polling",
        paying.an_unpaid_page_expires_and_its_late_money_goes_back,
        ends(CONTINUED),
    ),
    Walk(
        PAYMENT,
        f"{CONTINUED}_to_its_end",
        paying.an_unpaid_page_expires_and_its_late_money_goes_back,
        lambda facts: facts.is_continuation and facts.result == "expired",
    ),
)
"""Paths of runs that continue as new after `golden.CONTINUED_EVENTS` events."""
