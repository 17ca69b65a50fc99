"""A baseline and an adapter that answer so many batches as they are let, in the place of a studio's model."""

import threading

from rlhfv.services.model_host import Voice
from tests.services.fakes import ScriptedModel

ALIGNED = "aligned@1"


class TwoVoices(ScriptedModel):
    def __init__(self):
        super().__init__()
        self.batches = threading.Semaphore(0)

    def adapters(self):
        return {ALIGNED: None}

    def answer_many(self, prompts, voice, sampling, image_path, batch_size, stop=None, search=None):
        while not self.batches.acquire(timeout=0.01):
            if stop is not None and stop.is_set():
                return []
        return super().answer_many(prompts, voice, sampling, image_path, batch_size, stop, search)


def give_two_voices(monkeypatch, services) -> TwoVoices:
    model = TwoVoices()
    monkeypatch.setattr(services.host.first, "model", model)
    voices = Voice("", "Baseline"), Voice(ALIGNED, "Aligned")
    monkeypatch.setattr(services.host, "voices", lambda actor: voices)
    return model


def answer(services, who, benchmark="pope-random", **how):
    [*_, last] = services.benchmarking.answer(who, benchmark, **how)
    return last.id
