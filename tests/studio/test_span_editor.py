import json

import gradio as gr
import pytest

from rlhfv.corrections.edits import KINDS, Edit
from rlhfv.studio.span_editor import CorrectionDocument, Hint, SpanEditor
from rlhfv.studio.span_editor.editor import SCRIPTS, read_asset, read_script, read_style

FAMILY = "👨‍👩‍👧 a dog"


def document(*rows, original="A dog on a sofa.") -> CorrectionDocument:
    names = ("start", "end", "replacement", "kind")
    return SpanEditor.document(original, "a1", [dict(zip(names, row, strict=True)) for row in rows])


def test_document_takes_edits_and_rows():
    by_edit = SpanEditor.document("A dog.", "a1", [Edit(2, 5, "cat", "object")])
    by_row = SpanEditor.document(
        "A dog.", "a1", [{"start": 2, "end": 5, "text": "dog", "replacement": "cat", "kind": "object"}]
    )
    assert by_edit == by_row
    assert by_edit.rows() == [{"start": 2, "end": 5, "text": "dog", "replacement": "cat", "kind": "object"}]
    assert by_edit.edits() == (Edit(2, 5, "cat", "object"),)


def test_preprocess_orders_corrections_and_counts_code_points():
    editor = SpanEditor()
    sent = document((11, 15, "chair", "object"), (2, 5, "cat", "object"))
    assert [row["text"] for row in editor.preprocess(sent).rows()] == ["dog", "sofa"]
    family = editor.preprocess(document((8, 11, "cat", "object"), original=FAMILY))
    assert family.rows()[0]["text"] == "dog"
    assert editor.preprocess(None) is None
    assert editor.preprocess(CorrectionDocument()) == CorrectionDocument()


@pytest.mark.parametrize(
    "row, part",
    [
        ((2, 99, "cat", "object"), "The answer has 16 characters"),
        ((-1, 3, "cat", "object"), "The answer has 16 characters"),
        ((5, 2, "cat", "object"), "from left to right"),
        ((2, 5, "cat", "mood"), "The kinds are object"),
        ((2, 5, "dog", "object"), "changes nothing"),
        ((2, 5, "x" * 10_001, "object"), "10,001 characters"),
    ],
)
def test_forged_corrections_are_refused(row, part):
    with pytest.raises(gr.Error) as caught:
        SpanEditor().preprocess(document(row))
    assert part in caught.value.message
    assert caught.value.message.count(". ") >= 2
    assert caught.value.print_exception is False


def test_overlap_is_refused():
    with pytest.raises(gr.Error, match="overlap"):
        SpanEditor().preprocess(document((2, 8, "cat", "object"), (5, 10, "x", "other")))


def test_a_refusal_holds_no_markup():
    with pytest.raises(gr.Error) as caught:
        SpanEditor().preprocess(document((2, 5, "cat", "<img src=x onerror=alert(1)>")))
    assert "<" not in caught.value.message


def test_postprocess_takes_nothing_a_dict_or_a_document():
    editor = SpanEditor()
    assert editor.postprocess(None) == CorrectionDocument()
    assert editor.postprocess(document()) == document()
    assert editor.postprocess(document().model_dump()) == document()
    with pytest.raises(TypeError):
        editor.postprocess("<b>an answer</b>")


def test_templates_are_constants():
    editor = SpanEditor(document(original="${alert(1)} {{value}} <img src=x onerror=alert(1)> `"))
    config = editor.get_config()
    for template in (config["html_template"], config["css_template"]):
        assert "{{" not in template
        assert "${" not in template.replace("\\${", "")
    assert "\\" not in read_asset("span_editor.css") and "`" not in read_style().replace("\\`", "")
    assert "alert(1)" not in json.dumps({name: value for name, value in config.items() if name != "value"})


def test_the_page_is_built_without_markup():
    for name in SCRIPTS:
        script = read_asset(name)
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
            assert sink not in script, f"{name} uses {sink}"


def test_kinds_and_words_reach_the_script():
    head = read_script().split("\n")[0].removeprefix("const KINDS = ").rstrip(";")
    assert {kind["name"]: kind["meaning"] for kind in json.loads(head)} == KINDS


def test_words_of_the_script_are_no_events():
    editor = SpanEditor()
    for name in ("hints", "original", "pointerdown", "compositionend"):
        assert f'"{name}"' in read_script() or name in ("hints", "original")
        assert not hasattr(editor, name)
    assert not {"hints", "original"} & set(editor.get_config())


def test_events():
    with gr.Blocks() as demo:
        editor = SpanEditor(elem_id="editor")
        for event in (editor.input, editor.submit, editor.change, editor.opened):
            event(lambda value: None, editor, None, api_visibility="private")
    targets = {name for function in demo.fns.values() for _, name in function.targets}
    assert targets == {"input", "submit", "change", "opened"}


def test_only_hints_that_were_seen_count_as_shown():
    hints = [Hint(start=0, end=1, shown=True), Hint(start=2, end=5)]
    assert document().model_copy(update={"hints": hints}).shown() == [(0, 1)]
