"""A campaign's cover: sent as a picture, kept in three widths, read under addresses that never change what they show."""

import asyncio
import hashlib
import re
from typing import Annotated, Any, Final

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from api.auth import Principal
from api.campaign_terms import fresh, locked
from api.commands import Reply, Unit, execute
from api.dependencies import requires
from api.envelope import Envelope
from api.policy import authorize
from api.reads import Reader, reads
from api.routing import api_router
from api.views import CampaignView, campaign_view
from domain.campaign import check_editable
from domain.cover import CoverWidth
from domain.errors import NotFound
from infra.database import Database
from infra.pictures import Rendered, UnknownPicture, render
from infra.settings import Settings
from models.campaign import get_campaign
from models.cover import find_cover, set_cover

router = api_router(prefix="/v1", tags=["campaigns"])

_ONE_AT_A_TIME: Final = asyncio.Semaphore(1)
"""Opened, a picture may take 100 MB."""
_TAG: Final = re.compile(r'"([0-9a-f]{32})-([0-9]{1,4})"')
_FOR_EVER: Final = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Authorization"}
_ASK_AGAIN: Final = {"Cache-Control": "private, no-cache", "Vary": "Authorization"}
_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_SENT: Final = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
_PICTURE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "WebP", "content": {"image/webp": _BINARY}},
    304: {"description": "You have it"},
}
Version = Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$", description="As in the campaign's `cover`")]


class _Sent(BaseModel):
    """What a repeat under the same key is compared by."""

    sha256: str


@router.put(
    "/campaigns/{campaign_id}/cover",
    response_model=Envelope[CampaignView],
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(_SENT, _BINARY)}},
)
async def put_cover(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("campaign.edit")]
) -> JSONResponse:
    """Give the campaign a cover, or another: the body is a JPEG, PNG or WebP. Nothing but its pixels is kept."""
    await _may_change(request, principal, campaign_id)
    sent = await _received(request)
    pictures = {int(each.width): each.content for each in await _rendered(sent)}

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.edit")
        check_editable(campaign.status, money_terms=False)
        version = await set_cover(unit.tx, campaign.id, pictures)
        await unit.audit("campaign.cover_changed", "campaign", campaign.id, version=version)
        return Reply(200, campaign_view(unit.scope, await fresh(unit, campaign.id)))

    body = _Sent(sha256=hashlib.sha256(sent).hexdigest())
    return await execute(request, principal, "campaign.set_cover", body, handle, key_required=False)


@router.delete("/campaigns/{campaign_id}/cover", response_model=Envelope[CampaignView])
async def delete_cover(
    request: Request, campaign_id: str, principal: Annotated[Principal, requires("campaign.edit")]
) -> JSONResponse:
    """Take the cover away."""

    async def handle(unit: Unit) -> Reply:
        campaign = await locked(unit, campaign_id, "campaign.edit")
        check_editable(campaign.status, money_terms=False)
        if campaign.cover is None:
            raise NotFound("cover")
        await set_cover(unit.tx, campaign.id, None)
        await unit.audit("campaign.cover_removed", "campaign", campaign.id)
        return Reply(200, campaign_view(unit.scope, await fresh(unit, campaign.id)))

    return await execute(request, principal, "campaign.delete_cover", None, handle, key_required=False)


@router.get("/campaigns/{campaign_id}/cover", response_class=Response, responses=_PICTURE)
async def read_cover(
    campaign_id: str,
    reader: Annotated[Reader, reads("campaign.read", strict=True)],
    width: CoverWidth = CoverWidth.MEDIUM,
    version: Version = None,
) -> Response:
    """The cover in one width. With its `version` the answer may be kept for ever; without, it is asked for each time."""
    held = reader.request.headers.get("if-none-match", "")
    known = next((tag for tag, of in _TAG.findall(held) if int(of) == width), None)
    _, found = await reader.asked(
        lambda who: find_cover(reader.database, who.scope, who.user_id, campaign_id, int(width), known)
    )
    if found.version is None or (version is not None and version != found.version):
        raise NotFound("cover")
    headers = {**(_ASK_AGAIN if version is None else _FOR_EVER), "ETag": f'"{found.version}-{int(width)}"'}
    if found.version == known or held.strip() == "*":
        return Response(status_code=304, headers=headers)
    if found.content is None:
        raise NotFound("cover")
    return Response(found.content, media_type="image/webp", headers=headers)


async def _may_change(request: Request, principal: Principal, campaign_id: str) -> None:
    """Before five megabytes are read. Raises NotFound, Conflict as `check_editable`."""
    database: Database = request.app.state.database
    async with database.transaction(principal.scope) as tx:
        campaign = await get_campaign(tx, campaign_id)
    if campaign is None:
        raise NotFound("campaign")
    authorize(principal, "campaign.edit", owner_id=campaign.owner_id)
    check_editable(campaign.status, money_terms=False)


async def _received(request: Request) -> bytes:
    """The body, which the limits have let through unread. Raises HTTPException 413 and 408.

    What is refused is not cut off: a client that sends everything before it listens would not hear why.
    """
    settings: Settings = request.app.state.settings
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 18 or int(length) > settings.cover_max_bytes:
        raise HTTPException(413)
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                body += part
                if len(body) > settings.cover_max_bytes:
                    raise HTTPException(413)
    except TimeoutError as error:
        raise HTTPException(408) from error
    return bytes(body)


async def _rendered(sent: bytes) -> list[Rendered]:
    async with _ONE_AT_A_TIME:
        try:
            return await asyncio.to_thread(render, sent)
        except UnknownPicture as error:
            raise HTTPException(415) from error
