"""Temporal's remote codec: the Temporal UI and command line show payloads in clear, to the installation's operator only.

`decode` and `encode` speak Temporal's own contract, not this API's envelope: `{"payloads": [...]}` in and out, bytes as
base64. A payload that does not open fails the whole request; nothing is shown in part. The contract is Temporal's to
describe, and only its UI and command line call this, so our OpenAPI document leaves it out.
"""

from base64 import b64decode, b64encode
from html import escape
from typing import Annotated, Final
from urllib.parse import parse_qs

import structlog
from fastapi import Header, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, JSONResponse
from temporalio.api.common.v1 import Payload

from api.auth import InvalidToken
from api.dependencies import PUBLIC
from api.operator import CODEC_PATH, COOKIE, OPERATOR, OperatorDesk, cookie_options
from api.routing import api_router
from domain.errors import BadRequest
from infra.crypto import CryptoError

log = structlog.get_logger(__name__)
router = api_router(prefix=CODEC_PATH, tags=["codec"], include_in_schema=False)

_PAYLOADS_MAX: Final = 1_000
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Chama operator</title>
<style>body{{font:16px/1.5 sans-serif;max-width:36rem;margin:4rem auto;padding:0 1rem}}input{{width:100%;font:inherit}}</style>
<h1>Clear text in the Temporal UI</h1>
{}
</html>"""
_FORM: Final = """<form method="post"><p><label>Operator token<br>
<input id="token" name="token" type="password" autocomplete="off" required autofocus></label></p>
<p><button id="open">Open</button></p></form>"""
_REFUSED: Final = '<p id="outcome" data-outcome="refused">That is not the operator token.</p>'
_OPENED: Final = """<p id="outcome" data-outcome="opened">This browser may decode payloads for {minutes} minutes.</p>
<p>Once per browser: open the <a href="{ui}">Temporal UI</a>, there <em>Codec Server</em> (an icon at the top right), choose
<em>Use my browser setting</em>, give it the endpoint</p>
<pre id="endpoint">{endpoint}</pre>
<p>turn on <em>Include cross-origin credentials</em>, and apply.</p>"""

Namespace = Annotated[str | None, Header(alias="X-Namespace", max_length=1000)]


class CodecPayload(BaseModel):
    """One payload as protobuf's JSON writes it; what later servers add is left out."""

    model_config = ConfigDict(extra="ignore", strict=True)

    metadata: Annotated[dict[str, str], Field(description="Name → base64", max_length=100)] = {}
    data: Annotated[str | None, Field(description="base64")] = None


class CodecPayloads(BaseModel):
    """The body of requests and answers."""

    model_config = ConfigDict(extra="ignore", strict=True)

    payloads: Annotated[list[CodecPayload], Field(max_length=_PAYLOADS_MAX)] = []


@router.post("/decode", response_model=CodecPayloads)
async def decode(
    request: Request, body: CodecPayloads, how: Annotated[str, OPERATOR], namespace: Namespace = None
) -> JSONResponse:
    """Payloads as they were before encryption. What was never encrypted comes back as it is."""
    desk = _desk(request, namespace)
    try:
        opened = await desk.codec.decode(_read(body))
    except CryptoError as error:
        raise BadRequest(
            "payload_unreadable", "A payload was encrypted with a key this installation does not have, or was changed."
        ) from error
    log.info("codec.decoded", payloads=len(opened), how=how)
    return _answer(opened)


@router.post("/encode", response_model=CodecPayloads)
async def encode(
    request: Request, body: CodecPayloads, how: Annotated[str, OPERATOR], namespace: Namespace = None
) -> JSONResponse:
    """Payloads encrypted with today's key, for signals and starts typed by hand."""
    desk = _desk(request, namespace)
    sealed = await desk.codec.encode(_read(body))
    log.info("codec.encoded", payloads=len(sealed), how=how)
    return _answer(sealed)


@router.get("/login", dependencies=[PUBLIC], response_class=HTMLResponse)
async def show_login() -> HTMLResponse:
    """A page that asks for the operator token."""
    return _page(_FORM)


@router.post("/login", dependencies=[PUBLIC], response_class=HTMLResponse)
async def log_in(request: Request) -> HTMLResponse:
    """Exchange the operator token (form field `token`) for a cookie that the Temporal UI's pages send. 401 if it is wrong."""
    desk: OperatorDesk = request.app.state.operator
    try:
        fields = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=10)
        desk.check_token(fields.get("token", [""])[0])
    except (InvalidToken, ValueError):
        log.warning("codec.login_refused")
        return _page(_REFUSED + _FORM, 401)
    endpoint = escape(request.app.state.settings.public_url + CODEC_PATH)
    answer = _page(_OPENED.format(minutes=desk.seconds // 60, ui=escape(desk.ui_url or "#"), endpoint=endpoint))
    answer.set_cookie(COOKIE, desk.issue_cookie(), **cookie_options(request.app.state.settings))
    log.info("codec.logged_in")
    return answer


def _page(inside: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(inside), status, headers={"Content-Security-Policy": _PAGE_POLICY})


def _desk(request: Request, namespace: str | None) -> OperatorDesk:
    desk: OperatorDesk = request.app.state.operator
    if namespace is not None and namespace != desk.namespace:
        raise BadRequest("unknown_namespace", "This installation's keys belong to another Temporal namespace.")
    return desk


def _read(body: CodecPayloads) -> list[Payload]:
    """The payloads. Raises BadRequest `malformed_payload` for what is no base64."""
    try:
        return [
            Payload(
                metadata={name: b64decode(value, validate=True) for name, value in each.metadata.items()},
                data=b64decode(each.data or "", validate=True),
            )
            for each in body.payloads
        ]
    except ValueError as error:
        raise BadRequest("malformed_payload", "Data and metadata of a payload are base64.") from error


def _answer(payloads: list[Payload]) -> JSONResponse:
    """As protobuf's JSON has it: what is empty is left out."""
    shown = CodecPayloads(payloads=[_shown(each) for each in payloads])
    return JSONResponse(shown.model_dump(exclude_none=True, exclude_defaults=True) or {"payloads": []})


def _shown(payload: Payload) -> CodecPayload:
    metadata = {name: b64encode(value).decode() for name, value in payload.metadata.items()}
    return CodecPayload(metadata=metadata, data=b64encode(payload.data).decode() or None)
