"""What is forgotten: keys and tickets that had their day, old tasks, news, audit."""

import time
from typing import Final

from common.changes import Changes
from common.db import Query, sql

_EVERY_S: Final = 600.0
_NEWS: Final = {"older_than_s": 86400, "most": 1_000_000, "at_a_time": 20_000}


class Pruning:
    """Forgets now and then."""

    def __init__(self, changes: Changes, audit_days: int) -> None:
        self._changes = changes
        self._audit = {"days": audit_days, "at_a_time": 20_000}
        self._pruned_at = 0.0

    def prune(self) -> None:
        if time.monotonic() - self._pruned_at < _EVERY_S:
            return
        self._pruned_at = time.monotonic()
        with self._changes.begin() as change:
            change.run(sql.idempotency.prune)
            change.run(sql.tasks.prune)
            change.run(sql.tokens.prune)
        self._prune_in_steps(sql.news.prune, _NEWS)
        self._prune_in_steps(sql.audit.prune, self._audit)

    def _prune_in_steps(self, query: Query, kept: dict[str, int]) -> None:
        """In transactions too short to be in anybody's way."""
        pruned = 1
        while pruned:
            with self._changes.begin() as change:
                pruned = change.run(query, **kept)
