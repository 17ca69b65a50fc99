"""`SpanEditor`: a Gradio component whose value is an answer with its corrections.

The page is built by the JavaScript beside this file. Whatever a model or a visitor wrote travels in `value` and
reaches the page as text nodes only: Gradio evaluates templates as code, so template, style and script are constants.
"""

import html
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

import gradio as gr
from gradio.data_classes import GradioModel
from gradio.events import EventListener, Events

from rlhfv.corrections.edits import KIND_WORDS, KINDS, CorrectedAnswer, Edit, edits_to_rows
from rlhfv.errors import InvalidCorrection

SCRIPTS = ("text.js", "view.js", "popover.js", "span_editor.js", "hints.js", "gestures.js")


class Correction(GradioModel):
    """One correction: code points `start` to `end` (half-open) of the original become `replacement`."""

    start: int
    end: int
    replacement: str = ""
    kind: str = "other"


class Hint(GradioModel):
    """A span that a detector doubts: `score` from 0 to 1, `kind` is preselected when the span is corrected, `source`
    says what the doubt rests on. The editor sets `shown` once the person could see the mark.
    """

    start: int
    end: int
    score: float = 1.0
    kind: str = ""
    source: str = ""
    shown: bool = False


class CorrectionDocument(GradioModel):
    """What the editor shows. The server keeps the answer itself under `answer_id`; `original` is a copy to check.

    `blind` is for a second correction that must not lean on anything: no hints. With `only_hints` a document brings
    hints to the answer that is open; its corrections and the rest of it are not taken.
    """

    original: str = ""
    answer_id: str = ""
    corrections: list[Correction] = []
    hints: list[Hint] = []
    readonly: bool = False
    blind: bool = False
    only_hints: bool = False

    def edits(self) -> tuple[Edit, ...]:
        return tuple(Edit(**correction.model_dump()) for correction in self.corrections)

    def shown(self) -> list[tuple[int, int]]:
        """Spans of the hints that the person could see."""
        return [(hint.start, hint.end) for hint in self.hints if hint.shown]

    def rows(self) -> list[dict]:
        """The corrections as rows with the text they name, as the services and the exports take them."""
        return edits_to_rows(self.original, self.edits())


def read_asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def read_script() -> str:
    """The editor's script, headed by the kinds and the words that tell them, so that both sides share one list."""
    kinds = [{"name": name, "meaning": meaning} for name, meaning in KINDS.items()]
    words = {kind: sorted(words) for kind, words in KIND_WORDS.items()}
    head = f"const KINDS = {json.dumps(kinds)};\nconst KIND_WORDS = {json.dumps(words)};\n"
    return head + "\n".join(read_asset(name) for name in SCRIPTS)


def read_style() -> str:
    """The style sheet, escaped because Gradio evaluates it as a JavaScript template literal."""
    return read_asset("span_editor.css").replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${")


class SpanEditor(gr.HTML):
    """Shows an answer and lets a person correct it in place; with `readonly` in its value it shows a pair.

    Events: `input` after each correction a person makes (for drafts), `submit` when they save, `change` after both
    these and updates from Python, `opened` when an answer was opened that may be hinted at. Every event that outputs
    to the editor needs `show_progress="hidden"`, or the editor fades while the event runs.
    """

    EVENTS = [Events.input, Events.submit, Events.change, EventListener("opened")]
    data_model = CorrectionDocument

    def __init__(
        self,
        value: CorrectionDocument | dict | None = None,
        *,
        elem_id: str | None = None,
        elem_classes: list[str] | str | None = None,
        visible: bool = True,
        render: bool = True,
        key: int | str | None = None,
    ):
        super().__init__(
            value,
            html_template='<div class="span-editor"></div>',
            css_template=read_style(),
            js_on_load=read_script(),
            apply_default_css=False,
            elem_id=elem_id,
            elem_classes=elem_classes,
            visible=visible,
            render=render,
            key=key,
        )

    def __getattr__(self, name: str):
        # gr.HTML would answer for every word that is quoted in the script and send it to the browser as a property.
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @staticmethod
    def document(
        original: str, answer_id: str, corrections: Iterable[Edit | dict] = (), readonly: bool = False
    ) -> CorrectionDocument:
        """The value for an answer with corrections, given as edits or as rows (other fields of a row are left out)."""
        fields = Correction.model_fields
        return CorrectionDocument(
            original=original,
            answer_id=answer_id,
            corrections=[
                Correction(**{name: row[name] for name in fields if name in row})
                for row in (vars(edit) if isinstance(edit, Edit) else edit for edit in corrections)
            ],
            readonly=readonly,
        )

    def preprocess(self, payload: CorrectionDocument | None) -> CorrectionDocument | None:
        """The document that the browser sent, with its corrections in order.

        Raises `gr.Error` for corrections that do not fit the original. Whether the original is the stored answer only
        the server can tell, by `answer_id`.
        """
        if payload is None:
            return None
        corrections = sorted(payload.corrections, key=lambda correction: (correction.start, correction.end))
        try:
            CorrectedAnswer(payload.original, payload.edits()).validate()
        except InvalidCorrection as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from None
        return payload.model_copy(update={"corrections": corrections})

    def postprocess(self, value: CorrectionDocument | dict | None) -> CorrectionDocument:
        if value is None:
            return CorrectionDocument()
        return value if isinstance(value, CorrectionDocument) else CorrectionDocument(**value)

    def api_info(self) -> dict[str, Any]:
        return CorrectionDocument.model_json_schema()

    def example_payload(self) -> dict[str, Any]:
        return self.document("A dog on a sofa.", "", [Edit(2, 5, "cat", "object")]).model_dump()

    def example_value(self) -> dict[str, Any]:
        return self.example_payload()
