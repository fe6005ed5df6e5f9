"""The HTTP API as commands use it; its problems are raised as failures."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from common.shapes import Problem, Task
from console.failures import Failure, Refused, Unreachable, Unusable

T = TypeVar("T")

CONNECT_S: Final = 10
ANSWER_S: Final = 60
"""Longer than a request waits for its task."""
PATIENCE_S: Final = 30
"""An API that answered before and does not now is asked again for so long."""
PAUSE_S: Final = 0.5
CURSOR: Final = "X-Virtumancer-Cursor"
ENDED: Final = ("done", "failed", "interrupted", "cancelled")


class Answer:
    """What was answered, as it came and as a shape."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.following: str | None = response.links.get("next", {}).get("url")
        self.body: Any = msgspec.json.decode(response.content or b"null")

    def of(self, shape: type[T]) -> T:
        return shaped(self.body, shape)


def shaped(body: Any, shape: type[T]) -> T:
    """What the API sent, decoded; it must be of our own version."""
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        raise Unreachable(
            "The answer is not understood",
            f"{error}.",
            "This command line and the API are of different versions: use the one"
            " that came with it.",
        ) from None


class Api:
    """One Virtumancer, asked as one identity."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = 0.0
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=self.headers, timeout=timeout
            )
        except httpx.InvalidURL as error:
            raise Unusable(f"{url} is no URL", f"{error}.") from None

    def get(self, path: str, **query: Any) -> Answer:
        return self._ask("GET", path, query=query)

    def all(self, path: str, **query: Any) -> Answer:
        """All pages of a list, with the headers of the first."""
        first = page = self.get(path, **query)
        while page.following:
            page = self._ask("GET", page.following)
            first.body += page.body
        return first

    def change(
        self, method: str, path: str, body: Any = None, prefer: str | None = None
    ) -> Answer:
        """Ask for a change once: a request that got no answer is sent again with the
        same key, so that what it asks for is done no second time."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        if prefer:
            headers["Prefer"] = prefer
        return self._ask(method, path, body=body, headers=headers)

    def wait(self, task: Task, interval_s: float) -> Iterator[Task]:
        """The task again and again until it has ended, its end the last."""
        while task.state not in ENDED:
            yield task
            with self.patient(PATIENCE_S):
                answer = self.get(f"/api/tasks/{task.id}", wait=interval_s)
            task = answer.of(Task)
        yield task

    @contextmanager
    def patient(self, patience_s: float) -> Iterator[None]:
        """Ask again for so long where nobody answers, or its database does not."""
        before, self._patience_s = self._patience_s, patience_s
        try:
            yield
        finally:
            self._patience_s = before

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        given = {n: v for n, v in (query or {}).items() if v is not None}
        request = self._http.build_request(
            method, path, params=given or None, json=body, headers=headers
        )
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return self._answered(self._sent(request))
            except Unreachable:
                if time.monotonic() >= until:
                    raise
            except Refused as refused:
                if refused.problem.status != 503 or time.monotonic() >= until:
                    raise
            time.sleep(PAUSE_S)

    def _answered(self, response: httpx.Response) -> Answer:
        if response.is_error:
            raise _failure(response)
        try:
            return Answer(response)
        except msgspec.DecodeError:
            raise self._somebody_else(response) from None

    def _sent(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + PATIENCE_S
        was_there = False
        while True:
            try:
                return self._http.send(request)
            except httpx.UnsupportedProtocol as error:
                raise Unusable(f"{self.url} is no URL", f"{error}") from None
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if not was_there or time.monotonic() > until:
                    raise self._nobody(error) from None
            except httpx.TransportError as error:
                # The answer was lost on its way; a change carries its key.
                was_there = True
                if time.monotonic() > until:
                    raise self._nobody(error) from None
            time.sleep(PAUSE_S)

    def _nobody(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"Nobody answers at {self.url}",
            f"{error}.",
            "Is it running (bin/up)? Say where it is with VIRTUMANCER_URL or --url.",
        )

    def _somebody_else(self, response: httpx.Response) -> Unreachable:
        kind = response.headers.get("content-type", "nothing")
        return Unreachable(
            f"{self.url} is not Virtumancer",
            f"It answered {response.status_code} with {kind}.",
            "Say where it is with VIRTUMANCER_URL or --url.",
        )


def _failure(response: httpx.Response) -> Failure:
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return Unreachable(
            f"{response.url} answered {response.status_code}",
            "That is no answer of Virtumancer's.",
            "Look at what stands between: a proxy, or another program at this port?",
        )
    return Refused(problem)


def path_of(*segments: str) -> str:
    """``/api/…`` with every segment quoted."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)
