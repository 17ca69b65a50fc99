"""One request to a server that speaks OpenAI's protocol, and its reply as it comes in.

Replies are streamed, so that one that breaks off is told from one that ended: only an end has a `finish_reason`.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx2
from huggingface_hub import AsyncInferenceClient

from rlhfv.corrections.edits import MAX_ANSWER_CHARS
from rlhfv.models.protocol import completions_address, thinks, without_thought, words_of
from rlhfv.models.refusals import Patience, Refused
from rlhfv.remote_voices import RemoteVoice

WHOLE = frozenset({"stop", "stop_sequence", "eos", "eos_token", "end_turn"})
LIMIT = frozenset({"length", "max_tokens"})
TOO_LONG = "too long"
NO_KEY = "no-key"
"""Any text keeps the client from taking this machine's own token; the header that would carry it is left out."""


@dataclass
class Saying:
    """A reply while it comes in: `text` is the answer in it, `raw` all of it with thoughts. `model` is what the server
    calls itself, `reason` why it ended.
    """

    text: str = ""
    raw: str = ""
    model: str = ""
    reason: str = ""
    pieces: int = 0
    thinks: bool = False


def connect(voice: RemoteVoice, key: str, patience: Patience) -> AsyncInferenceClient:
    """A client that sends `key` and no other secret of this machine. Goes after
    `set_async_client_factory(open_client)`."""
    return AsyncInferenceClient(
        base_url=completions_address(voice.url),
        api_key=key or NO_KEY,
        headers={} if key else {"authorization": None},
        timeout=(patience.connect, None, patience.first, None),
    )


async def listen(
    client: AsyncInferenceClient,
    model: str,
    messages: list[dict],
    sent: dict,
    saying: Saying,
    patience: Patience,
    on_piece: Callable[[], None] = lambda: None,
) -> None:
    """Asks for one reply with the parameters `sent` and follows it into `saying` until it ends or breaks off.

    Raises:
        Refused: the server sent no stream of an answer.
        Exception: what the connection, the clock or the stream failed with; `explain_failure` tells it.
    """
    ends = time.monotonic() + patience.whole
    newer = {name: value for name, value in sent.items() if name == "max_completion_tokens"}
    known = {name: value for name, value in sent.items() if name not in newer}
    async with _in_time(ends, patience.first):
        stream = await client.chat_completion(messages, model=model, stream=True, extra_body=newer or None, **known)
    async with aclosing(stream):
        while True:
            async with _in_time(ends, patience.idle if saying.pieces else patience.first):
                piece = await anext(stream, None)
            if piece is None:
                return
            saying.pieces += 1
            saying.model = saying.model or (piece.model if isinstance(piece.model, str) else "")
            for choice in (piece.choices or ())[:1]:
                saying.raw += words_of(choice.delta)
                saying.thinks |= thinks(choice.delta)
                saying.reason = choice.finish_reason or saying.reason
            saying.text = without_thought(saying.raw)
            if len(saying.text) > MAX_ANSWER_CHARS:
                saying.text, saying.reason = saying.text[:MAX_ANSWER_CHARS], TOO_LONG
            on_piece()
            if saying.reason:
                return


def _in_time(ends: float, seconds: float) -> asyncio.Timeout:
    return asyncio.timeout(max(0.0, min(seconds, ends - time.monotonic())))


def open_client() -> httpx2.AsyncClient:
    """The connection of one answer. The Hub's own follows redirects, which could carry a picture to another host, and
    refuses everything while HF_HUB_OFFLINE is set, a server in the next room too.
    """
    hooks = {"response": [_refuse]}
    return httpx2.AsyncClient(verify=_trusted(), event_hooks=hooks, follow_redirects=False, timeout=None)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Who is trusted by this machine; to read that takes longer than to send a question."""
    return httpx2.create_ssl_context()


async def _refuse(response: httpx2.Response) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.status_code != 200 or kind in ("text/html", "application/json"):
        await response.aread()
        raise Refused(response.status_code, response.headers, response.text)
