"""The `chama` command. Each command imports what it needs when it runs, so that `chama --help` answers at once."""

import asyncio
import os
import sys
from enum import StrEnum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from infra.settings import Settings


class _Plain(TyperGroup):
    """Errors meant for a person are one line and exit code 1; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own context class
        try:
            return super().invoke(ctx)
        except Exception as error:
            text = _for_a_person(error)
            if text is None:
                raise
            typer.echo(f"chama: {text}", err=True)
            raise typer.Exit(1) from error


def _for_a_person(error: Exception) -> str | None:
    """What to tell the person at the terminal; None when the error is not theirs."""
    from psycopg import OperationalError
    from psycopg_pool import PoolTimeout

    from cli.stack.parts import StackFailed
    from domain.errors import DomainError

    if isinstance(error, OperationalError | PoolTimeout):
        return f"The database does not answer. Is the stack running (make up)? {error}"
    return str(error) if isinstance(error, StackFailed | DomainError) else None


app = typer.Typer(
    name="chama",
    cls=_Plain,
    help="Durable community finance: the servers, the embedded stack, and the tools around them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="People.", no_args_is_help=True)
audits = typer.Typer(help="Check the books, and that nobody changed the past.", invoke_without_command=True)
tenants = typer.Typer(help="Organisations that run on Chama.", no_args_is_help=True)
app.add_typer(users, name="user")
app.add_typer(tenants, name="tenant")
app.add_typer(audits, name="audit")

Directory = Annotated[Path, typer.Option("--var", help="Where the embedded stack keeps everything.")]
Hold = Annotated[bool, typer.Option("--hold", hidden=True, help="Import, then wait for a line on standard input.")]
VAR = Path("var")


class RoleName(StrEnum):
    """Who may be made from the command line."""

    ADMIN = "admin"
    BUSINESS_OWNER = "business_owner"
    INVESTOR = "investor"


class ModeName(StrEnum):
    """The two worlds of a tenant."""

    TEST = "test"
    LIVE = "live"


@app.command()
def up(var: Directory = VAR) -> None:
    """Start the whole stack (Postgres, Temporal, sandbox, API, worker, relay) and keep it running until Ctrl-C."""
    from cli.up import environment, run

    raise typer.Exit(run(var, environment()))


@app.command()
def demo(var: Directory = VAR) -> None:
    """Start the stack, drive every story through the public API, check the books, and say what happened."""
    from cli.demo.show import run

    raise typer.Exit(run(var))


@app.command()
def chaos(
    flows: Annotated[int, typer.Option(min=1, max=5_000, help="How many flows each run has.")] = 1_000,
    seeds: Annotated[str, typer.Option(help="One run for each of these numbers.")] = "1,2,3",
    stories: Annotated[str, typer.Option(help="Only stories that begin with one of these, e.g. invest.")] = "",
    matrix: Annotated[bool, typer.Option(help="Then kill a worker at every fault point, one by one.")] = True,
    var: Directory = VAR,
) -> None:
    """Break everything while people invest: kills, provider faults, bad networks; then count what was lost."""
    from cli.chaos.show import run

    numbers = [each.strip() for each in seeds.split(",")]
    if not all(each.isascii() and each.isdigit() for each in numbers):
        raise typer.BadParameter("seeds are whole numbers, with commas between them", param_hint="--seeds")
    prefixes = [each.strip() for each in stories.split(",") if each.strip()]
    raise typer.Exit(run(var, flows=flows, seeds=[int(each) for each in numbers], stories=prefixes, matrix=matrix))


@audits.callback()
def audit(context: typer.Context, var: Directory = VAR) -> None:
    """Check every money invariant, on our side and the providers'."""
    if context.invoked_subcommand is None:
        from cli.audit import run

        raise typer.Exit(run(_settings(var)))
    context.obj = var


@audits.command("verify")
def audit_verify(
    context: typer.Context,
    var: Annotated[Path | None, typer.Option("--var", help="Where the embedded stack keeps everything.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Recompute the hash chains of the ledger and the audit log, and compare them with what was anchored."""
    from cli.verify import run

    raise typer.Exit(run(_settings(var or context.obj), as_json=as_json))


@app.command()
def stuck(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False, var: Directory = VAR
) -> None:
    """Show what should move by itself and does not: what, since when, why, and what to do."""
    from cli.stuck import run

    raise typer.Exit(run(_settings(var), as_json=as_json))


@app.command()
def migrate(var: Directory = VAR) -> None:
    """Bring the database to the newest schema and give the runtime roles their password."""
    from cli.migrate import migrate as apply

    settings = _settings(var)
    apply(settings.database_url, settings.database_role_password.get_secret_value())


@app.command()
def api(hold: Hold = False) -> None:
    """Serve the HTTP API."""
    from cli import serve

    serve.api(hold=hold)


@app.command()
def worker(hold: Hold = False) -> None:
    """Run workflows and activities."""
    from cli import serve

    serve.worker(hold=hold)


@app.command()
def relay(hold: Hold = False) -> None:
    """Deliver the outbox to Temporal."""
    from cli import serve

    serve.relay(hold=hold)


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 9000,
    book: Annotated[Path, typer.Option(help="The providers' own database (SQLite).")] = VAR / "sandbox.db",
    smtp_port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Also catch mail on this port.")] = None,
) -> None:
    """Serve the simulated payment providers and the mail sink."""
    from cli import serve

    serve.sandbox(host, port, book, smtp_port)


@users.command("create")
def user_create(
    email: str,
    role: Annotated[RoleName, typer.Option()],
    name: Annotated[str, typer.Option()] = "",
    tenant: Annotated[str, typer.Option(help="The tenant's public name.")] = "demo",
    mode: Annotated[ModeName, typer.Option()] = ModeName.TEST,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from one line.")] = False,
    var: Directory = VAR,
) -> None:
    """Create a user; the only way to make a tenant's first administrator."""
    from cli.users import add_user
    from contracts.base import Mode
    from models.user import Role

    settings = _settings(var)
    password = (
        sys.stdin.readline().rstrip("\r\n")
        if password_stdin
        else typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    )
    made = add_user(
        settings,
        tenant=tenant,
        mode=Mode(mode),
        email=email,
        name=name or email.partition("@")[0],
        role=Role(role),
        password=password,
    )
    typer.echo(asyncio.run(made))


@tenants.command("create")
def tenant_create(
    slug: Annotated[str, typer.Argument(help="Its public name: a-z, 0-9 and -.")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    zone: Annotated[str, typer.Option(help="IANA time zone of its business date.")] = "Africa/Lagos",
    var: Directory = VAR,
) -> None:
    """Create a tenant, with a test and a live mode."""
    from cli.users import add_tenant

    typer.echo(asyncio.run(add_tenant(_settings(var), slug=slug, name=name, zone=zone)))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("chama"))


def _settings(var: Path) -> "Settings":
    """The environment's settings where it is configured (production), else those of the stack in `var`."""
    if os.environ.get("CHAMA_DATABASE_ROLE_PASSWORD"):
        from infra.settings import Settings

        return Settings()
    from cli.stack.stack import settings_of

    return settings_of(var, os.environ)


if __name__ == "__main__":
    app()
