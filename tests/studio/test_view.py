from rlhfv.studio.view import button, h, progress, view


def test_an_element_carries_classes_attributes_and_children():
    node = h(
        "p.note.big", "text", None, h("b", "x"), title="a", hidden=False, open=True, aria_label="say", act="go", ref=3
    )
    assert node == [
        "p",
        {"title": "a", "open": "", "aria-label": "say", "class": "note big", "data-act": "go", "data-ref": "3"},
        "text",
        ["b", {}, "x"],
    ]


def test_untrusted_text_stays_a_plain_string():
    hostile = "<img src=x onerror=alert(1)> ${x} {{value}} `"
    assert h("p", hostile)[2] == hostile


def test_a_view_has_constant_templates_and_no_events_but_its_own():
    parts = [view(h("p", "${1+1} {{value}}"), elem_id="a"), view(elem_id="b")]
    assert {part.html_template for part in parts} == {'<div class="view"></div>'}
    assert all("functools.partial" not in str(part.get_config()) for part in parts)


def test_progress_is_told_to_screen_readers():
    bar = progress(0.4, "2 of 5")[2]
    assert bar[1]["role"] == "progressbar" and bar[1]["aria-valuenow"] == "40" and bar[1]["aria-valuetext"] == "2 of 5"
    assert "aria-valuenow" not in progress(None, "some time")[2][1]
    assert progress(7, "too much")[2][1]["aria-valuenow"] == "100"


def test_buttons_are_buttons():
    tag, attributes, label = button("Go", "go", "id", "primary")
    assert (tag, attributes["type"], attributes["class"], label) == ("button", "button", "act primary", "Go")
