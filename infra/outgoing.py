"""How this product calls others over HTTP: one kind of client, whose certificates are read from disk once per process."""

import ssl
from functools import cache
from typing import Any

import httpx


def http_client(**more: Any) -> httpx.AsyncClient:
    """A client that follows no redirect (a provider's answer must not send a secret key elsewhere). `more`: as httpx has it."""
    return httpx.AsyncClient(verify=_certificates(), follow_redirects=False, **more)


@cache
def _certificates() -> ssl.SSLContext:
    """Reading the authorities costs 20 ms or more; the context may be shared."""
    return httpx.create_ssl_context()
