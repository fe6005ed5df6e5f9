"""``python -m api`` runs a web process until SIGTERM or Ctrl-C."""

import logging
import signal
import sys
from types import FrameType

import structlog

from api.app import Web
from api.server import is_loopback, listening_socket, serve
from common import log, settings, tracing


def main() -> None:
    told = settings.from_environment()
    log.configure(told, "web")
    tracing.configure(told, "web")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # uvicorn raises the signal anew when it has ended in order: that is no failure.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    if told.virtumancer_auth == "off" and not is_loopback(told.bind):
        sys.exit(
            f"Refused to listen on {told.bind or 'every address'}: VIRTUMANCER_AUTH=off"
            " lets anybody do anything, so it is for loopback alone. Set"
            " VIRTUMANCER_AUTH=tokens, or BIND=127.0.0.1."
        )
    try:
        listener = listening_socket(told)
    except OSError as error:
        sys.exit(f"Cannot listen on {told.bind}:{told.port}: {error.strerror}")
    host, port = listener.getsockname()[:2]
    structlog.get_logger().info(
        "listening", host=host, port=port, auth=told.virtumancer_auth
    )
    web = Web(told)
    serve(web.app, web.drain, listener, told.virtumancer_max_connections)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
