"""A judge: any server that speaks OpenAI's protocol, asked in text alone, each thing once.

A reply is counted where it is whole, of the model that was asked for, and can be read. What it said otherwise is kept
as it came, told, and asked again only when that is wanted. What was paid for once is never asked again.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from huggingface_hub import set_async_client_factory
from huggingface_hub.errors import InferenceTimeoutError

from rlhfv.errors import GenerationFailed, InvalidData, StudioError
from rlhfv.evaluation.judge_log import JudgeLog, Kept, Reply, read_log
from rlhfv.evaluation.judge_words import (
    CUT,
    EMPTY,
    ENDED,
    OTHER_MODEL,
    TOLD,
    UNREADABLE,
    USABLE,
    Asked,
    Case,
    Judged,
    Standing,
    Wording,
    is_asked_for,
    standing_of,
)
from rlhfv.models.protocol import without_thought
from rlhfv.models.refusals import (
    PATIENCE,
    SHORTEST_KEY,
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

TRIES = 7
"""Of one request that the server does not take or that does not reach it: pauses of 1, 2, 4, … 32 seconds."""
LOST_TRIES = 2
"""Of one request whose reply broke off: each may have been paid."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
GIVE_UP = 3
"""Items in a row without a reply that counts, after which no more are asked: the rest would be paid for nothing."""
_FATAL = (401, 402, 403, 404, 407)


@dataclass(frozen=True)
class Judge:
    """A server as a judge, and the file that keeps its replies (see judge_log.py).

    `beside` are files of other answers: what was said there to the same request is copied, not asked again.
    `prompt_file` replaces the studio's own wording. With `again` replies that do not count are asked for once more.
    `on_progress` gets how many items have a reply and of how many; `stop` ends it after the requests under way.
    Nothing is sent, and no key is looked for, where all items have a reply.
    """

    voice: RemoteVoice
    log: Path
    prompt_file: Path | None = None
    beside: tuple[Path, ...] = ()
    again: bool = False
    at_once: int = 4
    patience: Patience = PATIENCE
    on_progress: Callable[[int, int], None] = lambda done, total: None
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, cases: Sequence[Case], wording: Wording, read: Callable[[str], object | None]) -> Judged:
        """Asks what has no reply yet, and reads all replies. `read` gives None for one that it cannot read.

        Raises:
            GenerationFailed: the server does not let us in, cannot be reached, or gives nothing that counts; what it
                gave until then is kept, and the next call asks the rest.
            InvalidData: the key is not where it should be, or the file of replies cannot be written.
        """
        requests, first = self._requests(cases, wording)
        kept, beside = self._read(first, read)
        if beside:
            # Who cannot write it down now, as where it is being asked, counts it all the same.
            with suppress(InvalidData), JudgeLog(self.log) as log:
                self._copy(first, read, log)
        if self._waiting(first, kept, read) and not self.stop.is_set():
            key = self.voice.read_key()
            with JudgeLog(self.log) as log:
                log.name_judge(self.voice.model, self.prompt_file)
                self._copy(first, read, log)
                waiting = self._waiting(first, read_log(self.log), read)  # another one may have asked meanwhile
                _Asking(self, wording, read, waiting, len(first), key, log).run()
            kept, _ = self._read(first, read)
        return self._judged(requests, kept, wording, read)

    def _copy(self, first: Mapping[str, Case], read, log: JudgeLog) -> None:
        _, beside = self._read(first, read)
        if beside:
            log.name_judge(self.voice.model, self.prompt_file)
        for reply, source in beside:
            log.copy(reply, first[reply.request].id, source)

    def _read(self, first: Mapping[str, Case], read) -> tuple[Kept, list[tuple[Reply, str]]]:
        """What is kept, with what is kept beside of requests without a reply that counts; and the latter by itself,
        each with whose it is."""
        kept, found = read_log(self.log), []
        lacking = [one for one in first if self.kind(_chosen(kept, one, self, read), read) != USABLE]
        for log in self.beside if lacking else ():
            there = read_log(log).replies
            for request in lacking:
                own = kept.replies.get(request, [])
                new = [reply for reply in there.get(request, ()) if reply not in own]
                if new:
                    kept.replies[request] = [*own, *new]
                    found += [(reply, log.parent.name) for reply in new]
        return kept, found

    def standing(self, asked: Asked) -> Standing:
        """How much of it has a reply. Sends nothing."""
        return standing_of([self.waiting(asked)])

    def waiting(self, asked: Asked) -> tuple[list[str], set[str]]:
        """The request of each item, and those that have no reply. Sends nothing."""
        requests, first = self._requests(asked.cases, asked.wording)
        kept, _ = self._read(first, asked.read)
        return list(requests.values()), {request for request, _ in self._waiting(first, kept, asked.read)}

    def _requests(self, cases: Sequence[Case], wording: Wording) -> tuple[dict[str, str], dict[str, Case]]:
        """Item id → request, and request → the first item that makes it, last request first."""
        requests = {case.id: _hash(self.voice.model, case.messages, wording) for case in cases}
        return requests, dict(reversed([(requests[case.id], case) for case in cases]))

    def _waiting(self, first: Mapping[str, Case], kept: Kept, read) -> list[tuple[str, Case]]:
        """The requests to be sent, each with the first item that makes it: equal ones are sent once."""
        kinds = {request: self.kind(_chosen(kept, request, self, read), read) for request in first}
        wanted = {request for request, kind in kinds.items() if kind is None or (self.again and kind != USABLE)}
        return [(request, case) for request, case in reversed(first.items()) if request in wanted]

    def kind(self, reply: Reply | None, read: Callable[[str], object | None]) -> str | None:
        """Whether a reply counts, else why not; None where there is none."""
        if reply is None:
            return None
        if reply.model and not is_asked_for(self.voice.model, reply.model):
            return OTHER_MODEL
        if reply.finish_reason in (*LIMIT, TOO_LONG):
            return CUT
        if reply.finish_reason not in WHOLE:
            return ENDED
        text = without_thought(reply.text)
        if not text.strip():
            return EMPTY
        return UNREADABLE if read(text) is None else USABLE

    def _judged(self, requests: Mapping[str, str], kept: Kept, wording: Wording, read) -> Judged:
        texts, found, apart, missing, words = {}, {}, Counter(), 0, ""
        by, left_out = [], set()
        for id, request in requests.items():
            reply = _chosen(kept, request, self, read)
            kind = self.kind(reply, read)
            if kind is None:
                missing, words = missing + 1, kept.words.get(request, words)
            elif kind in (USABLE, UNREADABLE):
                texts[id] = without_thought(reply.text)
                if kind == USABLE:
                    found[id] = read(texts[id])
                named = served_name(reply.model) or f"{self.voice.model} (the server does not name it)"
                by.append(f"{named}@{reply.server}")
                left_out |= set(reply.left_out)
            else:
                apart[kind] += 1
        names = tuple(sorted(set(by)))
        paid = kept.perhaps_paid(list(requests.values()))
        return Judged(texts, found, dict(apart), missing, words, paid, names, tuple(sorted(left_out)), wording)


def need_judge(title: str) -> InvalidData:
    return InvalidData(
        f"{title} needs a judge, and none is named.",
        "The answers are free text: a language model reads them beside the benchmark's keys.",
        "Name one with --judge URL#MODEL, and its key with --judge-key-env VARIABLE.",
    )


def choose_variant(variant: str, variants: Sequence[str]) -> str:
    """The variant of that name, the first for "". Raises `InvalidData` for any other name."""
    if variant and variant not in variants:
        raise InvalidData(
            f"There is no variant {variant!r:.80}.",
            f"The variants are {', '.join(variants)}.",
            "Choose one of them, or leave it out for the first.",
        )
    return variant or variants[0]


def _hash(model: str, messages: Sequence[dict], wording: Wording) -> str:
    asked = [model, list(messages), wording.temperature, wording.max_tokens]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


def _chosen(kept: Kept, request: str, judge: Judge, read) -> Reply | None:
    """The first reply that counts, else the newest."""
    replies = kept.replies.get(request, [])
    return next((one for one in replies if judge.kind(one, read) == USABLE), replies[-1] if replies else None)


class _Asking:
    """One call's requests: a few at once in an event loop of their own, so that each can break off by itself."""

    def __init__(
        self,
        judge: Judge,
        wording: Wording,
        read,
        waiting: list[tuple[str, Case]],
        total: int,
        key: str,
        log: JudgeLog,
    ):
        self.judge, self.voice, self.wording, self.read, self.key, self.log = (
            judge,
            judge.voice,
            wording,
            read,
            key,
            log,
        )
        self.waiting, self.total = deque(waiting), total
        self.done = total - len(waiting)
        self.reached, self.in_a_row, self.not_before = False, 0, 0.0
        self.left_out: set[str] = set()
        self.newer_limit = False
        self.error: StudioError | None = None

    def run(self) -> None:
        set_async_client_factory(open_client)
        asyncio.run(self._ask_all())
        if self.error is not None:
            error = self.error
            kept = f"{self.done} of {self.total} items have a reply, which is kept; the next start asks only the rest."
            raise GenerationFailed(error.what, error.why, f"{error.fix} {kept}") from None

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(min(self.judge.at_once, len(self.waiting)))))

    async def _work(self) -> None:
        while self.waiting and not self._ended():
            request, case = self.waiting.popleft()
            reply, failed = await self._ask(request, case)
            if reply is not None:
                self.done += 1
                self.judge.on_progress(self.done, self.total)
                kind = self.judge.kind(reply, self.read)
                if kind in (USABLE, UNREADABLE):
                    self.in_a_row = 0
                    continue
                failed = self._not_counted(reply, kind)
            if failed is not None:
                self.in_a_row += 1
                if self.in_a_row >= GIVE_UP:
                    self.error = self.error or failed

    def _ended(self) -> bool:
        return self.error is not None or self.judge.stop.is_set()

    async def _ask(self, request: str, case: Case) -> tuple[Reply | None, StudioError | None]:
        """The reply of one item, or why there is none; (None, None) where it was not asked after all."""
        tries = lost = 0
        while True:
            await self._wait()
            if self._ended():
                return None, None
            self.log.add("asked", request, case.id)
            saying, sent = Saying(), self._parameters()
            try:
                async with connect(self.voice, self.key, self.judge.patience) as client:
                    await listen(client, self.voice.model, list(case.messages), sent, saying, self.judge.patience)
            except Refused as refused:
                self.reached = True
                words = server_words(refused.text, self.key)
                # A reply in another form than asked for is one that was made.
                event = "lost" if refused.status < 300 else "refused"
                self.log.add(event, request, case.id, status=refused.status, words=words)
                if self._adapt(refused, sent):
                    continue
                failed = explain_refusal(self.voice, refused, self.key, 0)
                if refused.status in _FATAL or refused.status < 400:
                    self.error = self.error or failed
                    return None, None
                if refused.status != 429 and refused.status < 500:
                    return None, failed
                seconds = failed.seconds if isinstance(failed, ServerBusy) else None
                if (seconds or 0) > LONGEST_PAUSE:
                    self.error = self.error or _wants_long_pause(failed, seconds)
                    return None, None
                tries += 1
                if tries == TRIES:
                    return None, failed
                self._pause(seconds, tries)
                continue
            except (httpx2.ConnectError, InferenceTimeoutError, httpx2.ConnectTimeout) as error:
                failed = explain_failure(self.voice, error, self.key, self.judge.patience)
                self.log.add("unreached", request, case.id, words=failed.why)
                tries += 1
                if not self.reached:  # a wrong address is told at once
                    self.error = self.error or failed
                    return None, None
                if tries == TRIES:
                    return None, failed
                self._pause(None, tries)
                continue
            except StudioError:
                raise
            except Exception as error:
                # The cause is told; what it holds, headers and the address with them, stays here.
                failed = explain_failure(self.voice, error, self.key, self.judge.patience)
            else:
                if saying.reason:
                    return self._keep(request, case, saying), None
                failed = GenerationFailed(
                    f"The judge {self.voice.name!r} broke off.",
                    "Its stream ended without saying why.",
                    "Ask again; if it stays so, the server's own log says why.",
                )
            self.reached = True
            self.log.add("lost", request, case.id, words=failed.why, text=self._hidden(saying.raw))
            lost += 1
            if lost == LOST_TRIES:
                return None, failed
            self._pause(None, lost)

    def _keep(self, request: str, case: Case, saying: Saying) -> Reply:
        self.reached = True
        server, left_out = self.voice.server, sorted(self.left_out)
        text, model = self._hidden(saying.raw), saying.model
        if not is_asked_for(self.voice.model, model):  # the name asked for is nobody's secret, and has to stay itself
            model = self._hidden(model)
        reply = Reply(request, server, model, saying.reason, text, tuple(left_out))
        self.log.add(
            *("reply", request, case.id),
            **{"server": server, "model": model, "finish_reason": saying.reason, "left_out": left_out, "text": text},
        )
        return reply

    def _hidden(self, text: str) -> str:
        """What a server sent, without the key: one that repeats its requests would bring it into the file."""
        return text.replace(self.key, "(key)") if len(self.key) >= SHORTEST_KEY else text

    def _parameters(self) -> dict:
        limit = "max_completion_tokens" if self.newer_limit else "max_tokens"
        values = {"temperature": self.wording.temperature, limit: self.wording.max_tokens}
        return {name: value for name, value in values.items() if name not in self.left_out}

    def _adapt(self, refused: Refused, sent: dict) -> bool:
        """Learns which settings the server does not take; True where it is worth asking again."""
        name = parameter_not_taken(refused, sent)
        if name == "max_tokens" and "max_completion_tokens" in server_words(refused.text):
            self.newer_limit = True
            return True
        if name == "temperature":
            self.left_out.add(name)
            return True
        return False

    def _pause(self, seconds: float | None, tries: int) -> None:
        """Nobody asks for so long: as the server says, else twice as long each time."""
        wait = min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE) if seconds is None else seconds
        self.not_before = max(self.not_before, time.monotonic() + wait)

    async def _wait(self) -> None:
        while (left := self.not_before - time.monotonic()) > 0 and not self._ended():
            await asyncio.sleep(min(left, 0.2))

    def _not_counted(self, reply: Reply, kind: str) -> GenerationFailed:
        what = f"The judge {self.voice.name!r} was given up."
        why = f"{GIVE_UP} items in a row got no reply that counts; the last was {TOLD[kind]}."
        fix = "Name another judge."
        if kind == OTHER_MODEL:
            why += f" It calls itself {served_name(reply.model)!r}."
            fix = f"If that is the one you want, name it so behind the # of {self.voice.flag}."
        elif kind == CUT:
            fix = f"It may use up {self.wording.max_tokens:,} tokens for thinking: name a judge that does not."
        return GenerationFailed(what, why, fix)


def _wants_long_pause(failed: StudioError, seconds: float) -> GenerationFailed:
    why = f"{failed.why} It asks for a pause of {seconds:,.0f} seconds; at most {LONGEST_PAUSE:.0f} are waited here."
    return GenerationFailed(failed.what, why, "Start again then.")
