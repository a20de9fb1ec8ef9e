"""Checks a recorded request against a provider's published OpenAPI document, form bodies included."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

CONTRACTS = Path(__file__).resolve().parents[2].parent / "shared" / "contracts"

UNPUBLISHED_PATHS = {"/v1/customers"}
"""Not in the reduced document kept here."""
UNPUBLISHED_PARAMS = {"perPage", "page", "transaction"}
"""On Paystack's reference pages, not in its document (or in it under another spelling)."""


def load(name: str) -> dict[str, Any]:
    path = CONTRACTS / name
    if not path.exists():
        pytest.skip(f"the provider contracts are not beside the repository: {name}")
    return dict(json.loads(path.read_text()))


class Contract:
    def __init__(self, name: str) -> None:
        # A name for the document, so that a schema taken out of it still finds its references.
        self._document = json.loads(json.dumps(load(name)).replace('"#/components', '"urn:contract#/components'))
        resource = Resource(contents=self._document, specification=DRAFT4)
        self._registry = Registry().with_resource("urn:contract", resource)

    def check_request(self, method: str, path: str, query: str, content_type: str, body: bytes) -> None:
        """Raises AssertionError or jsonschema's ValidationError."""
        if path in UNPUBLISHED_PATHS:
            return
        operation = self._operation(method, path)
        self._check_query(operation, query)
        if method == "POST" and (body or operation["requestBody"].get("required")):
            schema = operation["requestBody"]["content"][content_type.partition(";")[0]]["schema"]
            value = json.loads(body) if "json" in content_type else self._form(body.decode(), schema)
            self._validator(schema).validate(value)

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        paths = sorted(self._document["paths"], key=lambda template: template.count("{"))
        for template in paths:
            if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path):
                operation = self._document["paths"][template].get(method.lower())
                assert operation is not None, f"{method} {template} is not in the contract"
                return dict(operation)
        raise AssertionError(f"{path} is not in the contract")

    def _check_query(self, operation: dict[str, Any], query: str) -> None:
        declared = {parameter["name"]: parameter for parameter in operation.get("parameters", [])}
        names = {re.sub(r"\[.*", "", name) for name, _ in parse_qsl(query)}
        assert names - UNPUBLISHED_PARAMS <= declared.keys(), f"undeclared parameters: {names - declared.keys()}"
        given = self._form(query, {"properties": {name: declared[name]["schema"] for name in names & declared.keys()}})
        for name in names & declared.keys():
            self._validator(declared[name]["schema"]).validate(given[name])

    def _validator(self, schema: dict[str, Any]) -> OAS30Validator:
        return OAS30Validator(schema, registry=self._registry)

    def _form(self, encoded: str, schema: dict[str, Any]) -> dict[str, Any]:
        """`a[b]=1&c[]=2` as nested values, typed as the schema says they are."""
        value: dict[str, Any] = {}
        for name, text in parse_qsl(encoded, keep_blank_values=True):
            head, *rest = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", name)
            part = schema.get("properties", {}).get(head, {})
            if not rest:
                value[head] = _typed(text, part)
            elif rest == [""]:
                value.setdefault(head, []).append(text)
            else:
                inner = next((s for s in part.get("anyOf", [part]) if s.get("type") == "object"), {})
                value.setdefault(head, {})[rest[0]] = _typed(text, inner.get("properties", {}).get(rest[0], {}))
        return value


def _typed(text: str, schema: dict[str, Any]) -> Any:
    kinds = {part.get("type") for part in schema.get("anyOf", [schema])}
    if "integer" in kinds and re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if "boolean" in kinds and text in ("true", "false"):
        return text == "true"
    return text
