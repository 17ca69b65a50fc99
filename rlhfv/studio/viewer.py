"""The picture beside an answer: zooms by wheel, pinch, keys and buttons, and keeps its place."""

import gradio as gr

from rlhfv.studio.view import read_script


def viewer(elem_id: str) -> gr.HTML:
    """The component. Its value is `show(names)`, None shows nothing."""
    return gr.HTML(
        value=None,
        html_template='<div class="viewer"></div>',
        js_on_load=read_script("viewer.js"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def show(names: tuple[str, ...], question: str = "") -> dict:
    """Stored pictures, the newest in front."""
    about = f"Picture of the question: {question[:160]}" if question else "Picture"
    return {"pictures": [f"images/{name}" for name in names], "about": about}
