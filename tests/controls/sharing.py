"""Guards of who may take part, of what is shared out among holders, and of money that leaves."""

from typing import Final

from tests.controls.guard import FINDING, Edit, Guard

_SQL: Final = "migrations/sql/distributions.sql"
_RUNS: Final = "tests/activities/test_distributions.py::"
_DECLARED: Final = "tests/api/test_distributions.py::"
_STEPS: Final = "tests/activities/test_payout_steps.py::"
_PAYOUTS: Final = "tests/api/test_payouts.py::"
_FROZEN: Final = (f"{_RUNS}test_the_database_keeps_what_was_calculated",)

ELIGIBILITY: Final = (
    Guard(
        "eligibility, at the pledge",
        "E1",
        "a campaign takes investors it has ruled out",
        (Edit("domain/eligibility.py", "if may_invest(", "if True or may_invest("),),
        ("tests/api/test_eligibility.py::test_a_campaign_takes_only_whom_it_asked_for",),
    ),
    Guard(
        "eligibility, as a term",
        "E1",
        "whom a campaign takes may be changed after its approval",
        (
            Edit(
                "migrations/versions/v0009_eligibility.py",
                "when (old.status not in ('draft', 'changes_requested')\n",
                "when (false\n",
            ),
        ),
        ("tests/api/test_eligibility.py::test_what_is_asked_is_fixed_once_approved",),
    ),
    Guard(
        "the feed's public part",
        "E1",
        "what nobody has approved is listed for everybody",
        (Edit("migrations/versions/v0011_feed.py", "select status not in (", "select true or status not in ("),),
        ("tests/api/test_feed.py::test_only_what_was_approved_is_public",),
    ),
)

DISTRIBUTIONS: Final = (
    Guard(
        "one distribution a period, unique",
        "A2",
        "no unique index on a campaign's period",
        (Edit(_SQL, "create unique index distributions_one_a_period", "create index distributions_one_a_period"),),
        (f"{_RUNS}test_a_period_counts_once",),
    ),
    Guard(
        "terms of a run are fixed",
        "A6",
        "the trigger on a run's terms and figures lets a change pass",
        (
            Edit(
                _SQL,
                "    raise exception 'the terms and figures of distribution % are fixed', old.id"
                " using errcode = 'check_violation';",
                "    return new;",
            ),
        ),
        _FROZEN,
    ),
    Guard(
        "figures of a line are fixed",
        "A6",
        "the trigger on a line's figures lets a change pass",
        (
            Edit(
                _SQL,
                "    raise exception 'the figures of line % of % are fixed', old.line_no, old.distribution_id"
                " using errcode = 'check_violation';",
                "    return new;",
            ),
        ),
        _FROZEN,
    ),
    Guard(
        "lines come and go in the calculation only",
        "A6",
        "an approved run may lose lines",
        (
            Edit(
                _SQL,
                "create trigger distribution_lines_deleted after delete on distribution_lines\n"
                "    referencing old table as changed for each statement execute function distribution_lines_of_calculation();",
            ),
        ),
        _FROZEN,
    ),
    Guard(
        "funded before it pays",
        "A4",
        "a run whose money is not there begins to pay",
        (Edit("activities/distributions.py", "if run.status is not _D.FUNDING or not run.hold_placed:", "if False:"),),
        (f"{_RUNS}test_without_its_money_it_waits_and_nothing_moves",),
        shows=f"{FINDING}|domain.errors|models.ledger|temporalio.exceptions.ApplicationError",
    ),
    Guard(
        "a distribution's second person",
        "E1",
        "whoever declared a run may approve it",
        (Edit("domain/distribution_run.py", "if approver in others:", "if False:"),),
        (f"{_DECLARED}test_nobody_approves_what_is_their_own",),
    ),
    Guard(
        "lines against the ledger",
        "A7",
        "a run is called paid whatever the ledger says",
        (
            Edit(
                "activities/distributions.py",
                'blocked = "unpaid_lines" if agrees else "ledger_differs"',
                'blocked = "unpaid_lines"',
            ),
        ),
        (f"{_RUNS}test_a_run_whose_lines_the_ledger_does_not_know_is_not_paid",),
    ),
)

PAYOUTS: Final = (
    Guard(
        "a payout's second person",
        "E1",
        "whoever asked for a payout may approve it",
        (Edit("domain/payout.py", "if decided_by in (requested_by, owner_id):", "if False:"),),
        (f"{_PAYOUTS}test_nobody_decides_about_his_own_payout",),
        shows=f"{FINDING}|psycopg.errors.CheckViolation",
    ),
    Guard(
        "approval of large payouts",
        "E1",
        "each payout is looked at alone, not with what left the same day",
        (
            Edit(
                "domain/payout.py",
                "over = amount_minor + left_lately_minor >= approval_minor",
                "over = amount_minor >= approval_minor",
            ),
        ),
        (f"{_PAYOUTS}test_the_tenants_limit_counts_a_days_payouts_together",),
    ),
    Guard(
        "verified beneficiaries",
        "B5",
        "money is sent to an account that nobody has checked",
        (Edit("api/payouts.py", "    check_payable(found.status)\n"),),
        (f"{_PAYOUTS}test_an_unverified_beneficiary_is_not_paid",),
    ),
    Guard(
        "one's own beneficiary",
        "E1",
        "money is sent to somebody else's beneficiary",
        (
            Edit(
                "api/payouts.py",
                "if found is None or found.owner_id != owner_id:",
                "if found is None:",
            ),
        ),
        (f"{_PAYOUTS}test_somebody_elses_beneficiary_does_not_exist",),
    ),
    Guard(
        "what was sent is not canceled",
        "A5",
        "a payout that the provider may know of gives its money back",
        (Edit("domain/payout.py", "if status not in CANCELABLE:", "if False:"),),
        (f"{_PAYOUTS}test_what_may_have_been_sent_is_not_canceled",),
    ),
    Guard(
        "an unknown payout is looked up",
        "B5",
        '"absent" counts as never sent, at once',
        (
            Edit(
                "activities/payout_steps.py",
                "if earlier.age_seconds < rail.capabilities.not_found_grace.total_seconds():",
                "if False:",
            ),
        ),
        (f"{_STEPS}test_an_unknown_outcome_is_not_sent_again",),
    ),
    Guard(
        "a known payout that vanishes",
        "B5",
        "a transfer that the provider once confirmed is given up when it is not found",
        (
            Edit(
                "activities/payout_steps.py",
                "if answer.fact is PayoutFact.ABSENT and payout.status is not _P.FAILED:",
                "if False:",
            ),
        ),
        (f"{_STEPS}test_a_known_transfer_that_vanishes_proves_nothing",),
    ),
    Guard(
        "a payout's amount",
        "B4",
        "a transfer of another amount is booked as asked",
        (Edit("activities/payout_steps.py", "if not as_asked(payout, answer):", "if False:"),),
        (f"{_STEPS}test_another_amount_is_not_booked",),
    ),
    Guard(
        "a payout's end is its end",
        "B3",
        "what failed, and gave its money back, is booked as sent after all",
        (
            Edit(
                "activities/payout_steps.py",
                "if payout.status is _P.FAILED:\n            return await self._late",
                "if False:\n            return await self._late",
            ),
        ),
        (f"{_STEPS}test_a_no_that_is_taken_back_is_a_case",),
    ),
)

_RELEASE: Final = "tests/api/test_milestones.py::"
_VOTES: Final = "tests/activities/test_milestones.py::"
_BACK: Final = "tests/activities/test_chargebacks.py::"
_V13: Final = "migrations/versions/v0013_milestones.py"

RELEASES: Final = (
    Guard(
        "a milestone's second person",
        "E1",
        "an owner judges the evidence of its own milestone",
        (Edit("domain/milestone.py", "if reviewer in (owner, submitted_by):", "if False:"),),
        ("tests/domain/test_milestone.py::test_when_evidence_is_taken_and_judged",),
        quick=True,
    ),
    Guard(
        "released once",
        "A2",
        "money that is on its way is released again",
        (
            Edit(
                "domain/milestone.py",
                "if status in GOES_BACK or (status is _T.RELEASED and sent):",
                "if False:",
            ),
        ),
        ("tests/domain/test_milestone.py::test_what_an_owner_may_ask_for",),
        quick=True,
    ),
    Guard(
        "what a tranche was planned as",
        "A6",
        "the trigger lets planned, frozen and paid figures change",
        (
            Edit(
                _V13,
                "    raise exception 'what was planned, frozen or paid in % is fixed', tg_table_name"
                " using errcode = 'check_violation';",
                "    return new;",
            ),
        ),
        (f"{_RELEASE}test_what_was_planned_or_paid_cannot_be_changed_by_any_statement",),
    ),
    Guard(
        "an owner does not vote",
        "E1",
        "the campaign's owner votes about the money of the others",
        (Edit("models/milestone_vote.py", "h.holder_id <> %(owner)s::text", "true"),),
        (f"{_VOTES}test_the_owner_holds_and_does_not_vote",),
    ),
    Guard(
        "who was charged back holds nothing",
        "A7",
        "money goes back to who has it back already",
        (
            Edit(
                "models/milestone_vote.py",
                "and status = 'captured' and charged_back_at is null\n",
                "and status = 'captured'\n",
            ),
            Edit(
                "domain/chargeback.py",
                "    if not any(each.charged_back for each in parts):\n",
                "    if True:\n",
            ),
        ),
        (
            f"{_VOTES}test_who_votes_is_frozen_when_it_opens",
            f"{_BACK}test_a_return_gives_the_others_no_more_than_theirs",
        ),
    ),
    Guard(
        "what a bank took back is refunded no more",
        "A7",
        "the refund of a charged-back pledge is asked for, with the others or alone",
        (
            Edit("activities/bulk_settlements.py", " and not piece.charged_back and", " and"),
            Edit(
                "activities/refund_steps.py",
                "pledge is not None and pledge.charged_back_at is not None and",
                "False and",
            ),
        ),
        (f"{_BACK}test_a_settlement_gives_back_what_no_bank_took_back",),
    ),
)

_CHUNKS: Final = "tests/activities/test_bulk_settlements.py::"
_MANY: Final = "tests/activities/test_bulk_effects.py::"

CHUNKS: Final = (
    Guard(
        "many calls, only fresh ones",
        "B5",
        "a call whose outcome nobody recorded is made again with the others",
        (Edit("activities/bulk_effects.py", "    if not found.fresh:\n", "    if False:\n"),),
        (f"{_MANY}test_what_nobody_recorded_is_never_repeated",),
    ),
    Guard(
        "many calls, in time",
        "B5",
        "a call begins however long ago it was claimed",
        (Edit("activities/bulk_effects.py", "    if time.monotonic() >= latest:\n", "    if False:\n"),),
        (f"{_MANY}test_a_call_that_comes_too_late_is_not_made",),
    ),
    Guard(
        "refunds are covered",
        "A4",
        "the first refunds are paid though the escrow does not cover all",
        (Edit("activities/settlements.py", "if settlement.blocked_reason == NOT_COVERED:", "if False:"),),
        (f"{_CHUNKS}test_refunds_that_are_not_covered_wait_and_say_so",),
    ),
    Guard(
        "dealt with by another way",
        "A2",
        "a line whose case was closed by hand is retried with the others",
        (Edit("models/settlement.py", "'failed' and dealt_with_at is null returning", "'failed' returning"),),
        (f"{_CHUNKS}test_a_retry_leaves_out_what_was_dealt_with_by_another_way",),
        shows=f"{FINDING}|psycopg.errors.CheckViolation",  # the next guard behind it: only what failed is dealt with
    ),
)

PAGES: Final = (
    Guard(
        "a cover's visibility",
        "E1",
        "a cover is shown to whoever knows its campaign's id",
        (
            Edit(
                "models/cover.py",
                "where x.id = $2 and x.cover is not null and {SEEN})",
                "where x.id = $2 and x.cover is not null)",
            ),
        ),
        ("tests/api/test_covers.py::test_a_cover_is_seen_by_who_sees_the_campaign",),
    ),
)
