"""What holds for every event and every component of the page."""

import json
import re
from importlib import resources

import gradio as gr

from rlhfv.models.remote import LINE
from rlhfv.studio.app import build_theme, read_asset
from rlhfv.studio.wiring import NAMES


def test_three_events_are_open_to_the_api(page):
    public = {function.api_name for function in page.demo.fns.values() if function.api_visibility != "private"}
    assert public == {"chat", "correct", "export"}
    assert page.demo.api_open is False
    page.demo.config = page.demo.get_config_file()
    assert set(page.demo.get_api_info()["named_endpoints"]) == {"/chat", "/correct", "/export"}


def test_every_queued_event_has_a_limit_and_generators_share_the_models(page):
    model = [function for function in page.demo.fns.values() if function.concurrency_id == "model"]
    assert {(function.name, function.concurrency_limit) for function in model} >= {("ask", 64), ("regenerate", 64)}
    assert LINE <= 64 - 16, "those who wait for servers leave room for those who ask the model here"
    unlimited = {function.name for function in page.demo.fns.values() if function.concurrency_limit is None}
    assert unlimited <= {"tick"}
    assert page.demo.max_queue_size if hasattr(page.demo, "max_queue_size") else page.demo._queue.max_size


def test_no_template_holds_data_and_no_script_has_a_hole(page):
    for block in page.demo.blocks.values():
        if isinstance(block, gr.HTML):
            assert not re.search(r"\{\{|\$\{", block.html_template), block.elem_id
            assert not block.props, f"{block.elem_id}: custom props are replaced as a whole by a partial update"
    for name in ("view.js", "viewer.js", "studio.js"):
        script = resources.files("rlhfv.studio").joinpath(name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|outerHTML|document\.write|eval\(", script), name


def test_the_page_can_be_sent(page):
    config = json.dumps(page.demo.get_config_file(), default=str)
    assert "functools.partial" not in config


def test_every_button_and_field_has_a_name(page):
    for block in page.demo.blocks.values():
        if isinstance(block, (gr.Button, gr.UploadButton, gr.DownloadButton)):
            assert str(block.value or getattr(block, "label", "")).strip(), block.elem_id
        elif isinstance(block, (gr.Textbox, gr.Number, gr.Dropdown, gr.Checkbox, gr.CheckboxGroup, gr.Slider)):
            assert block.label or block.visible is False, block.elem_id


def test_ids_are_unique(page):
    ids = [block.elem_id for block in page.demo.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids))


def test_the_tabs_can_be_linked_to(page):
    blocks = page.demo.blocks.values()
    tabs = [block.id for block in blocks if isinstance(block, gr.Tab) and block.parent.elem_id == "tabs"]
    assert tuple(tabs) == NAMES


def test_fonts_and_styles_are_in_the_package():
    assert build_theme()._stylesheets == []
    assert not re.search(r"https?://|@import", read_asset("studio.css"))
    assert not re.search(r"https?://", read_asset("studio.js"))
