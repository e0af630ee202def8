"""Chooses the provider, and the upstream's name of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import Struct

from gateway.providers.demo.provider import DemoProvider
from gateway.providers.openai import OpenAICompatible
from gateway.transport.origin import IMAGE_PATH, Origin, Timeouts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.settings import Settings
    from gateway.transport.call import Provider


class Route(Struct, frozen=True):
    """The provider of a chat, and the model's name at this provider."""

    provider: Provider
    upstream_model: str


class Catalogue:
    """The providers of one configuration. `models` holds the routes of models that the main provider does not answer;
    no setting makes one yet. `aclose` closes their providers, too."""

    def __init__(
        self, main: Provider, images: Provider | None = None, models: Mapping[str, Route] | None = None
    ) -> None:
        self._main = main
        self._images = images
        self._models = dict(models or {})

    @classmethod
    def of(cls, settings: Settings) -> Catalogue:
        """The configured endpoint, or the demo model if the settings name no endpoint."""
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

    def for_model(self, model: str) -> Route:
        """The route of a chat model."""
        return self._models.get(model) or Route(self._main, model)

    def for_path(self, path: str) -> Provider:
        """The provider of any other call, by its path below the base URL."""
        if self._images is not None and path.partition("?")[0] == IMAGE_PATH:
            return self._images
        return self._main

    async def aclose(self) -> None:
        providers = [self._main, self._images, *(route.provider for route in self._models.values())]
        for provider in dict.fromkeys(providers):
            if provider is not None:
                await provider.aclose()


def _compatible(origin: Origin, settings: Settings) -> Provider:
    upstream = settings.upstream
    return OpenAICompatible(
        replace(origin, content_type=upstream.content_type),
        Timeouts(upstream.connect_s, upstream.head_s, upstream.stall_s, upstream.idle_s),
        settings.proxy_for(origin.site),
    )
