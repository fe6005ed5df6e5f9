"""AsyncAPI 3, printed from the frames' Structs: what the two live doors say."""

import inspect
from typing import Any, get_args

from api.recorded import examples_of
from api.schemas import components, parameters, plain, schema_of
from common.shapes import ClientFrame, ErrorFrame, ServerFrame
from common.shapes.parameters import Streams

Part = dict[str, Any]

ASKED = get_args(ClientFrame)
TOLD = get_args(ServerFrame)
STREAMED = tuple(frame for frame in TOLD if frame is not ErrorFrame)
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
            "socket": {"host": host, "protocol": "ws"},
            "stream": {"host": host, "protocol": "http"},
        },
        "channels": {
            "socket": {
                "address": "/ws",
                "description": "A WebSocket. Each message is one JSON text.",
                "servers": [{"$ref": "#/servers/socket"}],
                "messages": _refs((*TOLD, *ASKED), "#/components/messages"),
                "bindings": {"ws": {"method": "GET"}},
            },
            "stream": {
                "address": "/api/events",
                "description": "Server-sent events. `event` is the frame's type,"
                " `data` the frame.",
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
        },
    }


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
    if words := plain(inspect.getdoc(frame) or ""):
        said["summary"] = words
    if examples:
        said["examples"] = [{"payload": body} for body in examples]
    return said


def _query() -> Part:
    fields = {name: schema for name, _, schema in parameters(Streams)}
    return {"type": "object", "properties": fields}
