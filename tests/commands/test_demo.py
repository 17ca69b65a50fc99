"""`demo`: the demo model's own world in a terminal."""

import json
import os

from PIL import Image


def test_a_scene_and_its_truth(say, tmp_path):
    code, out, _ = say("demo", "scene", "3", "--output", tmp_path / "scene.png", "--json")
    drawn = json.loads(out)
    assert code == 0 and drawn["source"] == "demo:validation/3" and drawn["truth"]["objects"]
    assert Image.open(tmp_path / "scene.png").size == (336, 336)
    assert drawn["truth"]["objects"][0]["name"] in say("demo", "scene", "3")[1]
    assert say("demo", "scene", "3", "--split", "nowhere")[0] == 2


def test_the_oracle_corrects(say):
    answer = "There is a fork on the left. There is a toilet on the right."
    code, out, _ = say("demo", "annotate", "demo:validation/3", answer, "--json")
    annotated = json.loads(out)
    assert code == 0 and annotated["edits"] and annotated["corrected"] != answer
    assert annotated["corrected"] in say("demo", "annotate", "demo:validation/3", answer)[1]
    assert say("demo", "annotate", "demo:nowhere/3", answer)[0] == 2
    for refused in ("half a character \udcff", "There is a toilet. " * 6000):
        code, out, err = say("demo", "annotate", "demo:validation/3", refused)
        assert code == 2 and out == "" and err.startswith("Error: The answer h")


def test_the_figures_of_the_demo(say, monkeypatch):
    class Echo:
        def attach(self, source):
            assert os.path.isdir(os.path.dirname(source))
            return "adapter@1"

        def answer_many(self, prompts, voice, sampling, image_path, batch_size):
            return ["The picture shows a kitchen." if voice else "There is a toilet." for _ in prompts]

    monkeypatch.setattr("rlhfv.models.local.LocalModel.load", lambda entry: Echo())
    code, out, _ = say("demo", "evaluate", "--scenes", "10", "--json")
    figures = json.loads(out)
    assert code == 0 and set(figures) >= {"baseline", "aligned"}
    for name in ("response_rate", "mention_rate", "recall", "words"):
        for voice in ("baseline", "aligned"):
            assert set(figures[voice][name]) == {"value", "low", "high"}
    assert figures["baseline"]["response_rate"]["value"] > figures["aligned"]["response_rate"]["value"] == 0
    assert "10 test scenes" in say("demo", "evaluate", "--scenes", "10")[1]
    assert say("demo", "evaluate", "--scenes", "501")[0] == 2
