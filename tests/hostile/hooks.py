"""What schemathesis cannot know of this API: who may call, fresh idempotency keys, and which things exist.

Loaded by `st run`, with the target described by the JSON file that CHAMA_TARGET names. At the end it writes beside it
what was really sent: requests by status and by operation.
"""

import atexit
import itertools
import json
import os
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis import AuthContext, Case, GenerationMode, HookContext, Response

TARGET = Path(os.environ["CHAMA_TARGET"])
WORLD = json.loads(TARGET.read_text())
_turns = itertools.count(1)
_lock = threading.Lock()
_statuses: Counter[str] = Counter()
_operations: Counter[str] = Counter()
_OWNERS = re.compile(r"(POST|PATCH|DELETE) /v1/campaigns(?!.*/(invest|cancel)$)")
"""Canceling is left to the one in ten: the campaign that is attacked should stay live for a while."""
_ADMINS = re.compile(r"\w+ /v1/(admin|accounts|test-clock)")
_ROLES = ("investor", "business_owner", "admin")


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Answers are closed: a field that the document does not name is a failure, not a courtesy."""
    for name, model in raw_schema["components"]["schemas"].items():
        if name.endswith("View") or name.startswith("Envelope") or name in ("Meta", "Problem", "FieldProblem"):
            model["additionalProperties"] = False


@schemathesis.auth(refresh_interval=None)
class Tokens:
    """Mostly somebody who may; one in ten another role, one in thirty a spoilt token."""

    def get(self, case: Case, context: AuthContext) -> dict[str, str]:
        return WORLD["tokens"]

    def set(self, case: Case, data: dict[str, str], context: AuthContext) -> None:
        turn, label = next(_turns), case.operation.label
        role = "business_owner" if _OWNERS.match(label) else "admin" if _ADMINS.match(label) else "investor"
        if turn % 10 == 0:
            role = _ROLES[turn // 10 % 3]
        token = data[role]
        if turn % 30 == 0:
            token = token[: turn % len(token)] + "." + token[turn % 7 :]
        case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Valid requests get fresh keys (seven of eight) and name things that exist (two of three)."""
    turn = next(_turns)
    key = case.headers.get("Idempotency-Key")
    if key is not None and re.fullmatch(r"[\x21-\x7e]{1,255}", str(key)) and turn % 8:
        case.headers["Idempotency-Key"] = uuid4().hex
    meta = case.meta
    if meta is None or meta.generation.mode is not GenerationMode.POSITIVE:
        return
    _sensible(case.body)
    for name in case.path_parameters:
        known = WORLD["things"].get(name)
        if known and turn % 3 and meta.phase.name.value != "stateful":
            case.path_parameters[name] = known[turn % len(known)]


def _sensible(body: Any) -> None:
    """What the schema cannot say and a rule would refuse: most of the time a request should get past that."""
    if not isinstance(body, dict) or next(_turns) % 4 == 0:
        return
    soon = datetime.now(UTC) + timedelta(days=20)
    for name, value in (("tenant", "hostile"), ("currency", "NGN"), ("return_url", "https://app.example.com/done")):
        if isinstance(body.get(name), str):
            body[name] = value
    if "deadline_at" in body:
        body["deadline_at"] = soon.isoformat()
        for name in ("cap", "min_ticket", "max_per_investor"):
            body.pop(name, None)
        if isinstance(body.get("goal"), dict):
            body["goal"]["currency"] = "NGN"
    if "amount" in body and isinstance(body["amount"], int):
        body["amount"] = body["amount"] % 900 + 1


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Count what was sent."""
    with _lock:
        _statuses[str(response.status_code)] += 1
        _operations[case.operation.label] += 1


@atexit.register
def _write() -> None:
    TARGET.with_name("sent.json").write_text(json.dumps({"statuses": _statuses, "operations": _operations}))
