"""A campaign's cover: the widths it is kept in, and where each is found."""

from enum import IntEnum
from typing import Final


class CoverWidth(IntEnum):
    """The widths, in pixels. A picture that is narrower is kept as wide as it is."""

    SMALL = 320
    MEDIUM = 640
    LARGE = 1280


MAX_PIXELS: Final = 24_000_000
"""Of a picture that is sent: opened, it takes up to four bytes a pixel."""
MIN_SIDE, MAX_SIDE = 64, 12_000
"""Pixels of either side. WebP ends at 16,383."""


def cover_urls(campaign_id: str, version: str | None) -> dict[str, str] | None:
    """Where the cover is, by its width; None without one. An address stands for the same bytes for ever.

    `models/pages.py` says the same in SQL.
    """
    if version is None:
        return None
    return {
        str(int(width)): f"/v1/campaigns/{campaign_id}/cover?width={int(width)}&version={version}"
        for width in CoverWidth
    }
