"""Routes: strict about JSON bodies, and short for reads."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.envelope import parse_json
from api.reads import read_handler


class StrictRoute(APIRoute):
    """A route whose JSON body is read by `parse_json`; another content type is 415."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given the parsed body in advance (it finds it in the request's cache), or a read's own."""
        if (read := read_handler(self)) is not None:
            return read
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if self.body_field is not None and (raw := await request.body()):
                media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if media_type != "application/json":
                    raise HTTPException(415)
                request._json = parse_json(raw)
            return await handle(request)

        return strict


def api_router(**options: Any) -> APIRouter:
    """A router whose routes are strict. Every router of the product is made here."""
    return APIRouter(route_class=StrictRoute, **options)
