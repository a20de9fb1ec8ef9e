"""Pictures that people send: opened with care, and made anew in the sizes we keep.

Nothing of the file that was sent is kept but its pixels: no EXIF, no place where it was taken, no comments, no trailing
bytes. Pillow is imported when the first picture comes: the API's start does not wait for it.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from domain.cover import MAX_PIXELS, MAX_SIDE, MIN_SIDE, CoverWidth
from domain.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_FORMATS: Final = ("JPEG", "PNG", "WEBP")
_QUALITY: Final = 80


class UnknownPicture(Exception):
    """By its content it is none of JPEG, PNG and WebP, whatever it was called."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One size, as WebP."""

    width: CoverWidth
    content: bytes


def render(sent: bytes) -> list[Rendered]:
    """Every width of the picture, upright as its EXIF says. Takes a while and up to 100 MB: not for the event loop.

    Raises UnknownPicture, and InvalidRequest `invalid_image` for one that is broken, or too small or too large by its
    header, before any pixel is unpacked. Of an animation the first picture is taken.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = Image.open(BytesIO(sent), formats=_FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise _refused("It has too many pixels.") from error
        raise UnknownPicture from error
    except (OSError, ValueError, SyntaxError) as error:
        raise _refused("It cannot be read.") from error
    width, height = opened.size
    if not (min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE and width * height <= MAX_PIXELS):
        text = f"Its sides are {MIN_SIDE} to {MAX_SIDE} pixels, and it has at most {MAX_PIXELS} of them."
        raise _refused(text)
    try:
        opened.draft("RGB", (2 * max(CoverWidth), 2 * max(CoverWidth)))  # a large JPEG is unpacked smaller: quicker
        upright = ImageOps.exif_transpose(opened)
        plain = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _refused("It cannot be read.") from error
    return [Rendered(width, _scaled(plain, width)) for width in CoverWidth]


def _scaled(picture: "Picture", width: CoverWidth) -> bytes:
    from PIL import Image

    narrow = min(int(width), picture.width)
    size = narrow, max(1, round(picture.height * narrow / picture.width))
    scaled = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
    clean = Image.new(scaled.mode, scaled.size)
    clean.paste(scaled)
    out = BytesIO()
    clean.save(out, "WEBP", quality=_QUALITY)
    return out.getvalue()


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest("invalid_image", f"The picture is not taken. {why}", field="body")
