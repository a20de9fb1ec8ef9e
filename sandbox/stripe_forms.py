"""Reading Stripe's form-encoded requests as strictly as Stripe does."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

from sandbox.answers import Idempotency
from sandbox.exchange import read_body
from sandbox.stripe_objects import invalid

MAX_AMOUNT = 99_999_999_999
_CLAUSE = re.compile(
    r"""\s*(?:metadata\[(['"])(?P<key>[^'"]{1,40})\1\]|(?P<field>status))\s*:\s*(['"])(?P<value>[^'"]*)\4\s*"""
)


@dataclass(frozen=True)
class Form:
    """The parameters of one request, flat as on the wire (`metadata[reference]`)."""

    values: dict[str, str]
    idempotency: Idempotency | None = None

    def only(self, *names: str) -> None:
        """Refuse every parameter whose base name is not listed."""
        for name in self.values:
            if name.partition("[")[0] not in names:
                raise invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)

    def text(self, name: str) -> str | None:
        """A parameter, or None when absent or empty."""
        return self.values.get(name) or None

    def required(self, name: str) -> str:
        """A parameter that must be there."""
        found = self.text(name)
        if found is None:
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
        return found

    def integer(self, name: str, least: int = 1, most: int = MAX_AMOUNT) -> int | None:
        """A whole number within bounds, or None when absent."""
        found = self.text(name)
        if found is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,15}", found, re.ASCII):
            raise invalid(f"Invalid integer: {found}", code="parameter_invalid_integer", param=name)
        number = int(found)
        if not least <= number <= most:
            raise invalid(
                f"This value must be between {least} and {most}.", code="parameter_invalid_integer", param=name
            )
        return number

    def boolean(self, name: str) -> bool:
        """`true` or `false`; absent is false."""
        return self.choice(name, ("true", "false")) == "true"

    def choice(self, name: str, allowed: Iterable[str]) -> str | None:
        """One of the allowed words, or None when absent."""
        found = self.text(name)
        if found is not None and found not in allowed:
            raise invalid(f"Invalid {name}: must be one of {', '.join(allowed)}", param=name)
        return found

    def metadata(self) -> dict[str, str]:
        """The metadata, within Stripe's limits (50 keys, 40 characters a key, 500 a value)."""
        found = {k[9:-1]: v for k, v in self.values.items() if k.startswith("metadata[") and k.endswith("]")}
        if len(found) > 50 or any(len(k) > 40 or len(v) > 500 for k, v in found.items()):
            raise invalid("Metadata has at most 50 keys of 40 characters with values of 500.", param="metadata")
        return found


async def read_form(request: Request) -> Form:
    """The form body (or the query of a GET) and the Idempotency-Key. Raises Refusal for what Stripe would not read."""
    if request.method == "GET":
        return Form(dict(request.query_params))
    try:
        raw = (await read_body(request)).decode()
    except (ValueError, UnicodeDecodeError) as error:
        raise invalid("Invalid request body.") from error
    content_type = request.headers.get("content-type", "")
    if raw and not content_type.startswith("application/x-www-form-urlencoded"):
        raise invalid("Invalid content type: send application/x-www-form-urlencoded.")
    pairs = parse_qsl(raw, keep_blank_values=True)
    key = request.headers.get("idempotency-key")
    if key is None:
        return Form(dict(pairs))
    if not 0 < len(key) <= 255:
        raise invalid("Idempotency-Key has at most 255 characters.")
    text = "\x1f".join([request.url.path, *(f"{k}\x1e{v}" for k, v in sorted(pairs))])
    return Form(dict(pairs), Idempotency(key, hashlib.sha256(text.encode()).hexdigest()))


def secret_key(request: Request) -> str:
    """The key of `Authorization: Bearer` or Basic; empty when there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def created_range(form: Form) -> tuple[str, list[int]]:
    """`created[gte|gt|lte|lt]` as SQL and its values."""
    operators = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}
    sql = "1=1"
    values: list[int] = []
    for name, operator in operators.items():
        bound = form.integer(f"created[{name}]", least=0)
        if bound is not None:
            sql += f" and created {operator} ?"
            values.append(bound)
    return sql, values


def search_clauses(query: str) -> tuple[str, list[str]]:
    """The search language, as far as it is spoken here: `metadata['k']:'v'` and `status:'v'`, joined by AND."""
    sql = "1=1"
    values: list[str] = []
    for part in re.split(r"\s+AND\s+", query):
        found = _CLAUSE.fullmatch(part)
        if found is None:
            raise invalid("We were unable to parse your search query.", param="query")
        if found["field"]:
            sql, values = f"{sql} and status = ?", [*values, found["value"]]
        elif found["key"] == "reference":
            sql, values = f"{sql} and reference = ?", [*values, found["value"]]
        else:
            sql += " and json_extract(doc, ?) = ?"
            values += [f'$.metadata."{found["key"]}"', found["value"]]
    return sql, values
