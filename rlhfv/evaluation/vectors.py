"""Word vectors from a file that the user names: what a similarity is measured with when no language model is there.

The file is in the text format of GloVe or word2vec (a word and its numbers a line, word2vec with a first line of two
counts), or a `.npz` with the arrays `words` and `vectors`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from rlhfv.errors import InvalidData


def read_vectors(path: Path, words: Collection[str]) -> dict[str, np.ndarray]:
    """The vector, shape (size,), of each of the words that the file has, by its own or else its lower-case spelling.

    Raises:
        InvalidData: the file cannot be read, is in another format, or has none of the words.
    """
    spellings = {spelling for word in words for spelling in (word, word.lower())}
    try:
        found = _from_arrays(path, spellings) if path.suffix == ".npz" else _from_text(path, spellings)
    except OSError as error:
        raise InvalidData(
            f"{path.name or path} could not be read.", f"{error.strerror}.", "Name another file."
        ) from error
    except (ValueError, KeyError) as error:
        raise InvalidData(
            f"{path.name} holds no word vectors that can be read ({error}).",
            "Each line has to be a word and its numbers, all of one length, as GloVe and word2vec write text; a .npz "
            "has to hold the arrays `words` and `vectors`.",
            "Name such a file.",
        ) from error
    if not found:
        raise InvalidData(
            f"{path.name} has none of the benchmark's {len(words):,} words.",
            "Nothing could be compared.",
            "Name vectors of English words.",
        )
    return {word: found.get(word, found.get(word.lower())) for word in words if {word, word.lower()} & found.keys()}


def similarities(vectors: Mapping[str, np.ndarray]) -> tuple[dict[str, int], np.ndarray]:
    """The row of each word, and the cosines of all with all, shape (words, words)."""
    matrix = np.stack(list(vectors.values())).astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    return {word: row for row, word in enumerate(vectors)}, matrix @ matrix.T


def _from_text(path, spellings):
    found, size = {}, None
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            word, _, numbers = line.rstrip("\n").partition(" ")
            if number == 1 and word.isdecimal() and numbers.strip().isdecimal():
                continue
            if word not in spellings or word in found:
                continue
            vector = np.array(numbers.split(), dtype=np.float64)
            if not vector.size or not np.isfinite(vector).all() or size not in (None, vector.size):
                raise ValueError(f"line {number:,} has {vector.size} numbers, {size or 'none'} before it")
            size, found[word] = vector.size, vector
    return found


def _from_arrays(path, spellings):
    with np.load(path, allow_pickle=False) as arrays:
        names, matrix = arrays["words"], arrays["vectors"]
    if matrix.ndim != 2 or len(names) != len(matrix) or not np.isfinite(matrix).all():
        raise ValueError(f"{len(names)} words beside an array of shape {matrix.shape}")
    return {
        str(name): row.astype(np.float64) for name, row in zip(names, matrix, strict=True) if str(name) in spellings
    }
