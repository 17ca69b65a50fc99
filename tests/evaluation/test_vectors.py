"""Word vectors from the user's file: GloVe and word2vec text, .npz, and what is no vector."""

from pathlib import Path

import numpy as np
import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation.vectors import read_vectors, similarities

GLOVE = "the 1 1\ndog 3 4\ntv 0 1\ncat 4 3\n"


@pytest.mark.parametrize("text", [GLOVE, "4 2\n" + GLOVE])
def test_text_of_glove_and_word2vec(tmp_path, text):
    (tmp_path / "vectors.txt").write_text(text)
    found = read_vectors(tmp_path / "vectors.txt", ["dog", "cat", "TV", "bird"])
    assert {word: vector.tolist() for word, vector in found.items()} == {"dog": [3, 4], "cat": [4, 3], "TV": [0, 1]}
    rows, cosines = similarities(found)
    assert cosines[rows["dog"], rows["cat"]] == pytest.approx(0.96)
    assert np.allclose(np.diag(cosines), 1)


def test_arrays(tmp_path):
    np.savez(
        tmp_path / "vectors.npz", words=np.array(["dog", "sun"]), vectors=np.array([[1.0, 0], [0, 0]], np.float32)
    )
    found = read_vectors(tmp_path / "vectors.npz", ["dog", "sun"])
    assert found["dog"].tolist() == [1, 0]
    assert similarities(found)[1].tolist() == [[1, 0], [0, 0]]  # a word without direction is like none


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing.txt", None, "could not be read"),
        ("torn.txt", "dog 1 2\ncat 1\n", "no word vectors"),
        ("words.txt", "dog is here\n", "no word vectors"),
        ("inf.txt", "dog inf 1\n", "no word vectors"),
        ("other.txt", "hund 1 2\n", "none of the benchmark's 2 words"),
        ("broken.npz", "no archive", "no word vectors"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(tmp_path, name, content, what):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidData, match=what):
        read_vectors(tmp_path / name, ["dog", "cat"])


def test_a_folder_is_named_as_it_was():
    with pytest.raises(InvalidData, match=r"^\. could not be read"):
        read_vectors(Path("."), ["cat"])
