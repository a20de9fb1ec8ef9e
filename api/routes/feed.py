"""The feed: campaigns filtered, searched and sorted."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from api.campaign_terms import Home, Kind
from api.envelope import MAX_AMOUNT, Envelope, Timestamp
from api.feed import answer, checked
from api.paging import Cursor, Limit
from api.reads import Reader, reads
from api.routing import api_router
from api.views import ReadCampaignView
from domain.business import Category
from domain.campaign import CampaignStatus
from models.feed_pages import Sort

router = api_router(prefix="/v1", tags=["campaigns"])

Minor = Annotated[int | None, Query(ge=0, le=MAX_AMOUNT, description="Minor units; needs `currency`")]
Progress = Annotated[
    int | None, Query(ge=0, le=MAX_AMOUNT, description="Held and captured money, in 1/10,000 of the goal")
]
When = Annotated[Timestamp | None, Query(description="The deadline is before, or after")]
CurrencyCode = Annotated[str | None, Query(pattern=r"^[A-Z]{3}$")]
Where = Annotated[Home | None, Query(description="Where the business is, ISO 3166-1 alpha-2")]
PersonId = Annotated[str | None, Query(max_length=100, description="Whose campaigns")]
Words = Annotated[str | None, Query(min_length=1, max_length=200, description='Words, "a phrase", or, -not')]


@router.get("/campaigns", response_model=Envelope[list[ReadCampaignView]])
async def list_campaigns(
    reader: Annotated[Reader, reads("campaign.read", strict=True)],
    status: CampaignStatus | None = None,
    kind: Kind | None = None,
    currency: CurrencyCode = None,
    owner_id: PersonId = None,
    category: Category | None = None,
    country: Where = None,
    min_goal: Minor = None,
    max_goal: Minor = None,
    min_progress_bps: Progress = None,
    max_progress_bps: Progress = None,
    ends_before: When = None,
    ends_after: When = None,
    q: Words = None,
    sort: Sort = Sort.NEWEST,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The feed. What is not approved, or was given up before it was, is its owner's and the admins' to see.

    `ending_soon` has live campaigns only. 304 to an `If-None-Match` with the page's `ETag`.
    """
    filters = checked({
        "status": status and str(status), "kind": kind, "currency": currency, "owner_id": owner_id,
        "category": category and str(category), "country": country,
        "min_goal": min_goal, "max_goal": max_goal, "min_progress_bps": min_progress_bps,
        "max_progress_bps": max_progress_bps, "ends_before": ends_before, "ends_after": ends_after, "q": q,
    })  # fmt: skip
    return await answer(reader, sort, filters, limit, cursor)
