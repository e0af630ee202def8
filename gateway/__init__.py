"""A streaming LLM gateway: relays chat completions untouched and keeps every word in your own Postgres."""

from importlib.metadata import version

__version__ = version("llm-gateway")
