import subprocess
import sys

import pytest

from rlhfv.ddpo.config import RECIPES, TrainingConfig, describe_fields, find_recipe
from rlhfv.errors import InvalidData


def test_reading_the_settings_costs_no_torch():
    code = "import rlhfv.ddpo.config, sys; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_knows_its_name_and_source_and_survives_json(name):
    recipe = RECIPES[name]
    assert recipe.recipe == name
    assert recipe.source
    assert TrainingConfig.from_dict(recipe.to_dict()) == recipe


def test_published_figures():
    paper, released = RECIPES["paper"], RECIPES["rlhfv-2024"]
    assert (paper.gamma, paper.beta, paper.normalised, paper.batch_size, paper.epochs) == (5.0, 0.5, True, 32, 7.0)
    assert (released.gamma, released.beta, released.normalised, released.batch_size) == (1.1, 0.1, False, 8)
    for name in ("paper", "rlhfv-2024", "chip-weights", "dpo"):
        recipe = RECIPES[name]
        assert (recipe.learning_rate, recipe.lora_rank, recipe.lora_alpha) == (1e-5, 64, 16)
        assert "RLAIF-V" in recipe.source
    assert not paper.seam
    assert RECIPES["demo"].seam


def test_fields_left_out_come_from_the_recipe():
    config = TrainingConfig.from_dict({"recipe": "paper", "epochs": 2})
    assert (config.epochs, config.gamma, config.normalised) == (2.0, 5.0, True)


def test_every_field_has_a_help_text():
    described = describe_fields()
    assert all(entry["help"] for entry in described)
    assert {entry["name"]: entry["default"] for entry in described} == TrainingConfig().to_dict()
    assert {entry["type"] for entry in described} <= {"str", "int", "float", "bool"}


@pytest.mark.parametrize(
    "fields",
    [
        {"beta": 0},
        {"gamma": -1.0},
        {"learning_rate": float("nan")},
        {"learning_rate": "1e-4"},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"normalised": 1},
        {"weights": "words"},
        {"epochs": 0},
        {"eval_fraction": 0.9},
        {"temperature": 1.0},
        {"shared_weight": 0.0, "include_preferred": True},
    ],
)
def test_what_cannot_work_is_refused_in_three_parts(fields):
    with pytest.raises(InvalidData) as refused:
        TrainingConfig().changed(**fields)
    assert refused.value.what and refused.value.why and refused.value.fix
    assert any(name in str(refused.value) for name in fields) or "shared" in str(refused.value)


def test_an_unknown_recipe_is_refused():
    with pytest.raises(InvalidData, match="The recipes are"):
        find_recipe("ddpo")


def test_whole_numbers_are_taken_for_numbers():
    assert TrainingConfig().changed(epochs=3, batch_size=8.0) == TrainingConfig(epochs=3.0, batch_size=8)
    assert TrainingConfig(epochs=0, steps=5).steps == 5
