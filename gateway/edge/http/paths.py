"""Which route a path below `/v1` names, however it is spelled. Pure."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import parse_qsl, unquote_to_bytes

from gateway.dialects.request_body import FURTHER_MODELS
from gateway.errors import CallerError, NotFound
from gateway.transport.origin import CHAT_PATH
from gateway.transport.redirects import PREFIX as PREFIX

RESPONSES_PATH = "/responses"
# What the gateway handles itself, below PREFIX. A path that a server may read as one of these never passes through.
GUARDED = frozenset((CHAT_PATH, RESPONSES_PATH))
# First segments of OpenAI's and Anthropic's APIs: what callers ask for whose base URL lacks the prefix.
API_NAMES = (
    "chat/completions|completions|responses|messages|models|embeddings|moderations|images|audio|files|uploads|batches|"
    "conversations|fine_tuning|vector_stores|assistants|threads|realtime|videos|evals|containers"
)

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+)+")  # has one reading, but for the letters' case
# Below these the model stands in the path, or the body has others do the work: a file of requests, a session.
_MODEL_UNKNOWN = re.compile("/(?:engines|deployments|models?|batches|files|uploads|evals|realtime)(?:/|$)")
_MOST_DECODINGS = 4
_ODD = re.compile("//|%(?![0-9A-Fa-f]{2})")  # some servers read `%u002f` as a slash
_LACKS_PREFIX = re.compile(f"/(?:{API_NAMES})(?:/.*)?")


def canonical(path: str) -> str:
    """The path as the most lenient server reads it, in lower case: escapes undone, as often as they were done; a
    backslash is a slash; parameters, empty and dot segments and what stands behind `?` or `#` are gone.

    Raises CallerError for a path that climbs, and NotFound for one that cannot be read in one way.
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
    """The part below the prefix of a path as the caller wrote it; of one that names a guarded route, that route.

    Raises CallerError for a path that climbs. Raises NotFound for one that a server may read in several ways, and for
    one that ends like a guarded route behind something else, such as `/v1/engines/x/chat/completions`.
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
    """The models that path and query of a call name, beside its body: LiteLLM takes `?model=` before the body's.
    Empty names for those that are not named plainly, and where the body's `model` need not be the one that is used.

    Raises as `canonical`."""
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
    """Whether a path is one of OpenAI's or Anthropic's without `/v1` before it."""
    return _LACKS_PREFIX.fullmatch(path) is not None
