"""A WebSocket client that keeps every frame and when it came."""

import json
import threading
import time
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Frame = dict[str, Any]


class Listener:
    """Listens in a thread until it is closed, by us or by the far side."""

    def __init__(self, url: str) -> None:
        self.frames: list[tuple[float, Frame]] = []
        self.close_code: int | None = None
        self._changed = threading.Condition()
        self._open = ExitStack()
        address = url.replace("http", "ws", 1) + "/ws"
        self._socket = self._open.enter_context(connect(address, max_size=None))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for text in self._socket:
                with self._changed:
                    self.frames.append((time.monotonic(), json.loads(text)))
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        with self._changed:
            self.close_code = self._socket.close_code
            self._changed.notify_all()

    @property
    def open(self) -> bool:
        return self._thread.is_alive()

    def subscribe(self, host_id: str, vm_name: str) -> None:
        self._send("subscribe-vm-stats", host_id, vm_name)

    def unsubscribe(self, host_id: str, vm_name: str) -> None:
        self._send("unsubscribe-vm-stats", host_id, vm_name)

    def _send(self, kind: str, host_id: str, vm_name: str) -> None:
        address = {"hostId": host_id, "vmName": vm_name}
        self.send({"type": kind, "payload": address})

    def send(self, frame: Frame) -> None:
        self._socket.send(json.dumps(frame))

    def since(self, instant: float, kind: str, **payload: Any) -> list[Frame]:
        """Frames of this kind after an instant of the monotonic clock."""
        return [
            frame
            for at, frame in self.frames
            if at >= instant
            and frame["type"] == kind
            and payload.items() <= (frame["payload"] or {}).items()
        ]

    def wait(
        self, timeout_s: float, kind: str, since: float = 0, **payload: Any
    ) -> Frame:
        """The first such frame after an instant; fails after so long."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: self.since(since, kind, **payload), timeout_s
            )
        assert found, f"no {kind} {payload} within {timeout_s} s"
        return found[0]

    def instants(self, kind: str) -> list[float]:
        """When each frame of this kind came."""
        return [at for at, frame in self.frames if frame["type"] == kind]

    def wait_until_closed(self, timeout_s: float) -> int | None:
        """The code that the far side closed with."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"still open after {timeout_s} s"
        return self.close_code

    def close(self) -> None:
        self._open.close()
        self._thread.join(5)
