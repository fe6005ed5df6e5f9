"""The web process's routes, without a web process."""

from functools import cache

from api.app import Web
from api.openapi import Routes
from common.settings import Settings


@cache
def routes() -> Routes:
    settings = Settings(database_url="postgresql:///none", redis_url="redis://none")
    return Web(settings).routes
