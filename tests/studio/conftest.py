from types import SimpleNamespace

import gradio as gr
import pytest

from rlhfv.studio.visitor import HEADER, describe
from tests.services.conftest import ada, bob, picture, services  # noqa: F401


@pytest.fixture
def page(services):  # noqa: F811
    return build_page(services)


def build_page(services) -> "Page":  # noqa: F811
    """The page without what would serve it, which takes three quarters of the time."""
    from rlhfv.studio.app import build_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gr.routes.App, "create_app", lambda *_, **__: None)
        patch.setattr(gr.Blocks, "get_config_file", lambda *_: {})
        return Page(build_app(services))


class Page:
    """The page without a browser: an event is fired by the component's id, as the visitor given, unqueued."""

    def __init__(self, demo: gr.Blocks):
        self.demo = demo
        self.events = {}
        for function in demo.fns.values():
            for target, event in function.targets:
                block = demo.blocks.get(target)
                self.events.setdefault((getattr(block, "elem_id", None), event), []).append(function)

    def fire(self, elem_id: str, event: str, who, *values, data: dict | None = None):
        """What the handler returned, or the list of what it yielded, by the id of the component (or the component)."""
        function = next(each for each in self.events[elem_id, event] if each.fn is not None)
        request = gr.Request(SimpleNamespace(headers={HEADER: describe(who)}, query_params={}))
        arguments, *_ = gr.helpers.special_args(
            function.fn, list(values), request=request, event_data=gr.EventData(None, data) if data else None
        )
        result = function.fn(*arguments)
        if hasattr(result, "__next__"):
            return [self._named(each) for each in result]
        return self._named(result)

    def _named(self, result):
        if not isinstance(result, dict) or "__type__" in result:
            return result
        return {getattr(component, "elem_id", None) or component: _plain(value) for component, value in result.items()}


def _plain(value):
    """An update made with a component, as the arguments it was made with."""
    return value._constructor_args[0] if isinstance(value, gr.blocks.Block) else value


def texts(nodes) -> str:
    """All text of a view's value, its parts joined by one blank."""
    if isinstance(nodes, str):
        return " ".join(nodes.split())
    inside = (
        nodes[2:] if nodes and isinstance(nodes[0], str) and len(nodes) > 1 and isinstance(nodes[1], dict) else nodes
    )
    return " ".join(filter(None, map(texts, inside)))
