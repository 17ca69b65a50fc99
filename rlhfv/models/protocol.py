"""Conversations as OpenAI's chat completions have them, and what comes back, as plain data."""

import base64
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rlhfv.corrections.conversation import Prompt

_THOUGHT, _END_OF_THOUGHT = "<think>", "</think>"


def completions_address(url: str) -> str:
    """Where answers are asked for. `url` is what OpenAI's client takes; a bare host gets the usual /v1."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path or '/v1'}/chat/completions"
    return urlunsplit(parts._replace(path=path))


def to_messages(prompt: Prompt, image_path: Callable[[str], Path]) -> list[dict]:
    """The conversation as the protocol has it: pictures as data URLs of the stored bytes, before their question."""
    messages = []
    for turn in prompt.history:
        messages.append({"role": "user", "content": _asked(turn.question, turn.images, image_path)})
        messages.append({"role": "assistant", "content": turn.answer})
    messages.append({"role": "user", "content": _asked(prompt.question, prompt.images, image_path)})
    return messages


def _asked(question: str, images: Sequence[str], image_path: Callable[[str], Path]) -> str | list[dict]:
    if not images:
        return question
    pictures = [{"type": "image_url", "image_url": {"url": _data_url(Path(image_path(name)))}} for name in images]
    return [*pictures, {"type": "text", "text": question}]


def _data_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def without_thought(content: str) -> str:
    """The answer alone, where a server leaves a reasoning model's thoughts in the text, as <think>…</think>."""
    _, end, answer = content.rpartition(_END_OF_THOUGHT)
    if end:
        return answer.lstrip()
    begun = content[:64].lstrip()[: len(_THOUGHT)]
    return "" if begun and _THOUGHT.startswith(begun) else content


def words_of(delta) -> str:
    """The answer's next words: text alone, or the texts among parts of several kinds."""
    content = getattr(delta, "content", None)
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if part.get("type") == "text")
    return content or ""


def thinks(delta) -> bool:
    return any(getattr(delta, name, None) for name in ("reasoning", "reasoning_content"))
