"""The picture box of the chat: files arrive there unopened, and what it shows comes from the image shelf."""

import gradio as gr
from gradio.components.image import ImageData


class PictureBox(gr.Image):
    """`gr.Image` whose input is the path of the uploaded file and whose output is the name of a stored picture.

    The file is not decoded here: the shelf checks its size before it does. What is shown is served by the studio's own
    route, so nothing is copied into the page's cache.
    """

    is_template = True

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload.path if payload is not None else None

    def postprocess(self, value: str | None) -> ImageData | None:
        return None if value is None else ImageData(path=None, url=f"images/{value}", orig_name=value)
