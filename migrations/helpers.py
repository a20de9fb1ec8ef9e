"""What every tenant table gets: row-level security, forced, and the least privileges. Used by each migration."""

_TENANT = "nullif(current_setting('app.tenant', true), '')::uuid"
_MODE = "nullif(current_setting('app.mode', true), '')"
SCOPE_CHECK = f"tenant_id = {_TENANT} and mode = {_MODE}"
"""True for rows of the transaction's tenant and mode; false, not an error, when none is set."""


def secure(
    table: str, *, app: str = "select, insert, update", scope_check: str = SCOPE_CHECK, **others: str
) -> list[str]:
    """The statements that lock one table down.

    `app` and `others` (relay=, audit=, auth=) are comma lists of privileges. The audit role always reads every tenant;
    other roles named get a policy over all tenants, the app role one over its own scope.
    """
    statements = [
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"create policy {table}_scope on {table} to chama_app, current_user using ({scope_check}) with check ({scope_check})",
        f"create policy {table}_audit on {table} for select to chama_audit using (true)",
        f"grant select on {table} to chama_audit",
    ]
    if app:
        statements.append(f"grant {app} on {table} to chama_app")
    for role, privileges in others.items():
        statements.append(f"grant {privileges} on {table} to chama_{role}")
        statements.append(f"create policy {table}_{role} on {table} to chama_{role} using (true) with check (true)")
    return statements


def append_only(table: str) -> list[str]:
    """Triggers that refuse UPDATE, DELETE and TRUNCATE, whoever asks. Needs the function `refuse_change()` of 0001."""
    return [
        f"create trigger {table}_no_change before update or delete on {table} for each row execute function refuse_change()",
        f"create trigger {table}_no_truncate before truncate on {table} for each statement execute function refuse_change()",
    ]
