"""``virtumancer token``: who may use the API."""

from console.commands import group

app = group("Tokens of the API: create, list, revoke.")
