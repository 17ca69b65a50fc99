"""A model with scripted answers in place of the real one: the services above it are the real ones."""

import time
from pathlib import Path
from types import SimpleNamespace

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.models.catalog import Entry
from rlhfv.models.engine import Reading
from rlhfv.models.local import Generated

IDENTITY = ModelIdentity("scripted", "0" * 40)


class ScriptedModel:
    """Answers each row with what it was asked and by whom, word by word; `active` calls are at it."""

    identity = IDENTITY
    takes_several_images = True
    model = None
    dtype, four_bit = "float32", False
    processor = SimpleNamespace(image_processor=SimpleNamespace(to_dict=dict))

    def __init__(self, delay: float = 0.0):
        self.delay, self.calls, self.samplings, self.active = delay, [], [], 0
        self.reads = []

    def adapters(self):
        return {}

    def answer_both(self, rows, sampling, image_path, stop):
        self.calls.append(rows)
        self.samplings.append(sampling)
        texts = [f"{row.voice or 'baseline'} says: {row.prompt.question} #{len(row.prompt.history)}" for row in rows]
        words = [text.split(" ") for text in texts]
        shown, finished = 0, True
        self.active += 1
        try:
            for shown in range(1, max(map(len, words)) + 1):
                if stop is not None and stop.is_set():
                    finished = False
                    break
                time.sleep(self.delay)
                yield tuple(" ".join(each[:shown]) for each in words)
        finally:
            self.active -= 1
        layout = tuple(row.voice or "baseline" for row in rows)
        return tuple(
            Generated(" ".join(each[:shown]), finished, len(each[:shown]), layout, number)
            for number, each in enumerate(words)
        )

    def answer_many(self, prompts, voice, sampling, image_path, batch_size, stop=None, search=None):
        return [f"{voice or 'baseline'} says: {prompt.question}" for prompt in prompts]

    def read(self, prompt, answer, readers, image_path):
        """Every reader is sure of every word but "says:", which nobody expected and an adapter least."""
        self.reads.append(tuple(readers))
        offsets, start = [], 0
        for word in answer.split(" "):
            offsets.append((max(0, start - 1), start + len(word)))
            start += len(word) + 1
        doubtful = [answer[start:end].strip() == "says:" for start, end in offsets]
        log_probs = [
            tuple(-0.01 if not doubt else -15.0 if reader.voice else -3.0 for doubt in doubtful) for reader in readers
        ]
        return Reading(tuple(offsets), tuple(log_probs))

    def unload(self):
        pass


def scripted_entry(**fields):
    """A catalogue entry of the scripted model."""
    values = {
        "id": "scripted",
        "title": "Scripted",
        "source": "scripted",
        "revision": None,
        "licence": "apache-2.0",
        "notice": "",
        "world": None,
        "examples": (),
        "adapters": (),
        "is_local": False,
        "one_picture": False,
        "known": None,
        "beside": "",
    }
    return Entry(**{**values, **fields})


def load_instead(monkeypatch, load) -> None:
    """`load` in the place of `LocalModel.load`, with nothing to measure or to fetch before it."""
    monkeypatch.setattr("rlhfv.models.local.LocalModel.load", load)
    monkeypatch.setattr("rlhfv.services.bases._fits", lambda *_: True)
    monkeypatch.setattr("rlhfv.services.bases.fetch_files", lambda entry: Path(entry.source) / IDENTITY.revision)
    monkeypatch.setattr("rlhfv.services.bases.download", lambda *_: Path(IDENTITY.revision))
