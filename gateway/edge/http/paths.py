"""The route that a path below `/v1` names, in any spelling. Pure."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import parse_qsl, unquote_to_bytes

from gateway.dialects.request_body import FURTHER_MODELS
from gateway.errors import CallerError, NotFound
from gateway.transport.origin import CHAT_PATH
from gateway.transport.redirects import PREFIX as PREFIX

RESPONSES_PATH = "/responses"
# Routes below PREFIX that the gateway handles itself. Paths that a server may read as one never pass through.
GUARDED = frozenset((CHAT_PATH, RESPONSES_PATH))
# First segments of OpenAI's and Anthropic's APIs: requests of callers whose base URL lacks the prefix begin with them.
API_NAMES = (
    "chat/completions|completions|responses|messages|models|embeddings|moderations|images|audio|files|uploads|batches|"
    "conversations|fine_tuning|vector_stores|assistants|threads|realtime|videos|evals|containers"
)

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+)+")  # has one reading, except for upper and lower case
# Below these the path names the model, or the body names models indirectly: a file of requests, a session.
_MODEL_UNKNOWN = re.compile("/(?:engines|deployments|models?|batches|files|uploads|evals|realtime)(?:/|$)")
_MOST_DECODINGS = 4
_ODD = re.compile("//|%(?![0-9A-Fa-f]{2})")  # some servers read `%u002f` as a slash
_LACKS_PREFIX = re.compile(f"/(?:{API_NAMES})(?:/.*)?")


def canonical(path: str) -> str:
    """The path as the most lenient server reads it, in lower case: all levels of escapes are decoded, a backslash
    becomes a slash; parameters, empty and dot segments, and everything after `?` or `#` are removed.

    Raises CallerError for a path with `..`, and NotFound for one that has several readings.
    """
    if _PLAIN.fullmatch(path):
        return path.lower()
    text = re.split(r"[?#]", _decoded(path))[0].replace("\\", "/")
    segments = [segment.partition(";")[0] for segment in text.split("/")]
    if ".." in segments:
        raise CallerError("the path leads out of the API", code="invalid_path")
    return "".join(f"/{bare}" for segment in segments if (bare := segment.strip(" .")))


def _decoded(path: str) -> str:
    for _ in range(_MOST_DECODINGS):
        try:
            text = unicodedata.normalize("NFKC", unquote_to_bytes(path).decode()).casefold()
        except ValueError:
            break
        if not text.isprintable():
            break
        if text == path:
            return text
        path = text
    raise NotFound("there is nothing at this path")


def passed_on(path: str) -> str:
    """The part of a path below the prefix, as the caller wrote it; for a spelling of a guarded route, that route.

    Raises CallerError for a path with `..`. Raises NotFound for one that has several readings, and for one that ends
    like a guarded route after other segments, such as `/v1/engines/x/chat/completions`.
    """
    known = canonical(path)
    below = known.removeprefix(PREFIX)
    if below in GUARDED:
        return below
    bare = re.sub(r"\.\w+$", "", known)
    for each in GUARDED:
        if bare.endswith(each):
            raise NotFound(f"there is nothing at this path; {PREFIX}{each} may be meant")
    if not path.startswith(f"{PREFIX}/") or not _has_one_reading(path):
        raise NotFound("there is nothing at this path")
    return path.removeprefix(PREFIX)


def _has_one_reading(path: str) -> bool:
    text = unquote_to_bytes(path).decode()
    return _ODD.search(path) is None and "\\" not in text and "." not in re.split(r"[/;]", text)


def models_named(target: str) -> tuple[str, ...]:
    """The models that path and query of a call name: LiteLLM prefers `?model=` to the body's `model`.
    Empty names stand for models in an unclear form, and for calls whose body need not name the model that is used.

    Raises the errors of `canonical`."""
    path, _, query = target.partition("?")
    found = [""] if _MODEL_UNKNOWN.search(canonical(path)) else []
    for name, value in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        folded = name.casefold()
        if folded == "model":
            found.append(value)
        elif folded.removesuffix("[]") in ("model", *FURTHER_MODELS):
            found.append("")
    return tuple(found)


def lacks_prefix(path: str) -> bool:
    """Whether a path is one of OpenAI's or Anthropic's without the prefix `/v1`."""
    return _LACKS_PREFIX.fullmatch(path) is not None
