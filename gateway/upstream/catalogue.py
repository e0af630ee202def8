"""Which provider answers what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.upstream.demo import DemoProvider
from gateway.upstream.openai import OpenAICompatible
from gateway.upstream.origin import Origin, Patience

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.upstream.provider import Provider


class Catalogue:
    """The providers of one configuration. A model's name chooses among several; today one answers for all."""

    def __init__(self, main: Provider, images: Provider | None = None) -> None:
        self._main = main
        self._images = images

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        """From the settings: the configured endpoint, or the demo model when there is none."""
        upstream = settings.upstream
        patience = Patience(upstream.connect_s, upstream.head_s, upstream.stall_s, upstream.idle_s)
        authorization = settings.authorization_header
        images = (
            OpenAICompatible(Origin.of_endpoint(upstream.image_endpoint, authorization), patience, upstream.proxy)
            if upstream.image_endpoint
            else None
        )
        if settings.upstream_base is None:
            return cls(DemoProvider(settings.demo), images)
        origin = (
            Origin.of_endpoint(upstream.endpoint, authorization)
            if upstream.endpoint
            else Origin.of_base(settings.upstream_base, authorization)
        )
        return cls(OpenAICompatible(origin, patience, upstream.proxy), images)

    def for_model(self, model: str) -> Provider:
        """The provider of a chat model."""
        return self._main

    def for_path(self, path: str) -> Provider:
        """The provider of any other call, by its path below the base URL."""
        if self._images is not None and path.partition("?")[0] == "/images/generations":
            return self._images
        return self._main

    async def aclose(self) -> None:
        await self._main.aclose()
        if self._images is not None:
            await self._images.aclose()
