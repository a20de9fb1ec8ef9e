"""Guards at the edge: who asks, what is asked, and that the same request is one request."""

from typing import Final

from tests.controls.guard import FINDING, Edit, Guard

_COMMANDS: Final = "tests/api/test_commands.py::"
_INPUT: Final = "tests/api/test_input.py::"
_FLIGHT: Final = "if not await command.try_lock(tx, scope, who, task.operation, task.key):"

GUARDS: Final = (
    Guard(
        "answers are kept",
        "C1",
        "the stored answer of an Idempotency-Key is not looked for",
        (
            Edit(
                "api/commands.py",
                "known = await command.find_answer(tx, who, task.operation, task.key)",
                "known = None",
            ),
        ),
        (f"{_COMMANDS}test_replay_is_the_first_answer_to_the_byte_and_says_so",),
    ),
    Guard(
        "a key is one request",
        "C2",
        "the hash of the body is not compared",
        (Edit("api/commands.py", 'if known["body_hash"] != task.body_hash:', "if False:"),),
        (f"{_COMMANDS}test_same_key_for_another_request_is_refused",),
    ),
    Guard(
        "lock on the key",
        "C2",
        "a second request does not notice that the first is running, and waits",
        (Edit("api/commands.py", _FLIGHT, "if False:"),),
        (f"{_COMMANDS}test_in_flight_is_409_and_the_answer_comes_after",),
        shows="TimeoutError",
    ),
    Guard(
        "one stored answer a key",
        "C1",
        "no lock on the key, and a second answer is committed beside the first",
        (Edit("api/commands.py", _FLIGHT, "if False:"), Edit("api/commands.py", "if not stored:", "if False:")),
        (f"{_COMMANDS}test_fifty_copies_of_twenty_keys_make_twenty_effects",),
    ),
    Guard(
        "ids derived from the key",
        "C2",
        "ids are random",
        (
            Edit(
                "api/commands.py",
                "return derive_id(prefix, self.scope, self.principal.user_id, self.operation, self.key, self.request_hash)",
                'return f"{prefix}_{uuid4().hex}"',
            ),
        ),
        (f"{_COMMANDS}test_keys_are_kept_72_hours",),
    ),
    Guard(
        "ids derived from the request",
        "C2",
        "a key that is forgotten gives another request the first one's id",
        (Edit("api/commands.py", "self.operation, self.key, self.request_hash)", "self.operation, self.key)"),),
        (
            f"{_COMMANDS}test_a_forgotten_key_is_a_new_one_for_another_request",
            "tests/api/test_milestones.py::test_a_key_of_long_ago_sends_another_campaigns_money_by_itself",
        ),
    ),
    Guard(
        "policy table, role",
        "E1",
        "a role without the action is let through",
        (
            Edit(
                "api/dependencies.py",
                "if principal.role is None or not may_ask(principal.role, self.action):",
                "if principal.role is None:",
            ),
        ),
        ("tests/api/test_outbox.py::test_admins_see_their_stuck_messages_and_no_content",),
    ),
    Guard(
        "policy table, owner",
        "E1",
        "what belongs to somebody else is shown",
        (Edit("api/policy.py", 'raise NotFound(action.partition(".")[0])', "return"),),
        (
            "tests/api/test_policy.py::test_self_means_oneself",
            "tests/api/test_investing.py::test_a_stranger_sees_no_investment_of_another",
        ),
    ),
    Guard(
        "access token, signature",
        "E6",
        "tokens are read without checking who signed them",
        (
            Edit(
                "api/auth.py",
                'options={"require": _CLAIMS, "strict_aud": True},',
                'options={"require": _CLAIMS, "strict_aud": True, "verify_signature": False},',
            ),
        ),
        ("tests/api/test_auth.py::test_forged_tokens_are_refused",),
    ),
    Guard(
        "access token, user",
        "E6",
        "a disabled user's token is good until it expires",
        (
            Edit(
                "api/dependencies.py",
                "role = await active_role(database, claimed.scope, claimed.user_id)",
                "role = claimed.role",
            ),
        ),
        ("tests/api/test_auth.py::test_a_changed_role_and_a_disabled_user_count_at_once",),
    ),
    Guard(
        "strict integers",
        "A8",
        "true, 10.0 and text pass as amounts",
        (
            Edit("api/envelope.py", 'extra="forbid", strict=True, frozen=True', 'extra="forbid", frozen=True'),
            Edit("api/envelope.py", "Annotated[int, Field(strict=True, ge=1", "Annotated[int, Field(ge=1"),
        ),
        (f"{_INPUT}test_amounts_are_strict",),
    ),
    Guard(
        "no unknown fields",
        "E10",
        "fields nobody asked for are ignored",
        (Edit("api/envelope.py", 'extra="forbid", strict=True', 'extra="ignore", strict=True'),),
        ("tests/hostile/test_extra_fields.py::test_no_model_of_a_body_takes_a_column_it_does_not_name",),
    ),
    Guard(
        "strict JSON",
        "F1",
        "duplicate keys, NaN and huge numbers are read as Python reads them",
        (
            Edit("api/envelope.py", "            parse_constant=_refuse_constant,\n"),
            Edit("api/envelope.py", "            object_pairs_hook=_unique_keys,\n"),
        ),
        (f"{_INPUT}test_what_is_no_json_is_400_in_every_field",),
    ),
    Guard(
        "no echo",
        "F3",
        "a lone surrogate and U+0000 reach the models",
        (Edit("api/envelope.py", "    _check_texts(value)\n    return value", "    return value"),),
        (f"{_INPUT}test_nul_is_422_in_every_text",),
    ),
    Guard(
        "limit on the body",
        "F2",
        "a body may be of any size",
        (
            Edit("api/limits.py", " or int(length) > self._body_max):", "):"),
            Edit("api/limits.py", "if len(body) > self._body_max:", "if False:"),
        ),
        (
            "tests/api/test_limits.py::test_a_declared_large_body_is_413_before_a_byte_of_it",
            "tests/api/test_limits.py::test_a_chunked_large_body_is_413",
        ),
        shows=f"{FINDING}|TimeoutError",
    ),
    Guard(
        "allow list of return addresses",
        "paying",
        "a payer is sent back to any address",
        (Edit("domain/return_url.py", "            return\n    raise refused", "            return"),),
        (
            "tests/domain/test_return_url.py::test_everything_else_is_refused",
            "tests/api/test_investing.py::test_a_payer_is_sent_back_to_listed_places_only",
        ),
    ),
    Guard(
        "webhook signature, Stripe",
        "C6",
        "any signature matches",
        (Edit("activities/gateways/stripe_wire.py", "if not any(matches):", "if False:"),),
        ("tests/api/test_webhooks.py::test_what_the_provider_did_not_sign_leaves_a_fingerprint_only",),
    ),
    Guard(
        "webhook signature, Paystack",
        "C6",
        "any signature matches",
        (
            Edit(
                "activities/gateways/paystack_wire.py",
                "if not hmac.compare_digest(expected, header):",
                "if False:",
            ),
        ),
        ("tests/api/test_webhooks.py::test_what_the_provider_did_not_sign_leaves_a_fingerprint_only",),
    ),
    Guard(
        "webhook secret",
        "C6",
        "an account without a secret checks with an empty one",
        (
            Edit(
                "activities/gateways/stripe_wire.py",
                '    if not secret:\n        raise SignatureRefused("unconfigured")\n',
            ),
        ),
        ("tests/gateways/test_webhooks.py::test_without_a_secret_nothing_passes",),
        quick=True,
    ),
    Guard(
        "webhook timestamp",
        "C6",
        "an old signed event may be sent again",
        (
            Edit(
                "activities/gateways/stripe_wire.py",
                "if abs(now - datetime.fromtimestamp(int(timestamp), UTC)) > _TOLERANCE:",
                "if False:",
            ),
        ),
        ("tests/gateways/test_webhooks.py::test_stripe_timestamp_older_or_from_the_future_is_stale",),
        quick=True,
    ),
    Guard(
        "webhook dedupe",
        "C4, C5",
        "no unique index on account and event",
        (Edit("migrations/versions/v0004_investing.py", ",\n    unique (tenant_id, mode, account_id, event_id)"),),
        ("tests/api/test_webhooks.py::test_the_same_event_many_times_is_stored_once",),
    ),
)
