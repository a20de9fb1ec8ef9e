"""Brings a database to the newest schema, and gives the runtime roles their password.

Runs as the owner (`CHAMA_DATABASE_URL`), which needs CREATEROLE the first time. Safe to run any number of times, also
by several at once: an advisory lock lets one through.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine, text

ROLES = ("chama_app", "chama_relay", "chama_audit", "chama_auth", "chama_chain")
_LOCK = 7_210_118


def migrate(owner_url: str, role_password: str) -> None:
    """Apply every migration not yet applied, in one transaction. `owner_url` is postgresql://…"""
    url = owner_url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"select pg_advisory_xact_lock({_LOCK})"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            raw = connection.connection.driver_connection
            assert raw is not None
            for role in ROLES:
                raw.execute(
                    sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(role_password))
                )
    finally:
        engine.dispose()
