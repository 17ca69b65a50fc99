"""The inline editor of an answer: select words, say what they should have been."""

from rlhfv.studio.span_editor.editor import Correction, CorrectionDocument, Hint, SpanEditor

__all__ = ["Correction", "CorrectionDocument", "Hint", "SpanEditor"]
