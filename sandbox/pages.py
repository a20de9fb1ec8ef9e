"""What the HTML pages share: templates, amounts as people write them, and safe ways back to the merchant."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.responses import HTMLResponse

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default_for_string=True, default=True),
    trim_blocks=True,
    lstrip_blocks=True,
)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_NO_DECIMALS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
_THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])


def money(amount: int, currency: str, provider: str = "stripe") -> str:
    """An amount of the wire as people write it: `NGN 5,000.00`. Paystack counts hundredths in every currency."""
    code = currency.upper()
    decimals = 2
    if provider == "stripe":
        decimals = 0 if code in _NO_DECIMALS else 3 if code in _THREE_DECIMALS else 2
    whole, rest = divmod(abs(amount), 10**decimals)
    return f"{code} {'-' if amount < 0 else ''}{whole:,}" + (f".{rest:0{decimals}d}" if decimals else "")


def page(name: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template."""
    return HTMLResponse(_templates.get_template(name).render(**values), status, _HEADERS)


def way_back(url: str | None, **parameters: str) -> str | None:
    """The merchant's URL with the provider's parameters added; None when there is no usable http(s) URL."""
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return None
    query = [*parse_qsl(parts.query, keep_blank_values=True), *parameters.items()]
    return urlunsplit(parts._replace(query=urlencode(query)))
