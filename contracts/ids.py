"""One key all the way down: ids are derived, never random, so that a repeated request finds its first effect.

Idempotency-Key and request → business id → workflow id → "<workflow id>/<step>[/<ordinal>]" → ledger key → provider key
"""

import hashlib
import uuid

from contracts.base import Mode, Scope

_NAMESPACE = uuid.UUID("6f0c1f0e-5b0b-5d0c-9a49-2c9f6b7c8a11")
"""Chama's own UUIDv5 namespace. Changing it changes every derived id: never."""


def derive_id(prefix: str, scope: Scope, *parts: str) -> str:
    """`<prefix>_<32 hex>`: UUIDv5 over tenant, mode and `parts` (for a command: principal, operation, key, request).

    Parts are length-prefixed, so ("ab", "c") and ("a", "bc") differ.
    """
    name = "".join(f"{len(part)}:{part}" for part in (str(scope.tenant_id), scope.mode, *parts))
    return f"{prefix}_{uuid.uuid5(_NAMESPACE, name).hex}"


def workflow_id(noun: str, scope: Scope, *parts: str) -> str:
    """`<noun>/<tenant>/<mode>/<id>…`, for example `investment/5b…/test/inv_…`."""
    return "/".join((noun, str(scope.tenant_id), scope.mode, *parts))


def parse_workflow_id(value: str) -> tuple[str, Scope, tuple[str, ...]]:
    """The inverse of `workflow_id`: noun, scope and the remaining parts. Raises ValueError on any other shape."""
    noun, tenant, mode, *rest = value.split("/")
    if not rest:
        raise ValueError(f"not a workflow id of ours: {value!r}")
    return noun, Scope(tenant_id=uuid.UUID(tenant), mode=Mode(mode)), tuple(rest)


def attempt_key(reference: str, step: str) -> str:
    """The key of one step of a payment's attempt: of its effect, of its posting, and hashed for the provider."""
    return f"attempt/{reference}/{step}"


def refund_id(scope: Scope, reference: str, reason: str, failed_before: int = 0) -> str:
    """The id of an attempt's refund for a reason; `failed_before`: so many of them failed for good."""
    return derive_id("ref", scope, reference, reason, *([str(failed_before)] if failed_before else []))


def refund_key(refund: str) -> str:
    """The key of a refund's effect, by its id; hashed for the provider."""
    return f"refund/{refund}"


def refund_reference(refund: str) -> str:
    """What a provider knows a refund by: its id in the alphabet of references."""
    return refund.replace("_", "-")


def refund_of_reference(reference: str) -> str:
    """The id of the refund a provider knows by our `reference`; of any other reference something that is no id."""
    return reference.replace("-", "_")


def provider_key(key: str, *, length: int = 40) -> str:
    """A key of ours in an alphabet and length every rail accepts: lower-case hex of SHA-256, `length` ≤ 64."""
    return hashlib.sha256(key.encode()).hexdigest()[:length]
