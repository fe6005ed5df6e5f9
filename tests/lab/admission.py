"""Tokens for tests, written past the API."""

import uuid
from typing import Any

import psycopg

from common.db import sql
from common.shapes import NewToken
from common.tokens import make_secret, row_of


def admit(
    database_url: str, role: Any, name: str = "", **limits: Any
) -> dict[str, str]:
    """The header that shows a new token of this role."""
    secret = make_secret()
    new = NewToken(name=name or f"t{uuid.uuid4().hex}", role=role, **limits)
    with psycopg.connect(database_url) as conn:
        added = conn.execute(sql.tokens.add.text, row_of(new, secret, "test"))
        assert added.rowcount == 1, f"there is a token {new.name}"
    return {"Authorization": f"Bearer {secret}"}
