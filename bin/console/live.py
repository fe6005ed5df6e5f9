"""The WebSocket as commands follow it: it comes back by itself, and goes on from where
it was cut."""

import json
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from console.api import Api
from console.failures import ExitCode, Failure, Unreachable

Frame = dict[str, Any]

LARGEST_FRAME: Final = 16 << 20
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
OPEN_S: Final = 10
AHEAD: Final = 10_000
"""So many frames wait for us; then the API is not read from, and waits too."""


class Linked(NamedTuple):
    """The socket is open, and what is followed has been said."""


class Cut(NamedTuple):
    """The socket was lost; it is being opened again."""

    why: str


class Ended(NamedTuple):
    """It will not be opened again."""

    failure: Failure


Event = Frame | Linked | Cut


class Socket:
    """Reads in a thread of its own; ``opening`` says what to send whenever it opens."""

    def __init__(self, api: Api, opening: Callable[[], Iterable[Frame]]) -> None:
        self._address = f"ws{api.url.removeprefix('http')}/ws"
        self._headers = api.headers
        self._opening = opening
        self._events: queue.Queue[Event | Ended] = queue.Queue(AHEAD)
        self._sending = threading.Lock()
        self._open: ClientConnection | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Socket":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        if self._open is not None:
            self._open.socket.close()

    def next(self, timeout_s: float) -> Event | None:
        """The next event, or None when none comes in time.

        A subscription that is refused is a Failure; a VM that is gone is none.
        """
        try:
            event = self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if isinstance(event, Ended):
            raise event.failure
        if isinstance(event, dict) and event["type"] == "error":
            told = event["payload"]
            if told["code"] != "unknown-vm":
                raise Failure("What to follow was refused", told["message"])
        return event

    def send(self, frame: Frame) -> None:
        """Send if the socket is open; what holds for ever is in ``opening`` as well."""
        with self._sending:
            if self._open is not None:
                try:
                    self._open.send(json.dumps(frame))
                except (WebSocketException, OSError):
                    # The reading thread meets the same, and opens it again.
                    return

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                with connect(
                    self._address,
                    additional_headers=self._headers,
                    max_size=LARGEST_FRAME,
                    open_timeout=OPEN_S,
                ) as opened:
                    self._begin(opened)
                    pause_s = FIRST_PAUSE_S
                    for text in opened:
                        self._events.put(json.loads(text))
                why = f"closed with {opened.close_code} {opened.close_reason}".strip()
            except InvalidStatus as refusal:
                if refusal.response.status_code in (401, 403, 404):
                    self._events.put(Ended(_refused(refusal)))
                    return
                why = str(refusal)
            except (InvalidHandshake, WebSocketException, OSError) as error:
                why = str(error) or type(error).__name__
            with self._sending:
                self._open = None
            self._events.put(Cut(why))
            self._closing.wait(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    def _begin(self, opened: ClientConnection) -> None:
        with self._sending:
            self._open = opened
            for frame in self._opening():
                opened.send(json.dumps(frame))
        self._events.put(Linked())


def _refused(refusal: InvalidStatus) -> Failure:
    status = refusal.response.status_code
    failure = Unreachable(
        f"The WebSocket was refused with {status}",
        refusal.response.body.decode(errors="replace")[:300],
        "Look at VIRTUMANCER_TOKEN, and whether the address is Virtumancer's.",
    )
    if status != 404:
        failure.code = ExitCode.FORBIDDEN
    return failure
