"""Whether a list has changed is asked once for all who wait, and always anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from api.listings import IN_A_ROW, Asked
from common.db import Ask, AsyncReader, Query
from common.errors import StoreUnavailable


class Questions:
    """A Postgres that counts what it is asked; it answers when it is let."""

    def __init__(self) -> None:
        self.put = 0
        self.sittings = 0
        self.let = asyncio.Event()
        self.let.set()
        self.is_gone = False

    @asynccontextmanager
    async def asking(self, query: Query) -> AsyncIterator[Ask]:
        self.sittings += 1

        async def ask(**params: object) -> tuple[object, ...]:
            self.put += 1
            number = self.put
            await self.let.wait()
            await asyncio.sleep(0)
            if self.is_gone:
                raise StoreUnavailable("gone")
            return (number,)

        yield ask

    def asked(self) -> Asked:
        return Asked(cast(AsyncReader, self), "one", lambda: None)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_during_a_question_is_answered_by_a_later_one() -> None:
    questions = Questions()
    asked = questions.asked()
    questions.let.clear()
    early = asyncio.create_task(asked.version())
    await turns()
    late = [asyncio.create_task(asked.version()) for _ in range(10)]
    await turns()

    put_before = questions.put
    questions.let.set()
    versions = await asyncio.gather(*late)

    assert put_before == 1
    assert await early == (1,)
    assert all(version is not None and version > (1,) for version in versions)
    assert questions.put < len(late)


async def test_a_failure_concerns_those_who_asked_and_nobody_later() -> None:
    questions = Questions()
    asked = questions.asked()
    questions.is_gone = True

    with pytest.raises(StoreUnavailable):
        await asked.version()
    questions.is_gone = False
    version = await asked.version()

    assert version == (2,)


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    questions = Questions()
    asked = questions.asked()
    questions.let.clear()
    waiting = [asyncio.create_task(asked.version()) for _ in range(8)]
    await turns()

    waiting[0].cancel()
    waiting[5].cancel()
    questions.let.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert [isinstance(end, tuple) for end in ended].count(True) == 6


async def test_a_connection_is_given_back_after_some_questions() -> None:
    questions = Questions()
    asked = questions.asked()

    async def client() -> None:
        for _ in range(IN_A_ROW * 2):
            assert await asked.version()

    await asyncio.gather(*(client() for _ in range(4)))

    assert questions.sittings > questions.put // (IN_A_ROW + 1)
