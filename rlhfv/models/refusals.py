"""What a server's failure means: every way in which a voice on a server cannot answer, told in three parts.

A server's own words are repeated, shortened, on one line and without the key that was sent.
"""

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub.errors import InferenceTimeoutError, TextGenerationError

from rlhfv.errors import GenerationFailed
from rlhfv.settings import RemoteVoice

LONGEST_WORDS = 300
SHORTEST_KEY = 8
"""Characters of a key that is hidden within other words too: a shorter one is a local server's "x", and stands in
ordinary words."""
_DATA = re.compile(r"data:[\w/+.-]+;base64,[\w+/=]+|[A-Za-z0-9+/=]{200,}")
_PICTURE = re.compile(r"image|picture|vision|visual|multi-?modal|mmproj", re.IGNORECASE)
_MODEL = re.compile(r"\bmodel\b|\badapter\b|\blora\b", re.IGNORECASE)
_LENGTH = re.compile(
    r"context (length|window|size)|too many tokens|maximum.{0,30}tokens|exceed.{0,40}(context|n_ctx)", re.IGNORECASE
)
_NOT_TAKEN = re.compile(
    r"unsupported|not supported|n[o']t support|unknown (name|field|parameter)|unrecogni[sz]ed|unexpected|"
    r"not permitted|not allowed|extra_forbidden",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Patience:
    """Seconds: to reach the server, until the first word, between two pieces, and for a whole answer."""

    connect: float = 10.0
    first: float = 180.0
    idle: float = 60.0
    whole: float = 900.0


PATIENCE = Patience()


class Refused(Exception):
    """A reply that is no stream of an answer, as it came: HTTP status, headers and text."""

    def __init__(self, status: int, headers, text: str):
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.text = status, headers, text


class ServerBusy(GenerationFailed):
    """The server asks for a pause. `seconds` is how long, where it says so."""

    seconds: float | None = None


def server_words(text: str, key: str = "") -> str:
    """What the server itself says of an error: the message inside JSON, else the text; nothing of a page of HTML."""
    try:
        found = _message(json.loads(text))
    except ValueError:
        found = "" if text.lstrip().startswith("<") else text
    found = _hide(key, found)
    found = " ".join(_DATA.sub("(data)", found).split())
    return found if len(found) <= LONGEST_WORDS else f"{found[:LONGEST_WORDS]} …"


def _hide(key: str, text: str) -> str:
    """`text` without the key. A short one is hidden where it stands alone."""
    if not key:
        return text
    if len(key) >= SHORTEST_KEY:
        return text.replace(key, "(key)")
    return re.sub(rf"(?<!\w){re.escape(key)}(?!\w)", "(key)", text)


def _message(body) -> str:
    """OpenAI says {"error": {"message"}}, Gemini a list of it, TGI {"error": "…"}, FastAPI {"detail": […]}."""
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_message, body)))
    if not isinstance(body, dict):
        return ""
    if isinstance(body.get("msg"), str):
        return f"{'.'.join(map(str, body.get('loc', ())))}: {body['msg']}"
    return next((found for name in ("error", "message", "detail") if (found := _message(body.get(name)))), "")


def parameter_not_taken(refused: Refused, sent: dict) -> str:
    """The setting among those sent that the server does not know or take; "" where it refused for another reason."""
    if refused.status not in (400, 422):
        return ""
    words = server_words(refused.text)
    if not _NOT_TAKEN.search(words):
        return ""
    return next((name for name in sent if re.search(rf"\b{name}\b", words)), "")


def explain_refusal(voice: RemoteVoice, refused: Refused, key: str, pictures: int) -> GenerationFailed:
    """Why the server did not answer, from its status and words. `pictures` were sent."""
    status, words = refused.status, server_words(refused.text, key)
    says = f"It says: “{words}”" if words else f"It gives no reason (HTTP {status})."
    who = f"The server of '{voice.name}' ({voice.server})"
    if status in (401, 407):
        sent = "The key that was sent is not accepted." if key else "No key was sent; it wants one."
        return GenerationFailed(
            f"{who} does not let the studio in.",
            f"{sent} {says}",
            f"Name the right key with {voice.flag}-key-env or {voice.flag}-key-file and start again.",
        )
    if status == 402:
        return GenerationFailed(f"{who} wants to be paid first.", says, "Add credit to that account, then ask again.")
    if status == 403:
        return GenerationFailed(
            f"{who} refuses this request.",
            says,
            f"Ask its owner for access to the model {voice.model!r}, or use another key.",
        )
    if status == 413:
        return GenerationFailed(
            f"{who} does not take so much at once.", says, "Use a smaller picture, or begin a new conversation."
        )
    if status == 429:
        return _busy(f"{who} gets too many requests.", says, _asked_wait(refused.headers))
    if status in (503, 529):
        return _busy(f"{who} is not ready (HTTP {status}).", says, _asked_wait(refused.headers))
    if status < 300:
        kind = refused.headers.get("content-type", "something without a type").partition(";")[0]
        return GenerationFailed(
            f"{who} did not stream an answer.",
            f"It sent {kind} instead." + (f" {says}" if words else ""),
            f"Check the address {voice.url}: it should be the one that OpenAI's client takes, mostly ending in /v1.",
        )
    if status < 400:
        return GenerationFailed(
            f"{who} sends the studio elsewhere (HTTP {status}).",
            "A picture and a key go to the address that was named and to no other.",
            f"Name {_origin(refused.headers.get('location', '')) or 'the new address'} with {voice.flag} if you trust "
            "it.",
        )
    if pictures and _PICTURE.search(words):
        return GenerationFailed(
            f"{who} refused the picture.",
            says,
            f"Name a model that sees: {voice.model!r} may read text only, or take fewer pictures. llama.cpp needs "
            "--mmproj, vLLM --limit-mm-per-prompt for several.",
        )
    if _LENGTH.search(words):
        return GenerationFailed(
            f"The conversation is too long for '{voice.name}'.",
            says,
            "Start a new conversation, use a smaller picture, or ask for shorter answers.",
        )
    if status == 404 or (status in (400, 422) and _MODEL.search(words) and voice.model in words):
        known = bool(_MODEL.search(words))
        return GenerationFailed(
            f"{who} has no model {voice.model!r}." if known else f"{who} answers nothing at {voice.url}.",
            says,
            f"Name it as the server's list of models (GET /v1/models) does, behind the # of {voice.flag}."
            if known
            else "Check the address: it should be the one that OpenAI's client takes, mostly ending in /v1.",
        )
    if status >= 500:
        return GenerationFailed(
            f"{who} failed (HTTP {status}).", says, "Ask again; if it fails again, its own log says why."
        )
    return GenerationFailed(
        f"{who} refuses this request (HTTP {status}).", says, "Change what it names, or choose another voice."
    )


def explain_failure(voice: RemoteVoice, error: Exception, key: str, patience: Patience) -> GenerationFailed:
    """Why nothing came, or nothing more: the connection, the time, or what came over it."""
    who, words = f"The server of '{voice.name}' ({voice.server})", server_words(str(error), key)
    again = "Ask again; if it fails again, look at the server's own log."
    if isinstance(error, InferenceTimeoutError):
        return GenerationFailed(
            f"{who} cannot be reached.",
            f"It did not take the request within {patience.connect:g} seconds.",
            f"Check that it runs and that {voice.url} is its address.",
        )
    if isinstance(error, httpx2.ConnectError):
        return GenerationFailed(
            f"{who} cannot be reached.",
            f"{words.rstrip('.') or 'It takes no connection'}.",
            f"Check that it runs and that {voice.url} is its address.",
        )
    if isinstance(error, TimeoutError):
        return GenerationFailed(
            f"{who} took too long.",
            f"The studio waits {patience.first:g} seconds for the first word, {patience.idle:g} for each further "
            f"piece and {patience.whole:g} in all.",
            "Ask again, or ask for a shorter answer; its own log says what it is busy with.",
        )
    if isinstance(error, TextGenerationError):
        return GenerationFailed(f"{who} broke off with an error.", f"It says: “{words}”", again)
    if isinstance(error, (httpx2.TransportError, httpx2.StreamError)):
        return GenerationFailed(f"{who} lost the connection.", f"{words.rstrip('.') or type(error).__name__}.", again)
    if isinstance(error, (ValueError, TypeError, AttributeError)):
        return GenerationFailed(
            f"{who} sent what is no piece of an answer.",
            f"It cannot be read: {words.rstrip('.') or type(error).__name__}.",
            f"Check that {voice.url} speaks OpenAI's chat completions.",
        )
    return GenerationFailed(f"{who} could not be asked.", f"{type(error).__name__}: {words}", again)


def _busy(what: str, why: str, seconds: float | None) -> ServerBusy:
    when = f"Ask again in {seconds:.0f} seconds." if seconds else "Ask again in a minute."
    busy = ServerBusy(what, why, f"{when} Your question is not lost.")
    busy.seconds = seconds
    return busy


def _asked_wait(headers) -> float | None:
    """Seconds of `Retry-After`, which is a number or a date."""
    text = (headers.get("retry-after") or "").strip()
    if text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _origin(location: str) -> str:
    """The new address without what may be secret in it."""
    return location.partition("?")[0][:200]
