import io
from dataclasses import replace

import pytest
from PIL import Image

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import from_texts
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import Judgement, PreferencePair, Provenance
from rlhfv.corrections.store import Store
from tests.corrections.team import ANN, BOB, Team

MODEL = ModelIdentity("demo", "a" * 64)
CREATED = "2025-01-02T03:04:05+00:00"


@pytest.fixture
def shelf(tmp_path):
    return ImageShelf(tmp_path / "images")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "studio.db")


@pytest.fixture
def make_answer():
    def make(id="answer-1", text="There is a red fork on the table.", visitor="visitor-1", images=(), **fields):
        prompt = fields.pop("prompt", Prompt("What is on the table?", tuple(images)))
        return Answer(id, prompt, text, MODEL, Sampling(seed=7), visitor, CREATED, ("baseline", "mine@12"), **fields)

    return make


@pytest.fixture
def make_pair():
    def make(answer, chosen, annotator="ann", **fields):
        provenance = Provenance(
            model=answer.model,
            sampling=answer.sampling,
            row_layout=answer.row_layout,
            created=CREATED,
            annotator=annotator,
            app_version="0.1.0",
            licence="CC-BY-4.0",
            consent=True,
        )
        edits = from_texts(answer.text, chosen)
        pair = PreferencePair(answer.id, answer.prompt, chosen, answer.text, edits, "corrected", provenance)
        return replace(pair, **fields)

    return make


@pytest.fixture
def make_judgement():
    def make(id, *answers, outcome="corrected", annotator="ann", **fields):
        values = {"flags": (), "reason": "", "created": CREATED, "active_seconds": 3.5} | fields
        return Judgement(id, tuple(answers), outcome, annotator=annotator, **values)

    return make


@pytest.fixture
def saved(store, make_answer, make_pair, make_judgement):
    """A store with one answer and one correction of it, in two revisions."""
    answer = make_answer()
    store.add_answer(answer)
    store.save(make_judgement("j1", answer.id), make_pair(answer, "There is a red spoon on the table."))
    return store, store.save(make_judgement("j2", answer.id), make_pair(answer, "There is a spoon on the table.")).pair


@pytest.fixture
def encode():
    def encode(image=None, format="PNG", **options):
        image = image or Image.linear_gradient("L").resize((64, 48)).convert("RGB")
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def team(tmp_path, make_answer, make_pair, make_judgement):
    return Team(tmp_path / "team.db", make_answer, make_pair, make_judgement)


@pytest.fixture
def both(team):
    """Two people's corrections of one answer."""
    return (
        team.save(ANN, "A blue cup on a big table."),
        team.save(BOB, "A red cup on a small table."),
    )
