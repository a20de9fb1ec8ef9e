"""Effects: one row per call to the outside world, keyed for ever. Written before the call, settled with its consequences."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, LiteralString

from psycopg.types.json import Jsonb
from sqlalchemy import Column, LargeBinary
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from infra.database import Tx, fetch_one
from models.base import Scoped


class EffectRow(Scoped, table=True):
    """`claimed` before the call; then `done`, `failed` (definite), `unknown` or `unsent` (nothing happened)."""

    __tablename__: ClassVar[str] = "effects"

    key: str = Field(primary_key=True)
    provider: str
    operation: str
    request_hash: bytes = Field(sa_column=Column(LargeBinary))
    status: str
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    error_code: str | None = None
    tries: int = 1
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True)
class Claim:
    """What a claim found. `fresh`: nothing was ever sent under this key, so the call itself may be made.

    `known_seconds` counts from the first time it was sent, `age_seconds` from the last.
    """

    fresh: bool
    status: str
    result: dict[str, Any] | None
    error_code: str | None
    age_seconds: int
    known_seconds: int
    same_request: bool


_CLAIM = """
insert into effects as e (tenant_id, mode, key, provider, operation, request_hash, status)
values (%(tenant)s, %(mode)s, %(key)s, %(provider)s, %(operation)s, %(hash)s, 'claimed')
on conflict (tenant_id, mode, key) do update set
    tries = e.tries + 1,
    status = case when e.status = 'unsent' then 'claimed' else e.status end,
    claimed_at = case when e.status = 'unsent' then now() else e.claimed_at end,
    sent_at = case when e.status = 'unsent' then now() else e.sent_at end
returning status, result, error_code, tries, (request_hash = %(hash)s) as same,
    floor(extract(epoch from clock_timestamp() - sent_at))::int as age,
    floor(extract(epoch from clock_timestamp() - claimed_at))::int as known, claimed_at = now() as fresh
"""


async def claim(
    tx: Tx, *, tenant: object, mode: str, key: str, provider: str, operation: str, request_hash: bytes
) -> Claim:
    """Write the intention down, or find it written. `claimed_at` equals the transaction's now() only when it is ours."""
    row = await (
        await tx.execute(
            _CLAIM,
            {
                "tenant": tenant,
                "mode": mode,
                "key": key,
                "provider": provider,
                "operation": operation,
                "hash": request_hash,
            },
        )
    ).fetchone()
    assert row is not None
    return Claim(
        fresh=row["fresh"], status=row["status"], result=row["result"], error_code=row["error_code"],
        age_seconds=row["age"], known_seconds=row["known"], same_request=row["same"],
    )  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """One of many claims: whose call it is, which, and the hash of what is asked for."""

    key: str
    provider: str
    operation: str
    request_hash: bytes


_CLAIM_MANY = """
insert into effects as e (tenant_id, mode, key, provider, operation, request_hash, status)
select %(tenant)s, %(mode)s, c.key, c.provider, c.operation, c.hash, 'claimed'
  from unnest(%(keys)s::text[], %(providers)s::text[], %(operations)s::text[], %(hashes)s::bytea[])
       as c(key, provider, operation, hash)
 order by c.key
on conflict (tenant_id, mode, key) do update set
    tries = e.tries + 1,
    status = case when e.status = 'unsent' then 'claimed' else e.status end,
    claimed_at = case when e.status = 'unsent' then now() else e.claimed_at end,
    sent_at = case when e.status = 'unsent' then now() else e.sent_at end
returning key, status, result, error_code, request_hash,
    floor(extract(epoch from clock_timestamp() - sent_at))::int as age,
    floor(extract(epoch from clock_timestamp() - claimed_at))::int as known, claimed_at = now() as fresh
"""


async def claim_many(tx: Tx, *, tenant: object, mode: str, wanted: Sequence[Wanted]) -> list[Claim]:
    """As `claim`, for any number of different keys in one statement; what each found, in their order.

    Keys are locked in their own order, so that two callers with some in common wait for each other, and neither for ever.
    """
    if not wanted:
        return []
    values = {
        "tenant": tenant,
        "mode": mode,
        "keys": [each.key for each in wanted],
        "providers": [each.provider for each in wanted],
        "operations": [each.operation for each in wanted],
        "hashes": [each.request_hash for each in wanted],
    }
    rows = {row["key"]: row for row in await (await tx.execute(_CLAIM_MANY, values)).fetchall()}
    return [
        Claim(
            fresh=row["fresh"], status=row["status"], result=row["result"], error_code=row["error_code"],
            age_seconds=row["age"], known_seconds=row["known"], same_request=bytes(row["request_hash"]) == each.request_hash,
        )
        for each in wanted
        for row in (rows[each.key],)
    ]  # fmt: skip


IN_FLIGHT: Final[LiteralString] = """
select 1 as found from effects
 where key = any($1::text[]) and status = 'claimed' and sent_at > now() - interval '5 seconds' limit 1
"""
"""A row while the answer to a call under one of some keys is awaited, or is just being written down."""


async def was_sent(tx: Tx, key: str) -> bool:
    """Whether a call under the key has, or may have, reached anybody: claimed is as good as sent, until it is `unsent`."""
    statement = "select 1 as found from effects where key = %s and status <> 'unsent'"
    return await fetch_one(tx, statement, (key,)) is not None


async def send_again(tx: Tx, key: str) -> None:
    """The call is about to be made again."""
    await tx.execute("update effects set sent_at = now() where key = %s", (key,))


async def settle(
    tx: Tx, key: str, *, status: str, result: dict[str, Any] | None = None, error_code: str | None = None
) -> None:
    """Record the outcome; a done or failed effect never changes again."""
    await tx.execute(
        """update effects set status = %s, result = %s, error_code = %s, settled_at = now()
           where key = %s and status not in ('done', 'failed')""",
        (status, Jsonb(result) if result is not None else None, error_code, key),
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one of many effects: as the arguments of `settle`."""

    key: str
    status: str
    result: dict[str, Any] | None = None
    error_code: str | None = None


async def settle_many(tx: Tx, outcomes: Sequence[Outcome]) -> None:
    """As `settle`, for any number of different keys in one statement."""
    if not outcomes:
        return
    ordered = sorted(outcomes, key=lambda each: each.key)
    await tx.execute(
        """update effects e set status = o.status, result = o.result, error_code = o.error_code, settled_at = now()
             from unnest(%s::text[], %s::text[], %s::jsonb[], %s::text[]) as o(key, status, result, error_code)
            where e.key = o.key and e.status not in ('done', 'failed')""",
        (
            [each.key for each in ordered],
            [each.status for each in ordered],
            [Jsonb(each.result) if each.result is not None else None for each in ordered],
            [each.error_code for each in ordered],
        ),
    )
