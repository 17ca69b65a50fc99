"""The phone's own way to a picture: its rear camera or its library, and less to upload."""

import gradio as gr

from rlhfv.studio.view import read_script


def photo() -> gr.HTML:
    """The two buttons. What they bring goes through the picture box of the chat, as any other file does."""
    return gr.HTML(
        value=None,
        html_template='<div class="photo"></div>',
        js_on_load=read_script("photo.js"),
        apply_default_css=False,
        elem_id="photo",
    )
