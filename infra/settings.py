"""Every setting of every process, read once from `CHAMA_*` environment variables. No other module reads the environment."""

from functools import cached_property
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Frozen configuration. Secrets print as stars."""

    model_config = SettingsConfigDict(env_prefix="CHAMA_", frozen=True, extra="ignore")

    database_url: str = ""
    """The owner's URL (postgresql://user:password@host:port/name): migrations only."""
    database_role_password: SecretStr = SecretStr("")
    """The password `chama migrate` gives the runtime roles (app, relay, audit, auth, chain), and each logs in with."""
    database_pool_max: int = 10

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    payload_keys: dict[str, SecretStr] = {}
    """Key id → base64 of 32 bytes, for payloads at rest in Temporal (AES-256-GCM)."""
    payload_key: str = ""
    """The id of the key that encrypts today; the others only decrypt."""

    operator_token: SecretStr = SecretStr("")
    """The secret of whoever may see payloads in clear, for all tenants; 32 characters or more. Empty: nobody may."""
    temporal_ui_url: str = ""
    """Where the Temporal UI is: its pages, and no others, may call the codec endpoints from a browser."""

    vault_key: SecretStr = SecretStr("")
    """base64 of 32 bytes: seals provider credentials in the database."""
    token_key: SecretStr = SecretStr("")
    """base64 of a 32-byte Ed25519 seed: signs access tokens."""
    token_seconds: int = 3600
    password_rounds: int = Field(default=3, ge=1)
    password_memory_kib: int = Field(default=65_536, ge=1024)
    """The cost of hashing a password (argon2id): passes, and memory. The defaults follow RFC 9106's second choice."""

    api_host: str = "127.0.0.1"
    api_port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    max_body_bytes: int = 262_144
    cover_max_bytes: int = Field(default=5_242_880, ge=1024)
    """The largest picture that may be sent as a campaign's cover."""
    body_seconds: float = 15.0
    streams_max: int = Field(default=1000, ge=0)
    """How many clients one API process lets watch campaigns live at once; each is an open connection."""
    default_tenant: str = "demo"
    """The tenant (slug) that the webhook alias paths stand for."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """Where the relay serves /metrics for Prometheus; port 0: nowhere. It has no authentication: keep it on a private address."""

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 2525
    smtp_sender: str = "Chama <no-reply@chama.test>"

    provider_timeout_seconds: float = 10.0
    test_clock: bool = False
    """Whether the Temporal server allows time skipping, and so test-mode tenants may have a clock of their own."""
    test_clock_url: str = ""
    """Where the test providers' own clock is moved (POST {secret_key, now}), so that they keep step; empty: nowhere."""
    anchor_file: str = ""
    """Where the hash chains' tails are written down outside the database (JSON lines); empty: nowhere."""
    anchor_seconds: float = Field(default=10.0, ge=0)
    """At most one anchor in so long: what is cut off a chain within it may go unnoticed."""
    worker_build_id: str = "dev"
    workflow_limits: Literal["report", "raise"] = "report"
    """What crossing a limit of `infra.limits_guard` does: a warning and a count, or an error at once (the tests)."""
    log_level: str = "INFO"

    def role_url(self, role: str) -> str:
        """The URL with which database role `role` (chama_app, chama_relay, chama_audit, chama_auth, chama_chain) logs in."""
        parts = urlsplit(self.database_url)
        host = parts.netloc.rpartition("@")[2]
        password = quote(self.database_role_password.get_secret_value(), safe="")
        return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}"))

    @cached_property
    def app_url(self) -> str:
        """The URL of the role the API and the worker use: it owns nothing and sees one tenant at a time."""
        return self.role_url("chama_app")
