"""Every named query fits the migrated schema."""

import psycopg
import pytest

from common.db import Query, sql

NOT_PLANNED = ("create ", "analyze")


QUERIES: list[Query] = [q for file in vars(sql).values() for q in vars(file).values()]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_query_fits_the_schema(query: Query, database_url: str) -> None:
    """Planned with all parameters null; what Postgres does not plan is run."""
    with psycopg.connect(database_url) as conn:
        planned = not query.text.lower().startswith(NOT_PLANNED)
        text = f"explain {query.text}" if planned else query.text

        conn.execute(text, Nulls())

        conn.rollback()


class Nulls(dict[str, object]):
    """Null for whatever parameter a query asks for."""

    def __missing__(self, name: str) -> None:
        return None
