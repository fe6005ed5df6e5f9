"""HTTP's side of the contract: what comes in is decoded into Structs.

What is wrong with a request is said together with its place.
"""

import asyncio
import re
from typing import Any, TypeVar, get_args

import falcon
import falcon.asgi
import msgspec

from common.errors import BodyTooLarge, InvalidRequest, WrongMediaType
from common.shapes.parameters import Preferences

BODY_BYTES = 64 * 1024
BODY_S = 10
"""A body that takes longer to come is not waited for."""

T = TypeVar("T", bound=msgspec.Struct)

_PLACE = re.compile(r" - at `\$(?P<place>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<field>[^`]*)`")
_REGEX = re.compile(r"`str` matching regex '\\+A(?P<pattern>.*?)\\+Z'")
_PREFERENCE = re.compile(r'\s*([\w-]+)\s*(?:=\s*"?([^";]*)"?)?\s*(?:;.*)?')


async def body(req: falcon.asgi.Request, shape: type[T]) -> T:
    """The JSON body as a Struct, or the problem with it."""
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise WrongMediaType("Send the body as Content-Type: application/json.")
    text = await read(req)
    try:
        return msgspec.json.decode(text, type=shape)
    except msgspec.ValidationError as error:
        raise _invalid(error, shape, "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.", at="$") from None


async def read(req: falcon.asgi.Request) -> bytes:
    """The body as it came; it may be asked for more than once."""
    if not hasattr(req.context, "body"):
        req.context.body = await _read(req)
    body: bytes = req.context.body
    return body


async def _read(req: falcon.asgi.Request) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {BODY_BYTES} bytes.")
    if (req.content_length or 0) > BODY_BYTES:
        raise too_large
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in req.stream:
                read += chunk
                if len(read) > BODY_BYTES:
                    raise too_large
    except TimeoutError:
        raise InvalidRequest(f"The body did not come within {BODY_S} s.") from None
    return bytes(read)


def query(req: falcon.Request, shape: type[T]) -> T:
    """The URL's parameters as a Struct, or the problem with them."""
    try:
        asked = msgspec.convert(req.params, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, shape, "?") from None
    if not req.params:
        return asked
    for field in msgspec.structs.fields(shape):
        name = field.encode_name
        # "null" would pass for a parameter that was not given.
        absent = name in req.params and getattr(asked, field.name) is None
        if absent or "\0" in str(req.params.get(name)):
            raise InvalidRequest(f"The parameter {name} is not valid.", at=f"?{name}")
    return asked


def _invalid(
    error: msgspec.ValidationError, shape: type[T], root: str
) -> InvalidRequest:
    """Say what is wrong, and where: ``$.uri`` in a body, ``?state`` in a URL."""
    words = _REGEX.sub(_readable, _PLACE.sub("", str(error)))
    place = found["place"] if (found := _PLACE.search(str(error))) else ""
    if found := _FIELD.search(words):
        place += f".{found['field']}"
    at = f"?{place[1:]}" if root == "?" else f"${place}"
    for field in msgspec.structs.fields(shape):
        if words.startswith("Invalid enum value") and place == f".{field.encode_name}":
            words += f"; choose one of {', '.join(_choices(field.type))}"
    return InvalidRequest(f"{words} (at {at}).", at=at)


def _readable(found: re.Match[str]) -> str:
    """A pattern as people write it: without Python's ends and doubled backslashes."""
    pattern = found["pattern"].replace(r"\\", "\\")
    return f"`str` like `{pattern}`"


def _choices(hint: Any) -> list[str]:
    """The strings of a Literal, also of one that may be left out."""
    choices: list[str] = []
    for part in get_args(hint):
        choices += [part] if isinstance(part, str) else _choices(part)
    return choices


def preferences(req: falcon.Request) -> Preferences:
    """The header Prefer (RFC 7240); what is not understood is left aside."""
    given: dict[str, str] = {}
    for part in (req.get_header("Prefer") or "").split(","):
        if found := _PREFERENCE.fullmatch(part):
            given.setdefault(found[1].lower(), found[2] or "")
    wanted = {"respond_async": "respond-async" in given}
    try:
        return msgspec.convert(
            wanted | {"wait_s": given.get("wait")}, Preferences, strict=False
        )
    except msgspec.ValidationError:
        return msgspec.convert(wanted, Preferences)
