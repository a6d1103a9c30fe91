"""The page: files of the package, which nothing but this server sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

FOLDER = Path(__file__).parent.parent / "page"
INDEX = "index.html"
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, no script in the markup, no markup out of strings, nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "cache-control": "no-cache",  # asked for again each time, by its etag
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class PageFile:
    body: bytes
    media_type: str
    etag: str


def read_page(folder: Path = FOLDER) -> dict[str, PageFile]:
    """Every file by the path it is served under."""
    files = sorted(path for path in folder.iterdir() if path.suffix in MEDIA_TYPES)
    return {"/" if path.name == INDEX else f"/page/{path.name}": _read(path) for path in files}


def router(files: Mapping[str, PageFile]) -> APIRouter:
    """It is no part of the API, and so of no document about it."""
    routes = APIRouter(include_in_schema=False)
    for path, file in files.items():
        routes.add_api_route(path, _sends(file), methods=["GET", "HEAD"])
    return routes


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, MEDIA_TYPES[path.suffix], f'"{sha256(body).hexdigest()[:32]}"')


def _sends(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    async def send(http: Request) -> Response:
        headers = {**HEADERS, "etag": file.etag}
        if http.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.media_type)

    return send
