import gradio as gr
import pytest

from rlhfv.ddpo.config import RECIPES, describe_fields
from rlhfv.errors import InvalidData
from rlhfv.studio.settings_form import build_form


@pytest.fixture
def form():
    with gr.Blocks():
        return build_form()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_filled_in_reads_back_as_itself(form, name):
    values = form.fill(RECIPES[name])
    assert form.read(name, *(values[part] for part in form.inputs[1:])) == RECIPES[name]


def test_every_setting_has_a_field_with_its_help(form):
    fields = {field["name"]: field["help"] for field in describe_fields() if field["name"] not in ("recipe", "source")}
    assert dict(zip(form.names, (part.info for part in form.inputs[1:]), strict=True)) == fields


def test_a_change_counts_and_nonsense_is_told(form):
    values = [RECIPES["demo"].to_dict()[name] for name in form.names]
    at = form.names.index("beta")
    assert form.read("demo", *values[:at], 0.3, *values[at + 1 :]).beta == 0.3
    with pytest.raises(InvalidData, match="beta"):
        form.read("demo", *values[:at], -1, *values[at + 1 :])
    assert form.read("demo", *values[:at], None, *values[at + 1 :]).beta == RECIPES["demo"].beta, "an emptied field"
