"""The API about itself: both documents, a page to read them, the catalogue of problems.

The page is Swagger UI out of the package swagger-ui-py; nothing is fetched from
anywhere else, and the Content-Security-Policy sees to it.
"""

import html
import importlib.util
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import falcon
import falcon.asgi

from api.asyncapi import asyncapi
from api.contract import CACHE_CONTROL, VARY, Answer, contract
from api.openapi import Part, Routes, openapi
from common.catalogue import catalogue
from common.errors import UnknownPath, UnknownProblem
from common.shapes import ProblemType

Request = falcon.asgi.Request
Response = falcon.asgi.Response

HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The least that Swagger UI works under, tried in a browser: nothing inline, but the
icons in its style sheet are `data:` URLs. A stricter one leaves the page blank."""
LIFETIME_S = 3600
PAGES = (falcon.MEDIA_HTML,)
FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    "LICENSE": "text/plain",
}
START = """\
SwaggerUIBundle({
  url: "/api/openapi.json", dom_id: "#docs", deepLinking: true, docExpansion: "list",
  defaultModelsExpandDepth: 0, validatorUrl: null, tryItOutEnabled: true,
});
"""
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="/api/docs/favicon-32x32.png">
{head}<link rel="stylesheet" href="/api/docs/page.css">
<nav><a href="/api/docs">API</a> · <a href="/api/openapi.json">OpenAPI</a> ·
<a href="/api/asyncapi.json">AsyncAPI</a> · <a href="/api/problems">problems</a></nav>
{content}
</html>
"""
STYLE = """\
body { font: 16px/1.5 sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem }
dt { font-weight: bold; margin-top: 1rem }
"""
UI_HEAD = """\
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
"""
UI = """\
<div id="docs"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs/start.js"></script>
"""


OURS = {"start.js": (START, "text/javascript"), "page.css": (STYLE, "text/css")}


class OpenApi:
    """This API, for programs: OpenAPI 3.1."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._printed: Part = {}

    @contract("Read the OpenAPI document", answers={200: Part}, stored=False)
    async def on_get(self, req: Request, resp: Response) -> None:
        self._printed = self._printed or openapi(self._routes)
        resp.media = self._printed


class AsyncApi:
    """What is pushed over ``/ws`` and ``/api/events``, for programs: AsyncAPI 3."""

    @contract("Read the AsyncAPI document", answers={200: Part}, stored=False)
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = asyncapi(req.netloc)


class DocsPage:
    """This API, for people."""

    @contract(
        "Read the documentation",
        answers={200: Answer(str, media_type="text/html")},
        stored=False,
    )
    async def on_get(self, req: Request, resp: Response) -> None:
        _show(resp, "Virtumancer", UI, UI_HEAD)


class DocsFile:
    """What the documentation page is made of."""

    @contract(
        "Read a file of the documentation page",
        answers={200: Answer(bytes, headers=(CACHE_CONTROL,), media_type="*/*")},
        stored=False,
    )
    async def on_get(self, req: Request, resp: Response, file: str) -> None:
        if file in OURS:
            text, resp.content_type = OURS[file]
            resp.data = text.encode()
        elif file in FILES:
            resp.data, resp.content_type = _packaged(file), FILES[file]
        else:
            raise UnknownPath(f"The documentation page has no file {file}.")
        resp.cache_control = [f"max-age={LIFETIME_S}"]


class ProblemTypes:
    """Everything that can go wrong; in a browser as a page."""

    @contract(
        "List the types of problem",
        answers={200: Answer(list[ProblemType], headers=(VARY,), texts=PAGES)},
        stored=False,
    )
    async def on_get(self, req: Request, resp: Response) -> None:
        types = list(catalogue().values())
        if _wants_page(req, resp):
            _show(resp, "Problems", _definitions(types))
        else:
            resp.media = types


class OneProblemType:
    """What a problem means and what to do about it; in a browser as a page."""

    @contract(
        "Look up a type of problem",
        answers={200: Answer(ProblemType, headers=(VARY,), texts=PAGES)},
        stored=False,
    )
    async def on_get(self, req: Request, resp: Response, kind: str) -> None:
        if kind not in catalogue():
            raise UnknownProblem(f"There is no problem of the type {kind}.")
        if _wants_page(req, resp):
            _show(resp, catalogue()[kind].title, _definitions([catalogue()[kind]]))
        else:
            resp.media = catalogue()[kind]


def _wants_page(req: Request, resp: Response) -> bool:
    resp.append_header("Vary", "Accept")
    offers = (falcon.MEDIA_JSON, falcon.MEDIA_HTML)
    return req.client_prefers(offers) == falcon.MEDIA_HTML


def _definitions(types: Iterable[ProblemType]) -> str:
    """A definition list: each title, what it means, what to do."""
    return "\n".join(["<dl>", *(_definition(one) for one in types), "</dl>"])


def _definition(one: ProblemType) -> str:
    codes = f" libvirt: {', '.join(one.libvirt)}." if one.libvirt else ""
    words = [_marked_up(text) for text in (one.title, one.meaning, one.advice)]
    title, meaning, advice = words
    name = one.type.rpartition("/")[2]
    said = "" if meaning == f"{title}." else f"{meaning}<br>"
    return (
        f'<dt id="{name}"><a href="{one.type}">{title}</a></dt>'
        f"<dd><code>{name}</code>, status {one.status}.{codes}<br>{said}"
        f"<strong>{advice}</strong></dd>"
    )


def _marked_up(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _show(resp: Response, title: str, content: str, head: str = "") -> None:
    resp.content_type = HTML
    resp.set_header("Content-Security-Policy", POLICY)
    resp.text = PAGE.format(title=html.escape(title), content=content, head=head)


@cache
def _packaged(file: str) -> bytes:
    found = importlib.util.find_spec("swagger_ui")
    assert found and found.submodule_search_locations
    return (Path(found.submodule_search_locations[0]) / "static" / file).read_bytes()
