"""A model on a server that speaks OpenAI's protocol, as a voice: GPT-4V-class, Gemini, vLLM, TGI, llama.cpp, HF
Inference Providers.

All answers of all visitors stream in one thread's event loop, so that one can be ended at once, however silent its
server is. A server is asked for so many answers at once; the others wait for their turn.
"""

import asyncio
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path

from huggingface_hub import set_async_client_factory

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import MAX_ANSWER_CHARS
from rlhfv.errors import GenerationFailed, StudioError
from rlhfv.models.generated import NOTHING, Generated, Row
from rlhfv.models.protocol import to_messages
from rlhfv.models.refusals import (
    PATIENCE,
    Patience,
    Refused,
    ServerBusy,
    explain_failure,
    explain_refusal,
    parameter_not_taken,
    server_words,
)
from rlhfv.models.replies import LIMIT, TOO_LONG, WHOLE, Saying, connect, listen, open_client
from rlhfv.remote_voices import RemoteVoice, served_name

POLL_SECONDS = 0.05
OTHER_ENDS = {
    TOO_LONG: f"Cut off here: the studio keeps {MAX_ANSWER_CHARS:,} characters of an answer.",
    "content_filter": "The server's content filter ended it.",
    "tool_calls": "The model called a tool instead of going on.",
    "function_call": "The model called a tool instead of going on.",
}
LINE = 40
"""Answers of servers that visitors may wait for at once. Each takes a place of the page's queue, where those who ask
the model on this machine wait too."""
LONGEST_PAUSE = 60.0
TRIES = 4


class RemoteModel:
    """One voice on a server. `turns` is shared by all voices of that server. Safe to be used by several threads."""

    takes_several_images = True

    def __init__(self, voice: RemoteVoice, turns: asyncio.Semaphore, patience: Patience = PATIENCE):
        self.voice, self.patience = voice, patience
        self._turns = turns
        self._left_out: frozenset[str] = frozenset()
        self._newer_limit = False

    @property
    def id(self) -> str:
        return self.voice.id

    # ---- answers

    def answer_both(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        image_path: Callable[[str], Path] = Path,
        stop: threading.Event | None = None,
    ) -> Iterator[tuple[str, ...]]:
        """Streams the answers of some rows side by side: yields the newest full text of each whenever there is more.

        The generator returns the `Generated` of each row. Closing it, or setting `stop`, ends the streams at once.
        An answer whose stream ended without a reason is not `finished`, and its `note` says so.

        Raises:
            GenerationFailed, InvalidData: the server refuses, cannot be reached or says nothing; the key is gone.
        """
        news: queue.SimpleQueue = queue.SimpleQueue()
        said = [Saying() for _ in rows]
        work = [
            self._begin(row.prompt, sampling, image_path, one, lambda: news.put(True))
            for row, one in zip(rows, said, strict=True)
        ]
        for one in work:
            one.add_done_callback(lambda _: news.put(True))
        shown: tuple[str, ...] = ("",) * len(rows)
        try:
            while not all(one.done() for one in work):
                if stop is not None and stop.is_set():
                    break
                try:
                    news.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if (newest := tuple(one.text for one in said)) != shown:
                    shown = newest
                    yield shown
            generated = tuple(self._end(one, saying) for one, saying in zip(work, said, strict=True))
            if (newest := tuple(one.text for one in generated)) != shown:
                yield newest
            return generated
        finally:
            for one in work:
                one.cancel()

    def answer_each(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        image_path: Callable[[str], Path] = Path,
        stop: threading.Event | None = None,
    ) -> list[Generated | StudioError]:
        """Whole answers to many prompts, or why there is none, in order; prompt i with seed `sampling.seed + i`.

        A server that asks for a pause gets it, up to a minute each time. What `stop` ends is an empty answer.
        """
        work = [
            self._begin(prompt, _seeded(sampling, number), image_path, Saying(), patiently=True)
            for number, prompt in enumerate(prompts)
        ]
        outcomes: list[Generated | StudioError] = []
        try:
            for one in work:
                while not one.done() and not (stop is not None and stop.is_set()):
                    time.sleep(POLL_SECONDS)
                if not one.done():
                    outcomes.append(NOTHING)
                elif isinstance(error := one.exception(), StudioError):
                    outcomes.append(error)
                else:
                    outcomes.append(one.result())
        finally:
            for one in work:
                one.cancel()
        return outcomes

    def answer_many(
        self,
        prompts: Sequence[Prompt],
        voice: str | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        image_path: Callable[[str], Path] = Path,
        batch_size: int = 32,
        stop: threading.Event | None = None,
    ) -> list[str]:
        """Whole answers as `LocalModel.answer_many` gives them; raises what the first that failed failed with."""
        texts: list[str] = []
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            for outcome in self.answer_each(batch, _seeded(sampling, start), image_path, stop):
                if isinstance(outcome, StudioError):
                    raise outcome
                texts.append(outcome.text)
            if stop is not None and stop.is_set():
                break
        return texts

    # ---- inside

    def _begin(
        self,
        prompt: Prompt,
        sampling: Sampling,
        image_path: Callable[[str], Path],
        saying: Saying,
        on_piece: Callable[[], None] = lambda: None,
        patiently: bool = False,
    ) -> Future:
        messages = to_messages(prompt, image_path)
        say = self._say_patiently if patiently else self._say_in_line
        work = say(messages, sampling, saying, on_piece, len(prompt.all_images))
        return asyncio.run_coroutine_threadsafe(work, _loop())

    def _end(self, work: Future, saying: Saying) -> Generated:
        """The answer of a stream that ended, or what there is of one that was stopped."""
        if work.done():
            try:
                return work.result()
            except CancelledError:
                pass
        work.cancel()
        return self._generated(saying, False, "")

    async def _say_patiently(self, *arguments) -> Generated:
        """An answer that has to be whole; pauses that the server asks for are made."""
        for attempt in range(TRIES):
            try:
                generated = await self._say(*arguments)
            except ServerBusy as busy:
                if attempt == TRIES - 1 or (busy.seconds or 0) > LONGEST_PAUSE:
                    raise
                await asyncio.sleep(busy.seconds if busy.seconds is not None else 2.0**attempt)
                continue
            if not generated.extra["finish_reason"]:
                raise GenerationFailed(
                    f"The answer of '{self.voice.name}' was cut off.", generated.note, "Ask it again."
                )
            return generated
        raise AssertionError("the last attempt returns or raises")

    async def _say_in_line(self, *arguments) -> Generated:
        """An answer that a visitor waits for."""
        if len(_line) >= LINE:
            raise ServerBusy(
                f"'{self.voice.name}' has too many visitors.",
                f"{len(_line)} answers of servers are under way here already.",
                "Ask again in a minute, or choose a voice on this machine. Your question is not lost.",
            )
        _line.add(place := object())
        try:
            return await self._say(*arguments)
        finally:
            _line.discard(place)

    async def _say(
        self, messages: list[dict], sampling: Sampling, saying: Saying, on_piece: Callable[[], None], pictures: int
    ) -> Generated:
        async with self._turns:
            key = self.voice.read_key()
            while True:
                sent = self._parameters(sampling)
                try:
                    async with connect(self.voice, key, self.patience) as client:
                        await listen(client, self.voice.model, messages, sent, saying, self.patience, on_piece)
                except Refused as refused:
                    if self._adapt(refused, sent):
                        continue
                    raise explain_refusal(self.voice, refused, key, pictures) from None
                except StudioError as error:
                    if not saying.text:
                        raise
                    return self._generated(saying, False, f"Cut off here: {_lower(error.what)} {error.why}")
                except Exception as error:
                    # The cause is told; what it holds, headers and the address with them, stays here.
                    broken = explain_failure(self.voice, error, key, self.patience)
                    if not saying.text:
                        raise broken from None
                    return self._generated(saying, False, f"Cut off here: {_lower(broken.what)} {broken.why}")
                return self._judge_end(saying, sampling)

    def _parameters(self, sampling: Sampling) -> dict:
        """What `sampling` is called in the protocol; greedy has neither top-p nor seed."""
        values = {"temperature": sampling.temperature}
        if sampling.temperature > 0:
            values |= {"top_p": sampling.top_p, "seed": sampling.seed}
        values = {name: value for name, value in values.items() if name not in self._left_out}
        limit = "max_completion_tokens" if self._newer_limit else "max_tokens"
        return {**values, limit: sampling.max_new_tokens}

    def _adapt(self, refused: Refused, sent: dict) -> bool:
        """Learns which settings the server does not take; True where it is worth asking again."""
        name = parameter_not_taken(refused, sent)
        if name == "max_tokens" and "max_completion_tokens" in server_words(refused.text):
            self._newer_limit = True
            return True
        if name in ("temperature", "top_p", "seed"):
            self._left_out |= {name}
            return True
        return False

    def _judge_end(self, saying: Saying, sampling: Sampling) -> Generated:
        """The answer with what its `finish_reason` says; none is a stream that was cut."""
        notes = []
        if not saying.reason and not saying.text:
            raise GenerationFailed(
                f"The server of '{self.voice.name}' ({self.voice.server}) sent no answer.",
                "Its stream ended without a word and without a reason."
                if saying.pieces
                else "What it sent is no stream of an answer.",
                f"Ask again; if it stays so, check the address {self.voice.url}.",
            )
        if not saying.reason:
            notes.append(
                "Cut off here: the server's stream ended without saying why, so this is not its whole answer."
            )
        elif saying.reason in LIMIT:
            notes.append(f"Ends here: it reached the limit of {sampling.max_new_tokens} tokens.")
            if not saying.text:
                notes = [f"It was still thinking when it reached the limit of {sampling.max_new_tokens} tokens."]
        elif saying.reason not in WHOLE:
            notes.append(OTHER_ENDS.get(saying.reason, f"The server ended it for the reason “{saying.reason[:80]}”."))
        elif not saying.text and saying.thinks:
            notes.append("The server sent thoughts, but no answer.")
        return self._generated(saying, saying.reason in WHOLE, " ".join(notes))

    def _generated(self, saying: Saying, finished: bool, note: str) -> Generated:
        extra = {"server": self.voice.server, "finish_reason": saying.reason}
        if self._left_out:
            extra["left_out"] = sorted(self._left_out)
            names = " and ".join(sorted(self._left_out)).replace("_", "-")
            note = f"{note} The server does not take {names}; it used its own.".lstrip()
        return Generated(
            text=saying.text,
            finished=finished,
            tokens=(),
            row_layout=(self.id,),
            row=0,
            note=note,
            model=ModelIdentity(served_name(saying.model) or self.voice.model, self.voice.server),
            extra=extra,
        )


def open_remotes(voices: Sequence[RemoteVoice], at_once: int, patience: Patience = PATIENCE) -> dict:
    """Voice id → `RemoteModel`; voices of one server share its turns."""
    turns = {voice.server: asyncio.Semaphore(at_once) for voice in voices}
    return {voice.id: RemoteModel(voice, turns[voice.server], patience) for voice in voices}


def _seeded(sampling: Sampling, number: int) -> Sampling:
    return Sampling(sampling.temperature, sampling.top_p, sampling.max_new_tokens, (sampling.seed + number) % 2**31)


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


_line: set[object] = set()
"""Places in the line; only the loop below touches it."""


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop in which all answers of servers stream."""
    set_async_client_factory(open_client)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="voices on servers", daemon=True).start()
    return loop
