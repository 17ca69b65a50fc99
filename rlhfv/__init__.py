"""The RLHF-V correction studio: chat, correct, train with DDPO, chat again.

The Python API of the README is loaded on first use, so that `import rlhfv` costs milliseconds
and needs neither torch nor gradio.
"""

__version__ = "0.1.0"

_API = {
    "load_pairs": "rlhfv.corrections.pairs",
    "TrainingConfig": "rlhfv.ddpo.config",
    "train": "rlhfv.ddpo.train",
    "answer_both": "rlhfv.models.local",
}

__all__ = ["TrainingConfig", "answer_both", "load_pairs", "train"]


def __getattr__(name: str):
    if name not in _API:
        raise AttributeError(f"module 'rlhfv' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_API[name]), name)
