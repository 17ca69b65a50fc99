"""Where there is room for one column only: which of the two answers is shown, and what keeps its place there."""

import gradio as gr

from rlhfv.studio.view import read_script


def sides() -> gr.HTML:
    """The switch. Its value is `titles(left, right)`; a page wide enough for both columns does not show it."""
    return gr.HTML(
        value=None,
        html_template='<div class="sides"></div>',
        js_on_load=read_script("sides.js"),
        apply_default_css=False,
        elem_id="sides",
    )


def titles(left: str, right: str) -> dict:
    return {"left": left, "right": right}
