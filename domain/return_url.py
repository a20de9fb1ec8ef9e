"""Where a payer may be sent back to: only to addresses the tenant has listed, compared part by part, not as text."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from domain.errors import InvalidRequest

MAX_LENGTH = 500


def check_return_url(url: str, allowed: Iterable[str]) -> None:
    """Pass when scheme, host and port equal an allowed entry's and the path lies at or below its path.

    Raises InvalidRequest `return_url_not_allowed`, also for credentials, fragments and unreadable addresses.
    """
    refused = InvalidRequest(
        "return_url_not_allowed", "This return_url is not on the tenant's list.", field="return_url"
    )
    try:
        given = urlsplit(url)
        port = given.port
    except ValueError as error:
        raise refused from error
    if given.scheme not in ("http", "https") or given.username or given.fragment or "\\" in url or ".." in given.path:
        raise refused
    for entry in map(urlsplit, allowed):
        same_place = (given.scheme, given.hostname, port) == (entry.scheme, entry.hostname, entry.port)
        base = entry.path.rstrip("/")
        if same_place and (given.path == base or given.path.startswith(f"{base}/") or not base):
            return
    raise refused
