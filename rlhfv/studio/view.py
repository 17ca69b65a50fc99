"""Read-only parts of the page: Python says what is shown as a tree of plain data, `view.js` builds it with text nodes.

No template ever holds data, so nothing that a visitor typed or a model said can become markup.
"""

from functools import cache
from importlib import resources

import gradio as gr

Node = str | list
"""A text, or `[tag, attributes, *children]`."""


def h(tag: str, *children: Node | None, **attributes) -> Node:
    """One element: `h("p.note", "text", title="…")`.

    Classes follow the tag after dots. `act` and `ref` make it send `{"act": …, "ref": …}` when it is clicked: with the
    view's `select` event, or with its `edit` event where `data_event="edit"` says so (for what leaves the tab).
    Attributes that are None or False, and children that are None, are left out.
    """
    name, *classes = tag.split(".")
    given = {
        key.rstrip("_").replace("_", "-"): "" if value is True else str(value)
        for key, value in attributes.items()
        if value is not None and value is not False
    }
    if classes:
        given["class"] = " ".join(classes + given.get("class", "").split())
    for key in ("act", "ref"):
        if key in given:
            given[f"data-{key}"] = given.pop(key)
    return [name, given, *(child for child in children if child is not None)]


def button(label: str, act: str, ref: str = "", kind: str = "", **attributes) -> Node:
    """A button inside a view; `kind` is one of "", "primary", "quiet", "danger"."""
    return h(f"button.act{'.' + kind if kind else ''}", label, type="button", act=act, ref=ref, **attributes)


def link(text: str, address: str, **attributes) -> Node:
    """A way out of the studio, in a window of its own; the page shows no other addresses than http and https."""
    return h("a.out", text, href=address, target="_blank", rel="noopener noreferrer", **attributes)


def empty(title: str, hint: str) -> Node:
    """What a place says while it has nothing to show: what it is for, and what to do next."""
    return h("div.empty", h("p.empty-title", title), h("p", hint))


def view(*nodes: Node, elem_id: str, label: str = "", classes: str = "", visible: bool = True) -> gr.HTML:
    """The component. Its later values are lists of nodes; its `select` event carries `act` and `ref`."""
    return gr.HTML(
        value=list(nodes),
        label=label or None,
        html_template='<div class="view"></div>',
        js_on_load=read_script("view.js"),
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes=classes.split(),
        visible=visible,
    )


def progress(fraction: float | None, text: str, label: str = "Progress") -> Node:
    """A bar; `fraction` None means that how long it takes is not known."""
    percent = None if fraction is None else round(100 * min(max(fraction, 0), 1))
    return h(
        "div.progress",
        h(
            "div.bar" + (".unknown" if percent is None else ""),
            h("div.fill", style=f"width:{30 if percent is None else percent}%"),
            role="progressbar",
            aria_label=label,
            aria_valuemin="0",
            aria_valuemax="100",
            aria_valuenow=percent,
            aria_valuetext=text,
        ),
        h("p.progress-text", text),
    )


def pager(start: int, size: int, total: int, what: str, back: str = "‹ Before", on: str = "Next ›") -> list[Node]:
    """Where a list of `total` stands that shows `size` from `start`, and the ways to its other pages: they send `turn`
    with the place of the first that they show."""
    if total == 0:
        return []
    end = min(start + size, total)
    return [
        h(
            "div.pager",
            button(back, "turn", str(max(0, start - size)), disabled=start == 0),
            h("span", f"{start + 1:,}–{end:,} of {total:,}", role="status"),
            button(on, "turn", str(end), disabled=end >= total),
            role="navigation",
            aria_label=f"Pages of {what}",
        )
    ]


@cache
def read_script(name: str) -> str:
    """A script beside this file; it goes to the page as it is."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
