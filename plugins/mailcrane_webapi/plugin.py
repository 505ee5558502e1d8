"""Registers the sending API as the HTTP service ``webapi``."""

from __future__ import annotations

from collections.abc import Sequence

from mailcrane.api import HTTPApp, Plugin, hookimpl
from mailcrane_webapi.app import WebAPI
from mailcrane_webapi.config import WebAPIConfig


class WebAPIPlugin(Plugin):
    """The sending API."""

    name = "webapi"
    Config = WebAPIConfig

    @hookimpl
    def register_http_apps(self) -> Sequence[HTTPApp]:
        """Offer the application, at ``/webapi/`` unless a listener says otherwise."""
        return [HTTPApp("webapi", "/webapi/", lambda: WebAPI(self.config, self.context))]
