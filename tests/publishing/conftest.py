"""A store with pictures and pairs, and what pushes and pulls it."""

import hashlib
import io
from types import SimpleNamespace

import pytest
from huggingface_hub.utils import _http
from PIL import Image

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling, Turn
from rlhfv.corrections.edits import from_texts
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import Judgement, PreferencePair, Provenance
from rlhfv.corrections.published import Published
from rlhfv.corrections.store import Store
from rlhfv.publishing.hub import Hub
from rlhfv.publishing.puller import Puller
from rlhfv.publishing.pusher import Pusher
from rlhfv.publishing.token import Token

REPO = "ann/pairs"
MODEL = ModelIdentity("llava-hf/llava-1.5-7b-hf", "a" * 40)
CREATED = "2026-11-02T03:04:05+00:00"


def encode_picture(seed: int, side: int = 24) -> bytes:
    """A PNG of noise, so that it cannot be compressed."""
    noise = hashlib.shake_128(seed.to_bytes(4, "big")).digest(side * side * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), noise).save(buffer, "PNG")
    return buffer.getvalue()


class Bench:
    """One studio's data folder: pairs are made, edited and deleted in it."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store(folder / "studio.sqlite3")
        self.published = Published(folder / "studio.sqlite3")
        self.shelf = ImageShelf(folder / "images")

    def picture(self, seed: int, side: int = 24) -> str:
        return self.shelf.intake(encode_picture(seed, side)).name

    def pair(self, number: int, colour: str = "blue", annotator: str = "Ann Lee", **fields) -> PreferencePair:
        """The pair `pair-<number>`, about its own picture; the same number and colour give the same pair."""
        rejected = f"A red dog 🐕 and {number} forks lie on the table."
        chosen = rejected.replace("red", colour)
        terms = {"licence": "cc-by-4.0", "consent": True} | {
            name: fields.pop(name) for name in ("licence", "consent", "source", "origin") if name in fields
        }
        provenance = Provenance(
            model=MODEL,
            sampling=Sampling(temperature=0.7, seed=number),
            row_layout=("baseline",),
            created=CREATED,
            annotator=annotator,
            app_version="0.1.0",
            **terms,
        )
        prompt = fields.pop("prompt", None) or Prompt("What is on the table?", (self.picture(number),))
        values = {"edits": from_texts(rejected, chosen), "outcome": "corrected"} | fields
        return PreferencePair(f"pair-{number}", prompt, chosen, rejected, provenance=provenance, **values)

    def add(self, *numbers: int, **fields) -> None:
        self.store.add_pairs([self.pair(number, **fields) for number in numbers])

    def judge(self, id: str, outcome: str = "faithful", answers: int = 1, **fields) -> Judgement:
        """A judgement without a pair about answers of its own, which are made for it."""
        made = [
            Answer(
                f"{id}-answer-{number}",
                Prompt("And now?", (self.picture(900),), (Turn("What is it?", "A dog.", (self.picture(901),)),)),
                f"Answer {number} of {id}.",
                MODEL,
                Sampling(),
                "visitor",
                CREATED,
                ("baseline", "mine"),
                number,
            )
            for number in range(answers)
        ]
        for answer in made:
            self.store.add_answer(answer)
        values = {"flags": (), "reason": "", "annotator": "Ann Lee", "created": CREATED, "active_seconds": 2.5}
        values |= {"licence": "cc-by-4.0", "consent": True} | fields
        judgement = Judgement(id, tuple(answer.id for answer in made), outcome, **values)
        self.store.save(judgement)
        return judgement


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "studio")


@pytest.fixture
def other(tmp_path):
    """A second, fresh studio."""
    return Bench(tmp_path / "other")


@pytest.fixture
def ann(hub):
    return Token(hub.user("ann"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """The client does not really wait between its own tries."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))


@pytest.fixture
def waits():
    """The seconds that pushers and pullers waited; they do not really wait."""
    return []


@pytest.fixture
def pusher(hub, ann, waits):
    def make(bench: Bench, token: Token | None = None, **options) -> Pusher:
        work = bench.folder / "publishing"
        options = {"wait": waits.append} | options
        return Pusher(bench.published, bench.shelf, work, Hub(token or ann, hub.endpoint), **options)

    return make


@pytest.fixture
def push(pusher):
    """`push(bench)` pushes to ann/pairs as Ann."""

    def push(bench: Bench, token: Token | None = None, repo: str = REPO, **options):
        return pusher(bench, token).push(repo, **options)

    return push


@pytest.fixture
def pull(hub, ann, waits):
    def pull(bench: Bench, token: Token | None = None, repo: str = REPO):
        work = bench.folder / "publishing"
        return Puller(bench.published, bench.shelf, work, Hub(token or ann, hub.endpoint), wait=waits.append).pull(
            repo
        )

    return pull
