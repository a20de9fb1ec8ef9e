"""Guards of calls to others: providers through the one helper, Temporal through the outbox, and what both may read."""

from typing import Final

from tests.controls.guard import Edit, Guard

_EFFECTS: Final = "tests/activities/test_effects.py::"
_START: Final = "tests/activities/test_unknown_start.py::"
_OUTBOX: Final = "tests/api/test_outbox.py::"
_TEMPORAL: Final = "tests/api/test_delivery.py::"
_LEASE: Final = 'if effect.exclusive and not found.fresh and found.status == "claimed"'

PROVIDERS: Final = (
    Guard(
        "claim of an effect, unique",
        "B5",
        "each try claims a key of its own",
        (Edit("activities/effects.py", "key=effect.key,", 'key=f"{effect.key}/{asyncio.get_running_loop().time()}",'),),
        (_EFFECTS.removesuffix("::"),),
    ),
    Guard(
        "recorded outcome of an effect",
        "B5",
        "an answered call is resolved as if nobody knew",
        (
            Edit(
                "activities/effects.py",
                'if found.status == "done" and found.result is not None:',
                "if False:",
            ),
        ),
        (f"{_EFFECTS}test_an_answered_call_is_never_made_again",),
    ),
    Guard(
        "an unanswered call is resolved",
        "B5",
        "a call without an answer is simply made again",
        (
            Edit(
                "activities/effects.py",
                "answer = None if found.fresh else await resolve(found)",
                "answer = None",
            ),
        ),
        (f"{_EFFECTS}test_what_nobody_recorded_is_looked_up_not_repeated",),
    ),
    Guard(
        "an effect's key is one request",
        "B5",
        "another request under the same key is let through",
        (Edit("activities/effects.py", "if not found.same_request:", "if False:"),),
        (f"{_EFFECTS}test_a_key_stands_for_one_request",),
    ),
    Guard(
        "lease of an exclusive effect",
        "B5",
        "two callers may be at a rail without keys at once",
        (Edit("activities/effects.py", _LEASE, "if False"),),
        (f"{_EFFECTS}test_an_exclusive_call_is_not_overlapped",),
    ),
    Guard(
        "a settled effect is final",
        "B5",
        "a late outcome replaces the recorded one",
        (Edit("models/effect.py", "where key = %s and status not in ('done', 'failed')", "where key = %s"),),
        (f"{_EFFECTS}test_a_settled_effect_stays_settled",),
    ),
    Guard(
        "Idempotency-Key to Stripe",
        "B5",
        "requests carry no key",
        (Edit("activities/gateways/stripe.py", 'headers={"Idempotency-Key": key}', "headers={}"),),
        ("tests/gateways/test_conformance.py::test_a_lost_answer_charges_once",),
    ),
    Guard(
        "our reference to Paystack",
        "B5",
        "each call carries a reference of its own",
        (
            Edit(
                "activities/gateways/paystack.py",
                '"reference": order.reference,\n        }\n        if order.instrument',
                '"reference": f"{order.reference}-{id(order)}",\n        }\n        if order.instrument',
            ),
        ),
        ("tests/gateways/test_conformance.py::test_a_lost_answer_charges_once",),
    ),
    Guard(
        "unknown blocks everything",
        "B5",
        "a payment whose start nobody answered is captured, voided or started again",
        (Edit("domain/payment.py", "if attempt in (AttemptStatus.UNKNOWN, AttemptStatus.STARTED):", "if False:"),),
        ("tests/domain/test_payment.py::test_an_unknown_outcome_is_only_looked_up",),
        quick=True,
    ),
    Guard(
        "lifetime of a rail's key",
        "B5",
        "a key the provider has forgotten is used as if it still held",
        (
            Edit(
                "activities/attempts.py",
                "if able.resolution is Resolution.REPLAY and found.known_seconds < able.replay_lifetime.total_seconds():",
                "if able.resolution is Resolution.REPLAY:",
            ),
        ),
        (f"{_START}test_an_old_key_is_looked_up_not_repeated",),
        quick=True,
    ),
    Guard(
        "grace before absence counts",
        "B5",
        "a payment the provider does not list yet counts as never made",
        (
            Edit(
                "activities/attempts.py",
                "if found.age_seconds < able.not_found_grace.total_seconds() and not harmless:",
                "if False:",
            ),
        ),
        (f"{_START}test_absence_within_the_grace_period_proves_nothing",),
        quick=True,
    ),
)

TEMPORAL: Final = (
    Guard(
        "order of the outbox",
        "B8",
        "a message does not wait for the earlier ones of its key",
        (
            Edit(
                "models/outbox.py",
                "          and earlier.id < o.id and earlier.delivered_at is null)\n    order by",
                "          and false)\n    order by",
            ),
        ),
        (f"{_OUTBOX}test_two_relays_deliver_each_message_once_and_in_order",),
    ),
    Guard(
        "lease of an outbox message",
        "B8",
        "what one relay has in hand is due for the next",
        (Edit("models/outbox.py", "next_attempt_at = now() + %(lease)s", "next_attempt_at = now()"),),
        (f"{_OUTBOX}test_a_claim_never_waits_and_never_takes_twice",),
    ),
    Guard(
        "lease of a message to a person",
        "B8",
        "what one sender has in hand is sent by the next one, too",
        (
            Edit(
                "models/notification.py",
                "and (next_try_at is null or next_try_at <= now())\n               order by",
                "order by",
            ),
        ),
        ("tests/activities/test_notifications.py::test_two_senders_send_each_message_once",),
    ),
    Guard(
        "ids in the order of commits",
        "B8",
        "writers of one key do not wait for each other",
        (
            Edit(
                "models/outbox.py",
                "select pg_advisory_xact_lock(hashtextextended('outbox/' || %(order_key)s, 0))",
                "select %(order_key)s::text",
            ),
        ),
        (f"{_OUTBOX}test_ids_of_one_key_follow_the_commits",),
    ),
    Guard(
        "workflow ids are not used again",
        "D: a repeated start is one",
        "a start may run a finished workflow again",
        (
            Edit(
                "infra/delivery.py",
                "else WorkflowIDReusePolicy.REJECT_DUPLICATE",
                "else WorkflowIDReusePolicy.ALLOW_DUPLICATE",
            ),
        ),
        (f"{_TEMPORAL}test_a_repeated_start_is_one_workflow",),
    ),
    Guard(
        "request id of a signal",
        "D: a repeated signal is one",
        "each delivery of a signal is a new one",
        (Edit("infra/delivery.py", 'request_id=f"outbox-{message.id}"', 'request_id=f"{time.monotonic_ns()}"'),),
        (f"{_TEMPORAL}test_a_repeated_signal_is_heard_once",),
    ),
    Guard(
        "strict workflow sandbox",
        "D: no careless import",
        "a heavy import in a workflow file is only made again on every run",
        (
            Edit(
                "infra/temporal.py",
                "        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT\n"
                "        | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH\n",
                "        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT\n",
            ),
        ),
        ("tests/workflows/test_sandbox.py::test_an_import_outside_the_passthrough_block_is_refused",),
    ),
    Guard(
        "payload codec",
        "F4",
        "inputs and results are stored as they are",
        (Edit("infra/temporal.py", "        payload_codec=EncryptionCodec.from_settings(settings),\n"),),
        ("tests/api/test_temporal_payloads.py::test_inputs_are_ciphertext",),
        quick=True,
    ),
    Guard(
        "encoded attributes of failures",
        "F4",
        "error messages and stack traces are stored as they are",
        (
            Edit(
                "infra/temporal.py",
                "        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,\n",
            ),
        ),
        ("tests/api/test_temporal_payloads.py::test_the_words_of_a_failure_are_ciphertext",),
        quick=True,
    ),
    Guard(
        "a payload's key is authenticated",
        "F5",
        "the key's id is not part of what is sealed",
        (
            Edit(
                "infra/crypto.py",
                "data=_seal(cipher, payload.SerializeToString(), key_id)",
                'data=_seal(cipher, payload.SerializeToString(), b"")',
            ),
            Edit(
                "infra/crypto.py",
                "Payload.FromString(_open(cipher, payload.data, key_id))",
                'Payload.FromString(_open(cipher, payload.data, b""))',
            ),
        ),
        ("tests/api/test_crypto.py::test_unknown_wrong_and_swapped_keys_fail_closed",),
        quick=True,
    ),
    Guard(
        "a sealed secret has one purpose",
        "F5",
        "one tenant's credential opens as another's",
        (
            Edit(
                "infra/crypto.py",
                "_seal(self._cipher, secret.encode(), purpose.encode())",
                '_seal(self._cipher, secret.encode(), b"")',
            ),
            Edit(
                "infra/crypto.py",
                "SecretStr(_open(self._cipher, data, purpose.encode()).decode())",
                'SecretStr(_open(self._cipher, data, b"").decode())',
            ),
        ),
        ("tests/api/test_crypto.py::test_the_vault_opens_only_for_the_same_purpose",),
        quick=True,
    ),
    Guard(
        "logs without secrets",
        "F7",
        "values are logged whatever they are called",
        (Edit("infra/logging.py", 'event[name] = "***"', "pass"),),
        ("tests/api/test_crypto.py::test_logs_star_secrets_and_leave_out_exception_messages",),
        quick=True,
    ),
)
