"""What the owners of a tenant's campaigns are warned of now, for its admins."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel
from starlette.responses import Response

from api.envelope import Envelope
from api.paging import Cursor, Limit, before
from api.reads import Reader, reads
from api.routing import api_router
from domain.health import HealthWarning
from models import pages

router = api_router(prefix="/v1", tags=["operations"])


class OpenWarningView(BaseModel):
    """A warning that is true: of which campaign, whose it is, and since when."""

    id: str
    campaign_id: str
    campaign: str
    owner_id: str
    kind: HealthWarning
    created_at: datetime


@router.get("/admin/warnings", response_model=Envelope[list[OpenWarningView]])
async def list_warnings(
    reader: Annotated[Reader, reads("warning.list")],
    kind: HealthWarning | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Campaigns that need somebody's care, newest first; `kind` narrows. A warning that is true no more is gone."""
    place = pages.Place(before(cursor), limit)
    return await reader.page(lambda _: pages.warnings(kind=kind and str(kind), place=place), limit)
