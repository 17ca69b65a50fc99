"""Both columns answer at once, each from where its model is: one `generate` call for those of one base, another for
a second base, streams of servers beside."""

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import StudioError
from rlhfv.models.generated import Generated, Row
from rlhfv.services.actor import Actor
from rlhfv.services.model_host import ModelHost

Outcome = Generated | StudioError
WAITING_SECONDS = 0.5


def speak(
    host: ModelHost,
    actor: Actor,
    voices: Sequence[str],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    image_path: Callable[[str], Path],
    stop: threading.Event,
) -> Iterator[tuple[str, ...]]:
    """Streams what each voice says to its prompt: yields the newest full text of each whenever there is more.

    The generator returns for each voice its `Generated`, with its `model`, or why it has none: a server that fails
    takes nothing from the other column. Closing it ends all of them.

    Raises:
        StudioError: none of the voices could answer; what the first said of it.
    """
    remote = [place for place, voice in enumerate(voices) if voice in host.remotes]
    by_base: dict[str, list[int]] = {}
    for place, voice in enumerate(voices):
        if place not in remote:
            by_base.setdefault(host.find_base(actor, voice), []).append(place)
    if not remote and len(by_base) == 1 and host.base(next(iter(by_base))).model is not None:
        return (yield from _speak_here(host, actor, voices, prompts, sampling, image_path, stop))
    outcomes: list[Outcome | None] = [None] * len(voices)
    shown, news, ended = [""] * len(voices), queue.SimpleQueue(), _Either(stop, threading.Event())

    def run(places: list[int]) -> None:
        """One part in a thread of its own, so that no server waits for a model that is loaded, nor the reverse."""
        asked = [voices[place] for place in places], [prompts[place] for place in places]
        answer = _speak_there if places[0] in remote else _speak_here
        try:
            stream = answer(host, actor, *asked, sampling, image_path, ended)
            while True:
                try:
                    news.put((places, next(stream), None))
                except StopIteration as end:
                    return news.put((places, None, end.value))
        except Exception as error:
            news.put((places, None, [error] * len(places)))

    waiting = [*([place] for place in remote), *by_base.values()]
    for places in waiting:
        # With the context: it names the visitor whose GPU time a borrowed GPU takes.
        target = contextvars.copy_context().run
        threading.Thread(target=target, args=(run, places), name="answering", daemon=True).start()
    try:
        left = len(waiting)
        while left:
            try:
                places, texts, results = news.get(timeout=WAITING_SECONDS)
            except queue.Empty:  # whoever waits can be told meanwhile what for
                yield tuple(shown)
                continue
            if texts is None:
                left -= 1
                for place, outcome in zip(places, results, strict=True):
                    outcomes[place] = outcome
                continue
            for place, text in zip(places, texts, strict=True):
                shown[place] = text
            yield tuple(shown)
    finally:
        ended.own.set()
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    # What nobody expected is no matter between a visitor and a server: the page says that the studio failed.
    for error in errors:
        if not isinstance(error, StudioError) or len(errors) == len(outcomes):
            raise error
    return tuple(outcomes)


class _Either:
    """What the visitor stops, or what ends with the page."""

    def __init__(self, stop: threading.Event, own: threading.Event):
        self.stop, self.own = stop, own

    def is_set(self) -> bool:
        return self.stop.is_set() or self.own.is_set()


def _speak_here(host, actor, voices, prompts, sampling, image_path, stop) -> Iterator[tuple[str, ...]]:
    adapters = [host.voice(actor, voice).adapter for voice in voices]
    with host.using(actor, *voices, given_up=stop.is_set) as model:
        rows = [Row(adapter, prompt) for adapter, prompt in zip(adapters, prompts, strict=True)]
        generated = yield from model.answer_both(rows, sampling, image_path, stop)
        held = {"weights": "4-bit"} if getattr(model, "four_bit", False) else {}
        return tuple(
            replace(one, model=replace(model.identity, adapter=row.voice), extra=one.extra | held)
            for one, row in zip(generated, rows, strict=True)
        )


def _speak_there(host, actor, voices, prompts, sampling, image_path, stop) -> Iterator[tuple[str, ...]]:
    [voice], [prompt] = voices, prompts
    return (yield from host.remotes[voice].answer_both([Row(None, prompt)], sampling, image_path, stop))
