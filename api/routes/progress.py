"""A campaign's progress, live: a stream of server-sent events.

Not in the OpenAPI document, which has no words for an answer that goes on.
"""

from typing import Annotated

from fastapi import Header, Request
from starlette.responses import Response

from api.auth import Principal
from api.dependencies import requires
from api.errors import problem, request_id_of
from api.routing import api_router
from api.streams import Streams, TooManyStreams

router = api_router(prefix="/v1", tags=["streams"], include_in_schema=False)


@router.get("/campaigns/{campaign_id}/events")
async def watch_campaign(
    request: Request,
    campaign_id: str,
    principal: Annotated[Principal, requires("campaign.read")],
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """The state at once, then each change of status, money or investors, until the client leaves; quarter of an hour."""
    streams: Streams = request.app.state.streams
    try:
        return await streams.open(principal, campaign_id, last_event_id)
    except TooManyStreams:
        text = "There are as many streams as may be. Read the campaign instead, or come again."
        return problem(request_id_of(request), 503, "too_many_streams", text, headers={"Retry-After": "5"})
