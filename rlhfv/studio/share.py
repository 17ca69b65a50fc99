"""Sharing from the chat: a picture of the comparison, and a public link that can be withdrawn."""

from collections.abc import Callable

import gradio as gr

from rlhfv.corrections.differing import differing
from rlhfv.services import Actor, Services
from rlhfv.services.sharing import Comparison
from rlhfv.studio.events import explain, private
from rlhfv.studio.view import read_script
from rlhfv.studio.visitor import actor


def build(services: Services) -> tuple[gr.HTML, Callable[[Actor], dict | None]]:
    """The panel, closed while its value is None, and what it shows of a visitor's last comparison."""
    panel = gr.HTML(
        value=None,
        html_template='<div class="share"></div>',
        js_on_load=read_script("share.js"),
        apply_default_css=False,
        elem_id="share",
    )
    sharing = services.sharing

    def show(who: Actor, public: str = "", problem: str = "") -> dict:
        told = {
            "public": public,
            "problem": problem,
            "may_publish": sharing.may_publish(who),
            "links": [[link.id, link.question, link.made[:10]] for link in sharing.links(who)],
        }
        try:
            return shown(sharing.comparison(who)) | told
        except Exception as error:
            return told | {"problem": " ".join(explain(error))}

    def act(event: gr.EventData, request: gr.Request):
        who = actor(request)
        if event.act == "close":
            return None
        try:
            if event.act == "publish":
                link, done = sharing.publish(who, str(event.ref)), "The link is public."
            else:
                sharing.withdraw(who, str(event.ref))
                link, done = "", "The link is withdrawn."
        except Exception as error:
            return show(who, problem=" ".join(explain(error)))
        # The list of links says what was done; a word only where a restart would take it back.
        told = services.durable.told(done)
        return show(who, link, "" if told == done else told)

    private(panel.select, act, None, panel)
    return panel, show


def shown(comparison: Comparison) -> dict:
    """A comparison as `share.js` draws it."""
    correction = comparison.correction
    marked = differing(*(each.text for each in comparison.said))
    return {
        "mark": comparison.mark,
        "picture": f"images/{comparison.image}" if comparison.image else "",
        "question": comparison.question,
        "said": [
            {"voice": each.voice, "parts": [[text, "mark" if differs else ""] for text, differs in parts]}
            for each, parts in zip(comparison.said, marked, strict=True)
        ],
        "correction": correction
        and {"voice": comparison.said[correction.side].voice, "parts": [list(part) for part in correction.parts]},
    }
