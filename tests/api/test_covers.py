"""Covers: pictures of every kind in, clean WebP of three widths out, under addresses that never change what they show."""

from collections.abc import AsyncIterator
from io import BytesIO
from struct import pack
from typing import Any
from uuid import uuid4
from zlib import compress, crc32

import httpx
import pytest
from PIL import Image

from domain.cover import MAX_PIXELS
from infra.database import Database
from models.user import User
from tests.fixtures.api import Edge, assert_problem
from tests.fixtures.feed import Feed
from tests.fixtures.hostile import campaign_body

PLACE = "Adire workshop, Abeokuta"
SIZES = {"320": (320, 160), "640": (640, 320), "1280": (1280, 640)}


class Gallery(Feed):
    """A feed whose campaigns have covers."""

    async def put(self, campaign: str, content: Any, who: User | None = None, **headers: str) -> httpx.Response:
        headers = self.edge.headers(who or self.owner) | {"Content-Type": "image/jpeg"} | headers
        return await self.edge.http.put(f"/v1/campaigns/{campaign}/cover", content=content, headers=headers)

    async def look(self, path: str, who: User | None = None, tag: str | None = None) -> httpx.Response:
        headers = self.edge.headers(who or self.investor) | ({"If-None-Match": tag} if tag else {})
        return await self.edge.http.get(path, headers=headers)

    async def draft(self) -> str:
        return str((await self.act(self.owner, "/campaigns", campaign_body(draft=True)))["id"])


@pytest.fixture
async def here(edge: Edge, database: Database) -> AsyncIterator[Gallery]:
    yield Gallery(edge, database)


def picture(kind: str = "JPEG", size: tuple[int, int] = (2000, 1000), mode: str = "RGB", **options: Any) -> bytes:
    """A picture that is red to the left and blue to the right."""
    made = Image.new("RGB", size, "red")
    made.paste("blue", (size[0] // 2, 0, size[0], size[1]))
    out = BytesIO()
    made.convert(mode).save(out, kind, **options)
    return out.getvalue()


def located() -> bytes:
    """A JPEG that lies on its side, and tells who took it where."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: shown upright it is half as wide as high
    exif[0x010E] = PLACE
    exif.get_ifd(0x8825)[2] = (7.0, 9.0, 0.0)
    return picture(exif=exif, comment=PLACE.encode())


def bomb() -> bytes:
    """A PNG of a few bytes that says it has more pixels than may be."""
    side = int(MAX_PIXELS**0.5) + 1
    parts = [b"IHDR" + pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + compress(bytes(1000)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pack(">I", len(each) - 4) + each + pack(">I", crc32(each)) for each in parts)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("WEBP", "RGBA")]
)
async def test_a_picture_becomes_three(here: Gallery, kind: str, mode: str) -> None:
    campaign = await here.live()
    answer = await here.put(campaign, picture(kind, mode=mode))
    assert answer.status_code == 200, answer.text
    urls = answer.json()["data"]["cover"]
    assert urls.keys() == SIZES.keys()
    for width, url in urls.items():
        seen = await here.look(url)
        assert (seen.status_code, seen.headers["content-type"]) == (200, "image/webp")
        assert seen.headers["cache-control"] == "private, max-age=31536000, immutable"
        opened = Image.open(BytesIO(seen.content))
        assert (opened.format, opened.size) == ("WEBP", SIZES[width])
        tag = seen.headers["etag"]
        assert tag.startswith('"') and (await here.look(url, tag=tag)).status_code == 304
        assert (await here.look(url, tag=f'"x", {tag}')).content == b""
        assert (await here.look(url, tag=f'"{"0" * 32}-{"9" * 5_000}"')).status_code == 200, "a width that is none"
        assert (await here.look(f"{url}0")).status_code == 422
    if mode == "RGB":
        left, right = opened.convert("RGB").getpixel((5, 5)), opened.convert("RGB").getpixel((1270, 5))
        assert left[0] > 200 > left[2] and right[2] > 200 > right[0]
    assert (await here.look(urls["320"], tag=tag)).status_code == 200, "another width is another thing"
    asked = await here.look(f"/v1/campaigns/{campaign}/cover")
    assert asked.headers["cache-control"] == "private, no-cache" and Image.open(BytesIO(asked.content)).width == 640
    (listed,) = await here.rows()
    read = (await here.look(f"/v1/campaigns/{campaign}")).json()["data"]
    assert listed["cover"] == read["cover"] == urls


async def test_nothing_is_kept_but_the_pixels(here: Gallery) -> None:
    campaign = await here.draft()
    sent = located()
    assert PLACE.encode() in sent
    urls = (await here.put(campaign, sent + b"trailing secrets")).json()["data"]["cover"]
    for width, url in urls.items():
        content = (await here.look(url, here.owner)).content
        opened = Image.open(BytesIO(content))
        assert opened.size == (int(width), 2 * int(width)) if int(width) <= 1000 else opened.size == (1000, 2000)
        assert not opened.getexif() and "icc_profile" not in opened.info
        for trace in (b"EXIF", b"Exif", PLACE.encode(), b"trailing", b"GPS"):
            assert trace not in content
    kept = here.sql("select content from campaign_covers")
    assert len(kept) == 3 and not any(PLACE.encode() in bytes(row[0]) for row in kept)


async def test_a_small_picture_is_not_enlarged(here: Gallery) -> None:
    campaign = await here.live()
    urls = (await here.put(campaign, picture("PNG", (400, 300)))).json()["data"]["cover"]
    sizes = [Image.open(BytesIO((await here.look(url)).content)).size for url in urls.values()]
    assert sizes == [(320, 240), (400, 300), (400, 300)]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 415, "unsupported_media_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_media_type"),
        (picture("GIF", (100, 100)), 415, "unsupported_media_type"),
        (picture("BMP", (100, 100)), 415, "unsupported_media_type"),
        (picture("JPEG")[:2000], 422, "invalid_image"),
        (picture("PNG", (800, 800))[:300], 422, "invalid_image"),
        (picture("WEBP", (800, 800))[:60], 422, "invalid_image"),
        (b"\xff" * 5_242_881, 413, "body_too_large"),
    ],
)
async def test_what_is_no_picture_is_refused(here: Gallery, content: bytes, status: int, code: str) -> None:
    campaign = await here.live()
    problem = assert_problem(await here.put(campaign, content), status, code)
    assert [each["field"] for each in problem["errors"]] == (["body"] if status == 422 else [])
    assert here.sql("select count(*) from campaign_covers") == [(0,)]


@pytest.mark.parametrize("content", [picture("PNG", (63, 300)), picture("PNG", (12_001, 64)), bomb()], ids=len)
async def test_a_picture_of_a_wrong_size_is_refused_by_its_header(here: Gallery, content: bytes) -> None:
    """The bomb's pixels are not even there: who unpacked them first would call it broken."""
    problem = assert_problem(await here.put(await here.live(), content), 422, "invalid_image")
    assert "12000 pixels" in problem["detail"]


async def test_a_body_without_a_length_is_bounded_too(here: Gallery) -> None:
    campaign = await here.live()
    sent: list[int] = []

    async def parts() -> AsyncIterator[bytes]:
        for number in range(100):
            sent.append(number)
            yield b"\xff" * 1_000_000

    assert_problem(await here.put(campaign, parts()), 413, "body_too_large")
    await here.edge.http.get("/healthz")
    for path in (f"/v1/campaigns/{campaign}/updates", f"/v1/campaigns/{campaign}/cover"):
        headers = here.edge.headers(here.owner, uuid4().hex) | {"Content-Type": "application/json"}
        answer = await here.edge.http.post(path, content=b" " * 300_000, headers=headers)
        assert_problem(answer, 413, "body_too_large")


async def test_who_may_change_it_and_when(here: Gallery) -> None:
    campaign, content = await here.live(), picture("PNG", (100, 100))
    assert_problem(await here.put(campaign, content, here.stranger), 404, "not_found")
    assert_problem(await here.put(campaign, content, here.admin), 403, "forbidden")
    assert_problem(await here.put(campaign, content, here.investor), 403, "forbidden")
    assert_problem(await here.put(campaign, content, Authorization="Bearer x"), 401, "invalid_token")
    assert_problem(await here.put("cmp_" + "0" * 32, content), 404, "not_found")
    key = {"Idempotency-Key": uuid4().hex}
    assert (await here.put(campaign, content, **key)).status_code == 200
    assert (await here.put(campaign, content, **key)).headers["idempotent-replayed"] == "true"
    assert_problem(await here.put(campaign, picture("PNG", (101, 100)), **key), 422, "idempotency_key_reused")
    for status, code in (("submitted", "campaign_under_review"), ("funded", "campaign_decided")):
        here.sql("update campaigns set status = %s where id = %s", status, campaign)
        assert_problem(await here.put(campaign, content), 409, code)
        gone = await here.edge.http.delete(f"/v1/campaigns/{campaign}/cover", headers=here.edge.headers(here.owner))
        assert_problem(gone, 409, code)


async def test_a_cover_is_seen_by_who_sees_the_campaign(here: Gallery) -> None:
    draft = await here.draft()
    urls = (await here.put(draft, picture())).json()["data"]["cover"]
    for who, status in ((here.owner, 200), (here.admin, 200), (here.investor, 404), (here.stranger, 404)):
        for path in (urls["640"], f"/v1/campaigns/{draft}/cover"):
            assert (await here.look(path, who)).status_code == status
    elsewhere = Feed(here.edge, here.database)
    assert (await here.look(urls["640"], elsewhere.admin)).status_code == 404
    await here.act(here.owner, f"/campaigns/{draft}/submit")
    await here.act(here.admin, f"/admin/campaigns/{draft}/verify", {"decision": "approve"})
    assert (await here.look(urls["640"])).status_code == 200


async def test_another_cover_has_another_address_and_none_leaves_nothing(here: Gallery) -> None:
    campaign = await here.live()
    first = (await here.put(campaign, picture())).json()["data"]["cover"]
    feed = (await here.get()).headers["etag"]
    again = (await here.put(campaign, picture())).json()["data"]["cover"]
    assert again == first, "the same picture has the same address"
    second = (await here.put(campaign, picture("PNG", (900, 300)))).json()["data"]["cover"]
    assert (await here.get(tag=feed)).status_code == 200 and (await here.look(second["320"])).status_code == 200
    assert (await here.look(first["320"])).status_code == 404 and first != second
    assert here.sql("select count(*) from campaign_covers") == [(3,)]
    path = f"/v1/campaigns/{campaign}/cover"
    gone = await here.edge.http.delete(path, headers=here.edge.headers(here.owner))
    assert gone.json()["data"]["cover"] is None and here.sql("select count(*) from campaign_covers") == [(0,)]
    for url in (path, second["320"]):
        assert_problem(await here.look(url), 404, "not_found")
    assert_problem(await here.edge.http.delete(path, headers=here.edge.headers(here.owner)), 404, "not_found")
    draft = await here.draft()
    await here.put(draft, picture())
    await here.act(here.owner, f"/campaigns/{draft}", verb="DELETE")
    assert here.sql("select count(*) from campaign_covers") == [(0,)], "a deleted draft takes its cover along"
