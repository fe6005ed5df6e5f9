"""What a route promises, written beside its code; ``api.openapi`` prints it.

    @contract("Add a host", answers={200: Host}, body=AddHost, waits=True,
              problems=(HostIdTaken, UriNotAllowed, ConnectionFailed))
    async def on_post(self, req, resp): …

The responder's docstring says the rest. What every route has (a request id, a fault of
ours, an unknown host in its path) is added where the document is printed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

from msgspec import Meta, Struct

from common.errors import (
    BodyTooLarge,
    BrokenDomain,
    Changed,
    HostRemoved,
    HostUnreachable,
    Interrupted,
    InvalidRequest,
    KeyInFlight,
    KeyReused,
    LibvirtRefused,
    StoreUnavailable,
    TaskCancelled,
    VirtumancerError,
    WrongMediaType,
)
from common.shapes import Task
from common.shapes.parameters import Paging

JSON = "application/json"

Responder = TypeVar("Responder", bound=Callable[..., Any])
Problems = tuple[type[VirtumancerError], ...]


class Header(NamedTuple):
    """A header, what it is for, and what it may look like."""

    name: str
    means: str
    example: str | int
    shape: Any = str


LOCATION = Header(
    "Location",
    "Where the task stands.",
    "/api/tasks/019a9f1e-3c52-7a41-8b0e-5d3f2c6a7b10",
)
LINK = Header(
    "Link",
    'The next page, as `rel="next"` (RFC 8288); absent on the last one.',
    '</api/vms?limit=100&cursor=MTAw>; rel="next"',
)
CURSOR = Header(
    "X-Virtumancer-Cursor",
    "What the list does not show yet is told to who subscribes `since` here.",
    "ODEyLjQ3MTE",
)
RETRY_AFTER = Header(
    "Retry-After", "Trying again earlier than after so many seconds is no use.", 5, int
)
REQUEST_ID = Header(
    "X-Request-ID",
    "Follows the request through every log. One that you send is kept.",
    "0198f2c4a1b87c53",
)
WWW_AUTHENTICATE = Header(
    "WWW-Authenticate", "What has to be shown (RFC 6750).", 'Bearer realm="virtumancer"'
)
UPGRADE = Header("Upgrade", "What this address speaks instead.", "websocket")
VARY = Header("Vary", "The answer depends on this header of the request.", "Accept")
CACHE_CONTROL = Header("Cache-Control", "How long it may be kept.", "max-age=3600")
PREFER = Header(
    "Prefer",
    "`wait=SECONDS`: how long to wait for the end. `respond-async`: not at all"
    " (RFC 7240).",
    "wait=10",
)
IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "The same key and body again, within 24 h, gives the same answer and acts once.",
    "8e03978e-40d5-43dd-bc93-6894a57f9324",
    Annotated[str, Meta(pattern=r'\A"?[!#-~]{1,255}"?\Z')],
)
ETAG = Header(
    "ETag", "What was read, for `If-None-Match`.", '"0f1e2d3c4b5a69788796a5b4"'
)
IF_NONE_MATCH = Header(
    "If-None-Match", "Tags of what is known: 304 if that is still so.", ETAG.example
)
IF_MATCH = Header(
    "If-Match", "The `ETag` of what is to be changed: 412 if it has.", ETAG.example
)
PREFERENCE_APPLIED = Header(
    "Preference-Applied", "What of `Prefer` was understood.", "wait=10"
)

CAREFUL = (
    Header(
        "Content-Security-Policy",
        "What a page here may load; an answer that is no page loads nothing.",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    Header("Cross-Origin-Resource-Policy", "No page embeds it.", "same-origin"),
    Header("Referrer-Policy", "No link tells where it stood.", "no-referrer"),
    Header("X-Content-Type-Options", "It is what it says it is.", "nosniff"),
    Header("X-Frame-Options", "No page frames it.", "DENY"),
)
"""What every answer tells browsers."""

OF_A_BODY: Problems = (BodyTooLarge, WrongMediaType)
OF_A_KEY: Problems = (KeyInFlight, KeyReused)
MUTATIONS = ("on_post", "on_put", "on_patch", "on_delete")
OF_A_TASK: Problems = (
    TaskCancelled,
    LibvirtRefused,
    BrokenDomain,
    Interrupted,
    HostRemoved,
    HostUnreachable,
)
"""What may become of a task for a host that is known."""


class Answer(NamedTuple):
    """One status: the shape of its body (None for none), and its headers.

    ``texts`` are media types in which the same can be had as a text.
    """

    shape: Any = None
    means: str = ""
    headers: tuple[Header, ...] = ()
    media_type: str = JSON
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """``problems`` stand for their subclasses too."""

    summary: str
    details: str
    answers: Mapping[int, Answer]
    problems: Problems
    body: type[Struct] | None = None
    query: type[Struct] | None = None
    takes: tuple[Header, ...] = ()


def contract(
    summary: str,
    *,
    answers: Mapping[int, Any],
    body: type[Struct] | None = None,
    query: type[Struct] | None = None,
    takes: tuple[Header, ...] = (),
    problems: Problems = (),
    waits: bool = False,
    conditional: bool = False,
    stored: bool = True,
    keyed: bool = True,
) -> Callable[[Responder], Responder]:
    """Promise this of a responder.

    ``answers`` gives a shape or an Answer for each status that is no problem. What
    ``waits`` for a task knows the header Prefer, and 202. What is not ``stored`` is
    answered without the database. What is ``conditional`` knows the header If-Match.
    A mutation that is not ``keyed`` knows no Idempotency-Key.
    """
    promised = {
        status: answer if isinstance(answer, Answer) else Answer(answer)
        for status, answer in answers.items()
    }
    problems = (InvalidRequest, VirtumancerError, *problems)
    if stored:
        problems += (StoreUnavailable,)
    if body is not None:
        problems += OF_A_BODY
    if query is not None and issubclass(query, Paging):
        promised[200] = _with(_with(promised[200], LINK), CURSOR)
    if conditional:
        takes += (IF_MATCH,)
        problems += (Changed,)
    if waits:
        takes += (PREFER,)
        problems += OF_A_TASK
        promised[202] = Answer(Task, "It goes on; look at the task.", (LOCATION,))
        promised = {s: _with(a, PREFERENCE_APPLIED) for s, a in promised.items()}

    def promise(responder: Responder) -> Responder:
        mutates = responder.__name__ in MUTATIONS
        keys = mutates and keyed
        tagged = not mutates and _is_json(promised.get(200))
        said = _tagged(promised) if tagged else promised
        responder.contract = Contract(  # type: ignore[attr-defined]
            summary=summary,
            details=responder.__doc__ or "",
            answers=dict(sorted(said.items())),
            problems=problems + OF_A_KEY * keys,
            body=body,
            query=query,
            takes=takes + (IDEMPOTENCY_KEY,) * keys + (IF_NONE_MATCH,) * tagged,
        )
        return responder

    return promise


def _is_json(answer: Answer | None) -> bool:
    return answer is not None and answer.media_type == JSON


def _tagged(promised: Mapping[int, Answer]) -> dict[int, Answer]:
    same = Answer(None, "It is as `If-None-Match` knows it.", (ETAG,))
    return {**promised, 200: _with(promised[200], ETAG), 304: same}


def contract_of(responder: object) -> Contract | None:
    found = getattr(responder, "contract", None)
    return found if isinstance(found, Contract) else None


def _with(answer: Answer, header: Header) -> Answer:
    return answer._replace(headers=(*answer.headers, header))
