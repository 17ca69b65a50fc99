"""The words in which two texts differ, as nodes of a view."""

from rlhfv.corrections.differing import Part
from rlhfv.corrections.edits import Edit
from rlhfv.studio.view import Node, h


def marked(parts: tuple[Part, ...]) -> list[Node]:
    """The parts as nodes, differing words in `<mark>`."""
    nodes: list[Node] = []
    for text, differs in parts:
        words = text.strip()
        if differs and words:
            before, _, after = text.partition(words)
            nodes += [before, h("mark", words), after]
        else:
            nodes.append(text)
    return [node for node in nodes if node]


def changed(text: str, edit: Edit) -> list[Node]:
    """One correction: the old words struck out, then the new ones; a space between where both are there."""
    old = text[edit.start : edit.end]
    return [
        *([h("del", old)] if old else []),
        *([" "] if old.strip() and edit.replacement.strip() else []),
        *([h("ins", edit.replacement)] if edit.replacement else []),
    ]
