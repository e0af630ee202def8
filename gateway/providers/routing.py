"""Which provider answers what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.providers.demo.provider import DemoProvider
from gateway.providers.openai import OpenAICompatible
from gateway.transport.origin import IMAGE_PATH, Origin, Timeouts

if TYPE_CHECKING:
    from gateway.settings.settings import Settings
    from gateway.transport.call import Provider


class Catalogue:
    """The providers of one configuration. A model's name chooses among several; today one answers for all."""

    def __init__(self, main: Provider, images: Provider | None = None) -> None:
        self._main = main
        self._images = images

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        """From the settings: the configured endpoint, or the demo model when there is none."""
        upstream = settings.upstream
        authorization = settings.authorization_header
        images = main = None
        if upstream.image_endpoint:
            images = Origin.of_endpoint(upstream.image_endpoint, authorization, IMAGE_PATH)
        if upstream.endpoint:
            main = Origin.of_endpoint(upstream.endpoint, authorization, base=upstream.base_url)
        elif settings.upstream_base:
            main = Origin.of_base(settings.upstream_base, authorization)
        return cls(
            DemoProvider(settings.demo) if main is None else _compatible(main, settings),
            None if images is None else _compatible(images, settings),
        )

    def for_model(self, model: str) -> Provider:
        """The provider of a chat model."""
        return self._main

    def for_path(self, path: str) -> Provider:
        """The provider of any other call, by its path below the base URL."""
        if self._images is not None and path.partition("?")[0] == IMAGE_PATH:
            return self._images
        return self._main

    async def aclose(self) -> None:
        await self._main.aclose()
        if self._images is not None:
            await self._images.aclose()


def _compatible(origin: Origin, settings: Settings) -> Provider:
    upstream = settings.upstream
    return OpenAICompatible(
        replace(origin, content_type=upstream.content_type),
        Timeouts(upstream.connect_s, upstream.head_s, upstream.stall_s, upstream.idle_s),
        settings.proxy_for(origin.site),
    )
