"""Guards of the ledger and of what a provider's word may do to it."""

from typing import Final

from tests.controls.guard import FINDING, Edit, Guard

_TABLES_SQL: Final = "migrations/sql/ledger_transfers.sql"
_FLOOR_SQL: Final = "migrations/sql/ledger_posting.sql"
_POST_SQL: Final = "migrations/sql/ledger_transfers_posting.sql"
_CODE_SQL: Final = "migrations/sql/ledger_by_code.sql"
_NEW_SQL: Final = "migrations/sql/ledger_post_new.sql"
_NEW: Final = "tests/models/test_ledger_new.py::"
_OWN: Final = "b.tenant_id = v_tenant and b.mode = v_mode and "
_TO_D: Final = "\n        returning b.account_id into d_id;\n"
_TO_C: Final = "\n        returning b.account_id into c_id;\n"
_ADD: Final = "tests/models/test_ledger_add.py::"
_RACES: Final = "tests/models/test_ledger_races.py::"
_GUARDS: Final = "tests/models/test_ledger_guards.py::"
_POSTING: Final = "tests/models/test_ledger_posting.py::"
_TABLES: Final = "tests/api/test_tables.py::"
_FACTS: Final = "tests/activities/test_payment_facts.py::"
_INVESTING: Final = "tests/models/test_investing_guards.py::"

LEDGER: Final = (
    Guard(
        "ledger key, unique",
        "A1, A2",
        "no unique index on a posting's key",
        (
            Edit(_TABLES_SQL, "add primary key (key, tenant_id, mode, part), "),
            Edit(_CODE_SQL, " 3)\n        on conflict (key, tenant_id, mode, part) do", " 3)\n        on conflict do"),
            Edit(
                _CODE_SQL,
                "            on conflict (key, tenant_id, mode, part) do nothing",
                "            on conflict do nothing",
            ),
        ),
        (f"{_RACES}test_copies_of_one_posting",),
    ),
    Guard(
        "what a taken key moved is moved back",
        "A3",
        "a posting whose key is taken has moved its balances once more",
        (
            Edit(
                _CODE_SQL,
                "returning id into v_id;\n    if v_id is null then",
                "returning id into v_id;\n    if false then",
            ),
        ),
        (f"{_ADD}test_what_it_cannot_write_moves_nothing", f"{_RACES}test_copies_of_one_posting"),
    ),
    Guard(
        "ledger key, one posting",
        "A2",
        "another posting under a taken key is taken for the first",
        (Edit(_POST_SQL, "if r.payload_hash = r.hash then", "if r.id is not null then"),),
        (f"{_POSTING}test_a_key_stands_for_one_posting",),
    ),
    Guard(
        "ledger key, twice in a batch",
        "A1",
        "a batch may hold one key twice",
        (Edit(_POST_SQL, "raise exception 'a key stands twice in one batch' using errcode = 'CH002';", "exit;"),),
        (f"{_GUARDS}test_the_function_refuses_a_key_twice",),
    ),
    Guard(
        "zero sum, in the database",
        "A1",
        "a transfer may move nothing, move backwards, or to where it comes from",
        (Edit(_TABLES_SQL, "check (amount_minor > 0 and debit_id <> credit_id)", "check (true)"),),
        (f"{_GUARDS}test_nobody_inserts_unbalanced_entries",),
    ),
    Guard(
        "zero sum, in the domain",
        "A1",
        "an unbalanced posting may be made",
        (Edit("domain/accounts.py", "if any(sums.values()):", "if False:"),),
        ("tests/domain/test_accounts.py",),
        quick=True,
    ),
    Guard(
        "floor of a bounded account",
        "A4",
        "a balance may go below zero",
        (Edit(_FLOOR_SQL, "if available < 0 then", "if false then"),),
        (f"{_RACES}test_thirty_two_writers_and_money_for_exactly_k",),
    ),
    Guard(
        "holds count against the floor",
        "A4",
        "only posted money is looked at",
        (
            Edit(
                _FLOOR_SQL,
                "case when d.debit_normal then d.posted - d.credit else -d.posted - d.debit end;",
                "case when d.debit_normal then d.posted else -d.posted end;",
            ),
        ),
        (f"{_RACES}test_thirty_two_writers_and_money_for_exactly_k",),
    ),
    Guard(
        "what lowers nothing lowers nothing",
        "A4",
        "a bounded account may be lowered without a look at what it has",
        (
            Edit(_CODE_SQL, f" and b.debits_freely{_TO_D}        update", f"{_TO_D}        update"),
            Edit(_CODE_SQL, f" and b.debits_freely{_TO_D}    end if", f"{_TO_D}    end if"),
        ),
        (f"{_ADD}test_what_it_cannot_write_moves_nothing",),
    ),
    Guard(
        "a balance's own tenant",
        "E2",
        "a posting moves the balances of every tenant that has an account of that code",
        (
            Edit(_CODE_SQL, f"{_OWN}b.debits_freely{_TO_D}        update", f"b.debits_freely{_TO_D}        update"),
            Edit(_CODE_SQL, f"{_OWN}b.credits_freely{_TO_C}    else", f"b.credits_freely{_TO_C}    else"),
        ),
        (f"{_ADD}test_the_same_code_elsewhere_is_not_touched",),
    ),
    Guard(
        "floor of a batch of new money",
        "A4",
        "a batch may take a wallet below zero",
        (Edit(_NEW_SQL, "b.pending_debit_minor - d.debit end >= 0)", "b.pending_debit_minor - d.debit end >= -1000)"),),
        (f"{_NEW}test_what_it_cannot_write_moves_nothing",),
    ),
    Guard(
        "a batch's own tenant",
        "E2",
        "a batch moves the balances of every tenant that has accounts of those codes",
        (Edit(_NEW_SQL, " and b.tenant_id = v_tenant and b.mode = v_mode"),),
        (f"{_NEW}test_the_same_codes_elsewhere_are_not_touched",),
    ),
    Guard(
        "sums lie beside their accounts",
        "A3",
        "an account that no transfer names shifts the sums of the others",
        (Edit(_NEW_SQL, "if cardinality(v_debit) is distinct from cardinality(p_codes) then", "if false then"),),
        (f"{_NEW}test_an_account_no_transfer_names_is_refused",),
        shows=f"{FINDING}|psycopg.errors.NotNullViolation",
    ),
    Guard(
        "floor over all stripes",
        "A4",
        "each writer looks at its own stripe of the balance",
        (
            Edit(
                _FLOOR_SQL,
                "where b.account_id = any (p_ids) group by",
                "where b.account_id = any (p_ids) and b.stripe = pg_backend_pid() % b.stripes group by",
            ),
        ),
        (f"{_POSTING}test_a_striped_account_keeps_its_bound_over_all_stripes",),
        shows=f"{FINDING}|domain.accounts.InsufficientFunds",  # money that lies in another stripe is refused
    ),
    Guard(
        "a hold is resolved once",
        "A5",
        "the index on a posting's target is not unique",
        (Edit(_TABLES_SQL, "create unique index ledger_transfers_target", "create index ledger_transfers_target"),),
        (f"{_RACES}test_one_hold_with_rivals_that_start_together",),
    ),
    Guard(
        "one currency a transfer",
        "A1",
        "what leaves an account in one currency comes into another",
        (
            Edit(_CODE_SQL, "and c_id is not null and right(p_debit, 3) = right(p_credit, 3)", "and c_id is not null"),
            Edit(_CODE_SQL, "if d_currency = c_currency and", "if"),
            Edit(_CODE_SQL, "elsif d_currency <> c_currency then", "elsif false then"),
            Edit(_POST_SQL, "where v_currencies[i.debit] <> v_currencies[i.credit])", "where false)"),
        ),
        (f"{_GUARDS}test_both_doors_refuse_two_currencies",),
    ),
    Guard(
        "one currency a batch",
        "A1",
        "a batch of new money says any currency of its accounts",
        (Edit(_NEW_SQL, "               and right(d.code, 3) = p_currency\n"),),
        (f"{_NEW}test_what_is_no_transfer_is_refused",),
    ),
    Guard(
        "balances are locked in order",
        "A3",
        "a posting locks the debited account first, whichever code is the lower",
        (
            Edit(_CODE_SQL, 'if p_debit collate "C" < p_credit then\n        update', "if true then\n        update"),
            Edit(_CODE_SQL, 'if p_debit collate "C" < p_credit then\n        done', "if true then\n        done"),
        ),
        (f"{_RACES}test_opposite_postings_do_not_deadlock",),
        shows=f"{FINDING}|psycopg.errors.DeadlockDetected",
    ),
    Guard(
        "a batch locks balances in order",
        "A3",
        "a batch of new money locks balances as they come",
        (Edit(_NEW_SQL, '\n                     order by c.code collate "C") d', ") d"),),
        (f"{_NEW}test_balances_are_locked_in_the_order_of_codes_whatever_the_callers",),
        shows=f"{FINDING}|psycopg.errors.DeadlockDetected",
    ),
    Guard(
        "a lapsed hold is not posted",
        "A5",
        "a hold may be captured after its expiry",
        (Edit(_POST_SQL, "elsif r.phase = 'post' and r.effective_at >= r.expires_at then", "elsif false then"),),
        (f"{_POSTING}test_void_and_expiry_free_the_money",),
    ),
    Guard(
        "no more than was held",
        "A5",
        "a hold may be posted for more than its amount",
        (Edit(_POST_SQL, "elsif r.amount > r.held or", "elsif"),),
        (f"{_POSTING}test_a_hold_is_posted_in_part_and_the_rest_released",),
    ),
    Guard(
        "append-only triggers",
        "A6",
        "the trigger lets a change pass",
        (
            Edit(
                "migrations/versions/v0001_foundation.py",
                "    raise exception 'table % is append-only', tg_table_name using errcode = 'insufficient_privilege';\n",
                "    return coalesce(new, old);\n",
            ),
        ),
        (f"{_GUARDS}test_the_trigger_refuses_even_the_owner", f"{_TABLES}test_logs_are_append_only_for_app_and_owner"),
    ),
    Guard(
        "privileges of the app role",
        "A6, E2",
        "the app role may write the ledger's tables itself",
        (
            Edit(
                "migrations/versions/v0003_ledger.py",
                'secure(table, app="select")',
                'secure(table, app="select, insert, update, delete, truncate")',
            ),
            Edit(
                "migrations/versions/v0007_transfers.py",
                'secure(TABLE, app="select", chain',
                'secure(TABLE, app="select, insert, update, delete, truncate", chain',
            ),
        ),
        (f"{_GUARDS}test_the_app_role_may_change_nothing",),
    ),
    Guard(
        "row-level security, reading",
        "E2",
        "every tenant's rows are seen",
        (Edit("migrations/helpers.py", "using ({scope_check}) with check", "using (true) with check"),),
        (f"{_TABLES}test_rows_are_seen_in_their_own_tenant_and_mode_only",),
    ),
    Guard(
        "row-level security, writing",
        "E2",
        "rows of another tenant may be written",
        (Edit("migrations/helpers.py", "with check ({scope_check})", "with check (true)"),),
        (f"{_TABLES}test_one_tenant_cannot_write_into_another",),
    ),
    Guard(
        "row-level security, forced",
        "E2",
        "the tables' owner is not bound by it",
        (Edit("migrations/helpers.py", '        f"alter table {table} force row level security",\n'),),
        (f"{_TABLES}test_security_is_forced",),
    ),
    Guard(
        "scope ends with its transaction",
        "E2",
        "the next borrower of a connection inherits the tenant",
        (
            Edit(
                "infra/database.py",
                "\"set local app.tenant = '%s'\", \"set local app.mode = '%s'\"",
                "\"set app.tenant = '%s'\", \"set app.mode = '%s'\"",
            ),
        ),
        (f"{_INVESTING}test_a_scope_is_gone_with_its_transaction",),
    ),
    Guard(
        "nothing runs before its BEGIN",
        "E2",
        "a statement may go past what begins its transaction",
        (Edit("infra/database.py", "if self._opening:\n            raise", "if False:\n            raise"),),
        ("tests/models/test_transactions.py::test_nothing_runs_before_its_begin",),
    ),
    Guard(
        "what could not begin is closed",
        "E2",
        "a connection that did not begin, or is still turned to sending without waiting, is lent again",
        (Edit("infra/database.py", "            self._close_unless_begun()\n"),),
        (
            "tests/models/test_transactions.py::test_a_begin_that_fails_is_not_passed_over",
            "tests/models/test_transactions.py::test_one_that_is_given_up_while_it_begins_leaves_no_half_of_it",
        ),
    ),
)

INVESTING: Final = (
    Guard(
        "lock on the campaign's row",
        "A9",
        "places and limits are checked without it",
        (
            Edit(
                "api/investing.py",
                "get_campaign(unit.tx, campaign_id, lock=lock)",
                "get_campaign(unit.tx, campaign_id)",
            ),
        ),
        ("tests/api/test_investing.py",),
    ),
    Guard(
        "cap, in the database",
        "A9",
        "no constraint on the sum of the counters",
        (
            Edit(
                "migrations/versions/v0004_investing.py",
                ",\n    check (pledged_minor + held_minor + captured_minor <= cap_minor)",
            ),
        ),
        (f"{_INVESTING}test_the_cap_holds_whoever_counts",),
    ),
    Guard(
        "terminal states, in the domain",
        "paying",
        "a failed payment may still succeed",
        (
            Edit(
                "domain/payment.py",
                "        _P.IN_REVIEW: frozenset({_P.SUCCEEDED, _P.FAILED}),\n",
                "        _P.IN_REVIEW: frozenset({_P.SUCCEEDED, _P.FAILED}),\n        _P.FAILED: frozenset({_P.SUCCEEDED}),\n",
            ),
        ),
        ("tests/domain/test_payment.py::test_terminal_is_terminal",),
        quick=True,
    ),
    Guard(
        "terminal states, in SQL",
        "paying",
        "a status is changed whatever it is",
        (
            Edit(
                "models/base.py",
                "where id = %(row_id)s and status = any(%(sources)s)",
                "where id = %(row_id)s",
            ),
        ),
        (
            f"{_INVESTING}test_no_statement_moves_a_payment_out_of_its_end",
            f"{_INVESTING}test_of_two_ends_at_once_one_wins",
        ),
    ),
    Guard(
        "amount and currency are compared",
        "paying",
        "what the provider reports is taken for what was asked",
        (
            Edit(
                "domain/payment.py",
                "return got_minor == asked_minor and got_currency is not None and got_currency.upper() == asked_currency",
                "return True",
            ),
        ),
        (
            "tests/domain/test_payment.py::test_amount_integrity",
            f"{_FACTS}test_another_amount_is_never_booked_as_the_payment",
        ),
    ),
    Guard(
        "late money",
        "late money goes back",
        "money for an ended payment is booked as the payment's",
        (
            Edit(
                "activities/payment_facts.py",
                "    elif book.over_for_money:\n        await late_capture(book, answer)\n",
            ),
        ),
        (f"{_FACTS}test_money_after_the_end_is_a_case_and_goes_back",),
    ),
    Guard(
        "case of late money",
        "late money goes back",
        "money that came too late is sent back without a case",
        (
            Edit(
                "activities/late_money.py",
                '    await _open(book, "late_success", {"fact": "captured", "amount_minor": book.attempt.amount_minor})\n',
            ),
        ),
        (f"{_FACTS}test_money_after_the_end_is_a_case_and_goes_back",),
    ),
    Guard(
        "late authorization",
        "late money goes back",
        "an authorization for an ended payment is booked as a hold",
        (
            Edit(
                "activities/payment_facts.py", "    elif book.over_for_money:\n        await late_authorization(book)\n"
            ),
        ),
        (f"{_FACTS}test_a_late_authorization_is_a_case_and_no_hold",),
    ),
    Guard(
        "a fact is applied once",
        "C4, C5",
        "a capture that is told again is applied again",
        (
            Edit(
                "activities/payment_facts.py",
                "    if book.attempt.captured_minor:\n        return\n    if answer.captured_minor:",
                "    if answer.captured_minor:",
            ),
        ),
        (f"{_FACTS}test_a_capture_told_three_times_is_booked_once",),
        shows=r"domain\.accounts\.LedgerKeyConflict",  # the next guard behind it: the ledger's key
    ),
)
