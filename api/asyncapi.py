"""AsyncAPI 3, printed from the frames' Structs: what the two live doors say."""

from typing import Any, get_args

from api.recorded import examples_of
from api.roles import need_of
from api.schemas import components, parameters, plain, schema_of
from api.security import SCHEMES
from common.shapes import ClientFrame, ErrorFrame, ServerFrame, Unsubscribed
from common.shapes.parameters import Streams

Part = dict[str, Any]

_TYPES = {"http": "http", "apiKey": "httpApiKey"}
"""AsyncAPI's word for OpenAPI's."""

ASKED = get_args(ClientFrame)
TOLD = get_args(ServerFrame)
STREAMED = tuple(f for f in TOLD if f not in (ErrorFrame, Unsubscribed))
"""Over server-sent events nobody can ask for anything, so nothing is refused."""


def asyncapi(host: str) -> Part:
    """``host`` is where this server is reached, as in the header ``Host``."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Virtumancer",
            "version": "1",
            "description": "What changes on your libvirt hosts, told by itself. What is"
            " asked for over HTTP is described in /api/openapi.json.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "socket": {"host": host, "protocol": "ws", "security": _security()},
            "stream": {"host": host, "protocol": "http", "security": _security()},
        },
        "channels": {
            "socket": {
                "address": "/ws",
                "description": "A WebSocket. Each message is one JSON text."
                f" {_who('/ws')}",
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": _refs((*TOLD, *ASKED), "#/components/messages"),
                "bindings": {"ws": {"method": "GET"}},
            },
            "stream": {
                "address": "/api/events",
                "description": "Server-sent events. `event` is the frame's type,"
                " `data` the frame, `id` the cursor that a browser sends back as"
                f" `Last-Event-ID`. {_who('/api/events')}",
                "servers": [{"$ref": "#/servers/stream"}],
                "messages": _refs(STREAMED, "#/components/messages"),
            },
        },
        "operations": {
            "tell": _operation("send", "socket", TOLD, "Tell what happened."),
            "ask": _operation("receive", "socket", ASKED, "Ask for more."),
            "stream": _operation("send", "stream", STREAMED, "Tell what happened.")
            | {"bindings": {"http": {"method": "GET", "query": _query()}}},
        },
        "components": {
            "messages": {_name(frame): _message(frame) for frame in (*TOLD, *ASKED)},
            "schemas": components(ASKED, TOLD),
            "securitySchemes": {
                name: {**scheme, "type": _TYPES[scheme["type"]]}
                for name, scheme in SCHEMES.items()
            },
        },
    }


def _security() -> list[Part]:
    return [{"$ref": f"#/components/securitySchemes/{name}"} for name in SCHEMES]


def _who(path: str) -> str:
    return f"For tokens with the role `{need_of(path, 'GET').role}`."


def _name(frame: Any) -> str:
    return str(frame.__struct_config__.tag)


def _refs(frames: tuple[Any, ...], place: str) -> Part:
    return {_name(frame): {"$ref": f"{place}/{_name(frame)}"} for frame in frames}


def _operation(
    action: str, channel: str, frames: tuple[Any, ...], summary: str
) -> Part:
    place = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": place},
        "summary": summary,
        "messages": list(_refs(frames, f"{place}/messages").values()),
    }


def _message(frame: Any) -> Part:
    examples = [example["body"] for example in examples_of(_name(frame))]
    said: Part = {"name": _name(frame), "payload": schema_of(frame)}
    if words := plain(frame.__doc__ or ""):
        said["summary"] = words
    if examples:
        said["examples"] = [{"payload": body} for body in examples]
    return said


def _query() -> Part:
    fields = {name: schema for name, _, schema in parameters(Streams)}
    return {"type": "object", "properties": fields}
