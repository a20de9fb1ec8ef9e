"""What counts as stuck, in words a person understands: one list of kinds, and one sentence each on what to do.

A thing is stuck when it should move by itself and does not. Waiting on purpose (a payer, a deadline, slow money) is not.
The limits that belong to a kind of activity stand beside its preset in `workflows/options.py`; all others are here.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final


class StuckKind(StrEnum):
    """The ways of being stuck."""

    TASK_FAILING = "task_failing"
    """The workflow's own code fails, again and again: a defect, or a limit of the server."""
    UNCLAIMED = "unclaimed"
    """Work is offered, and no worker takes it."""
    ACTIVITY_RETRYING = "activity_retrying"
    """A step is tried again and again, beyond what its class allows."""
    OVERDUE = "overdue"
    """It should have acted by itself some time ago."""
    BLOCKED = "blocked"
    """It says itself that it cannot go on without a person."""
    MESSAGE_UNDELIVERED = "message_undelivered"
    """A message to Temporal is not delivered."""
    WEBHOOK_UNPROCESSED = "webhook_unprocessed"
    """A provider's event is stored and not worked on."""
    CALL_UNSETTLED = "call_unsettled"
    """We called a provider, and the outcome is still not recorded."""


FAILED_TASKS: Final = 3
"""A workflow task at a later attempt than this is failing, not unlucky (a crash of its worker costs one attempt)."""
UNCLAIMED_AFTER: Final = timedelta(minutes=1)
"""Workers poll all the time; a restart of all of them takes seconds."""
LATE: Final = timedelta(minutes=3)
"""How long after its time a next action may come: longer than one provider call with its retries."""
LATE_SETTLEMENT: Final = timedelta(minutes=15)
"""A settlement's next action is renewed at the end of a whole pass over its lines."""
MESSAGE_AFTER: Final = timedelta(minutes=1)
WEBHOOK_AFTER: Final = timedelta(minutes=5)
"""Half of the longest pause between two tries of an event whose look-up fails would already be a minute."""
CLAIMED_AFTER: Final = timedelta(minutes=5)
"""A claimed call is under way for at most its activity's 90 seconds; then its successor resolves it."""
UNKNOWN_AFTER: Final = timedelta(hours=1)
"""The first seven look-ups of an unknown outcome take some twenty minutes; a healthy provider has answered by then."""

DO: Final[dict[StuckKind, str]] = {
    StuckKind.TASK_FAILING: "Fix the code and deploy it: the process goes on by itself where it stands. Never terminate it.",
    StuckKind.UNCLAIMED: "See that `chama worker` runs, reaches Temporal, and polls this task queue.",
    StuckKind.ACTIVITY_RETRYING: "Mend the cause; the next try goes on by itself. The worker's log has the whole error.",
    StuckKind.OVERDUE: "Open the process in the Temporal UI. If it does not run any more, tell a developer; change no rows.",
    StuckKind.BLOCKED: "A person must decide: see the cases.",
    StuckKind.MESSAGE_UNDELIVERED: "See that `chama relay` runs and Temporal is up; it is tried again by itself.",
    StuckKind.WEBHOOK_UNPROCESSED: "See that `chama worker` runs and the provider answers; it is tried again by itself.",
    StuckKind.CALL_UNSETTLED: "Ask the provider about the reference; then rule on it, or have a payout checked.",
}
"""What a person does about each kind."""

BLOCKED_DO: Final = {
    "unknown_outcome": "Ask the provider about the reference, then POST /v1/admin/payments/{id}/resolve-unknown.",
    "failed_lines": "Read the settlement's lines, mend the cause, then POST /v1/admin/settlements/{id}/retry-failed-lines.",
    "not_covered": "The campaign's escrow has less than its refunds: find out why, and put it back; it is looked for hourly.",
    "not_funded": "The campaign's owner tops the wallet up, and says so (/fund); or somebody cancels the run.",
    "unpaid_lines": "Read the lines, mend the cause, then POST /v1/admin/distributions/{id}/retry, or close the run.",
    "ledger_differs": "Run `chama audit`: the run's lines and the ledger disagree. Pay nothing until a developer has looked.",
    "payout_unknown": "Ask the provider about the reference, then POST /v1/admin/payouts/{id}/check: it is looked up again.",
    "payout_pending": "Ask the provider what the transfer with that reference waits for: it is looked up twice a day.",
    "payout_mismatch": "The case has both amounts: settle it with the provider; nothing is booked until it agrees.",
    "provider_balance": "Top the provider account up: it is tried again by itself. At once: POST /v1/admin/payouts/{id}/check.",
    "not_sent": "The provider does not answer, or refuses us: see the worker's log, and mend its account. It is tried by itself.",
    "provider_approval": "Approve the transfer at the provider (a one-time password, or its approval endpoint).",
    "refund_pending": "Ask the provider what the refund waits for (often the payer's bank details): it is looked up twice a day.",
    "refund_failed": "Settle it with the payer by another way, and close the case, which names the amount.",
}
"""What a person does about a blocked reason."""

STEPS: Final = {
    "start_attempt": "asking the provider for the payment",
    "check_attempt": "looking up at the provider what became of the payment",
    "capture_attempt": "taking the authorized money",
    "void_attempt": "releasing what the provider holds",
    "load_payment": "reading where the payment stands",
    "apply_ruling": "applying the operator's ruling",
    "advance_refund": "sending the refund, or looking it up",
    "advance_payout": "sending the payout, or looking it up",
    "verify_beneficiary": "asking the bank whose account it is",
    "advance_campaign": "applying what is due to the campaign",
    "settle_range": "settling a range of lines",
    "settlement_progress": "counting the settlement's open lines",
    "advance_distribution": "seeing what the distribution wants next",
    "calculate_distribution": "calculating the distribution's lines",
    "begin_distribution": "releasing the distribution's money to its lines",
    "pay_distribution_range": "paying a range of lines into wallets",
    "send_distribution_range": "sending a range of lines through providers",
    "check_distribution_payouts": "asking providers what became of the distribution's payouts",
    "finish_distribution": "holding the distribution's lines against the ledger",
    "advance_milestones": "applying what is due to a funded campaign's tranches",
    "return_escrow_range": "returning a range of lines from escrow to their holders",
    "drain_inbox": "processing stored webhooks",
    "send_notifications": "telling the people concerned",
    "advance_clock": "moving the test clock",
}
"""Activity → what it is doing."""

REASONS: Final = {
    "connect_failed": "the provider cannot be reached",
    "server_error": "the provider answers with an error of its own",
    "timeout": "the provider does not answer in time",
    "connection_lost": "the connection to the provider breaks",
    "unreadable_answer": "the provider's answer cannot be understood",
    "rate_limited": "the provider asks us to slow down",
    "unauthorized": "the provider refuses our credentials",
    "not_configured": "the provider account's credentials are not set up",
    "provider_unavailable": "the tenant has no active account at the provider",
    "effect_in_flight": "an earlier call is still under way",
    "timed_out": "it did not end in the time it has",
    "unhandled_failure": "an exception nobody expected",
    "payloads_too_large": "a message is larger than Temporal takes (2 MiB)",
    "pending_activities_limit_exceeded": "more than 2,000 activities at once",
    "non_deterministic_error": "the code no longer fits the run's history",
    "OperationalError": "the database does not answer",
    "mail_unreachable": "the mail server does not answer",
    "mail_deferred": "the mail server puts messages off",
    "mail_under_way": "not all messages are out yet",
    "PoolTimeout": "no connection to the database is free",
}
"""Code → what it means."""


def reason(code: str | None) -> str:
    """A code in plain words, with the code itself; the code alone when it has none; a remark when there is no code."""
    if not code:
        return "no reason given"
    return f"{REASONS[code]} ({code})" if code in REASONS else code


def step(activity: str) -> str:
    """What an activity is doing, in plain words."""
    return STEPS.get(activity, f"the step {activity}")
