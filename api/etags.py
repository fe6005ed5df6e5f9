"""``ETag``: whether what was read is still so (RFC 9110, 8.8 and 13.1).

The tag of a list is a hash of the answer. The tag of one resource has two parts: a hash
of what it is, and one of the whole answer, with what merely tells of looks and tries.
``If-None-Match`` compares all. ``If-Match`` compares what it is: that a host was looked
at again in the meantime keeps nobody from changing it.
"""

import re
from hashlib import blake2b
from typing import Any, Final

import falcon.asgi
import msgspec
from msgspec import Struct

from common.errors import Changed

VOLATILE: Final = ("observed_at", "revision", "next_retry_at", "error", "waits_for")

_TAG = re.compile(r'(W/)?"([^"]*)"')


class ETags:
    """Middleware: every JSON that is read has a tag, and is not sent twice."""

    async def process_response(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        resource: object,
        succeeded: bool,  # noqa: FBT001
    ) -> None:
        if req.method != "GET" or resp.status_code != 200 or resp.sse or resp.stream:
            return
        # Whoever gives an answer again knows its tag.
        tag = getattr(resp.context, "tag", None) or await _tag_of_answer(resp)
        if tag is None:
            return
        resp.set_header("ETag", f'"{tag}"')
        known = req.get_header("If-None-Match")
        if known and (known.strip() in ("*", f'"{tag}"') or tag in _tags(known)):
            resp.status = 304
            resp.media = resp.data = None


async def _tag_of_answer(resp: falcon.asgi.Response) -> str | None:
    body = await resp.render_body()
    if not body or resp.content_type != falcon.MEDIA_JSON:
        return None
    item = isinstance(resp.media, Struct) and hasattr(resp.media, "revision")
    return f"{_core(resp.media)}-{tag_of(body)}" if item else tag_of(body)


def unless_changed(req: falcon.asgi.Request, resource: Struct) -> None:
    """Raise Changed if ``If-Match`` names what this resource no longer is."""
    known = req.get_header("If-Match")
    if known is None or known.strip() == "*":
        return
    strong = [tag for weak, tag in _TAG.findall(known) if not weak]
    if _core(resource) not in [tag.partition("-")[0] for tag in strong]:
        raise Changed("It is no longer what If-Match names; read it again.")


def _tags(header: str) -> list[str]:
    return [tag for _weak, tag in _TAG.findall(header)]


def _core(resource: Any) -> str:
    facts = msgspec.to_builtins(resource)
    lasting = {name: v for name, v in facts.items() if name not in VOLATILE}
    return tag_of(msgspec.json.encode(lasting))


def tag_of(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()
