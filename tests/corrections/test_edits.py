import json
import time
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.diff import graphemes
from rlhfv.corrections.edits import (
    KIND_WORDS,
    KINDS,
    MAX_ANSWER_CHARS,
    MAX_REPLACEMENT_CHARS,
    CorrectedAnswer,
    Edit,
    Segment,
    edits_from_rows,
    edits_to_rows,
    from_texts,
    infer_kind,
    normalise_generated,
)
from rlhfv.errors import InvalidCorrection

FAMILY = "👨\u200d👩\u200d👧"
PIECES = [
    *("a red fork", " ", "two dogs", ".", "\r\n", "\n", "\r", "  ", "don't", "left-hand", "<img onerror=x>", "${x}"),
    *(FAMILY, "👍🏽", "👍", "🇩🇪", "🇫🇷", "❤\ufe0f", "❤", "\u200d", "\ufe0f", "🏽", "e\u0301", "e", "\u0301", "é"),
    *("한국어", "\u1112\u1161\u11ab", "猫在桌子上", "。", "ไทย", "नमस्ते", "क्षि", "\u202e", "\0", "𝔘", "ﬁ"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=12).map("".join)


def grapheme_boundaries(text):
    return {0, len(text)} | {match.end() for match in regex.finditer(r"\X", text)}


# ---- applying


def test_replace_insert_delete_and_segments_of_both_sides():
    answer = CorrectedAnswer(
        "A man holds a red fork.",
        (Edit(14, 18, "", "attribute"), Edit(2, 5, "woman", "object"), Edit(22, 22, " at night", "other")),
    )
    assert answer.corrected == "A woman holds a fork at night."
    assert [edit.start for edit in answer.edits] == [2, 14, 22]
    assert answer.original_segments == (
        Segment(2, 5, "object", 0),
        Segment(14, 18, "attribute", 1),
        Segment(22, 22, "other", 2),
    )
    assert [answer.corrected[s.start : s.end] for s in answer.corrected_segments] == ["woman", "", " at night"]


def test_insertion_at_the_start_of_a_replaced_span_comes_first():
    answer = CorrectedAnswer("dog runs", (Edit(0, 3, "cat", "object"), Edit(0, 0, "A ", "other")))
    answer.validate()
    assert answer.corrected == "A cat runs"


def test_order_of_the_edits_given_makes_no_difference():
    edits = (Edit(0, 1, "x", "other"), Edit(3, 3, "y", "other"), Edit(3, 4, "z", "other"))
    assert CorrectedAnswer("abcd", edits) == CorrectedAnswer("abcd", edits[::-1])


@pytest.mark.parametrize(
    ("original", "edits", "said"),
    [
        ("abcdef", [Edit(0, 3, "x", "other"), Edit(2, 4, "y", "other")], "overlap"),
        ("abcdef", [Edit(0, 3, "x", "other"), Edit(2, 2, "y", "other")], "overlap"),
        ("abcdef", [Edit(2, 2, "x", "other"), Edit(2, 2, "y", "other")], "overlap"),
        ("abcdef", [Edit(4, 9, "x", "other")], "6 characters"),
        ("abcdef", [Edit(-1, 2, "x", "other")], "-1 to 2"),
        ("abcdef", [Edit(3, 2, "x", "other")], "3 to 2"),
        ("abcdef", [Edit(1, 3, "bc", "other")], "by itself"),
        ("abcdef", [Edit(1, 1, "", "other")], "inserts nothing"),
        ("abcdef", [Edit(0, 1, "", "other"), Edit(1, 1, "a", "other"), Edit(1, 2, "b", "other")], "itself"),
        ("ab", [Edit(0, 1, "", "other"), Edit(1, 2, "ab", "other")], "cancel"),
        ("abcdef", [Edit(1, 3, "x", "colour")], "'colour'"),
        ("abcdef", [Edit(1, 3, "x" * (MAX_REPLACEMENT_CHARS + 1), "other")], "10,001"),
        ("abcdef", [Edit(i, i + 1, "x" * MAX_REPLACEMENT_CHARS, "other") for i in range(6)] * 1, None),
        ("a" * 11, [Edit(i, i + 1, "x" * MAX_REPLACEMENT_CHARS, "other") for i in range(11)], "together"),
        ("a" * (MAX_ANSWER_CHARS + 1), [], "100,001"),
        ("abcdef", [Edit(1, 3, "\ud83d", "other")], "U+D83D"),
        ("ab\udc00", [], "U+DC00"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_three_parts(original, edits, said):
    answer = CorrectedAnswer(original, tuple(edits))
    if said is None:
        answer.validate()
        return
    with pytest.raises(InvalidCorrection) as caught:
        answer.validate()
    assert said in str(caught.value)
    assert caught.value.what and caught.value.why and caught.value.fix


def test_no_edits_are_valid_and_change_nothing():
    answer = CorrectedAnswer("A dog.", ())
    answer.validate()
    assert answer.corrected == "A dog."


def test_100_000_characters_with_a_thousand_edits_take_under_a_second():
    original = "word " * 20_000
    edits = tuple(Edit(i * 100, i * 100 + 4, "other", "object") for i in range(1000))
    start = time.perf_counter()
    answer = CorrectedAnswer(original, edits)
    answer.validate()
    assert len(answer.corrected) == len(original) + 1000
    assert len(answer.corrected_segments) == 1000
    assert time.perf_counter() - start < 1


@st.composite
def answers_with_edits(draw):
    original = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(original)), max_size=8)))
    edits = [
        Edit(start, end, replacement, draw(st.sampled_from(list(KINDS))))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        if (replacement := draw(TEXTS)) != original[start:end]
    ]
    return CorrectedAnswer(original, tuple(edits))


@given(answers_with_edits())
def test_segments_name_the_replacements_and_the_rest_is_untouched(answer):
    old, new = answer.original_segments, answer.corrected_segments
    assert [answer.corrected[s.start : s.end] for s in new] == [edit.replacement for edit in answer.edits]
    ends = [(0, 0), *((a.end, b.end) for a, b in zip(old, new, strict=True))]
    starts = [
        *((a.start, b.start) for a, b in zip(old, new, strict=True)),
        (len(answer.original), len(answer.corrected)),
    ]
    for (old_from, new_from), (old_to, new_to) in zip(ends, starts, strict=True):
        assert answer.original[old_from:old_to] == answer.corrected[new_from:new_to]


# ---- from two texts


@given(TEXTS, TEXTS)
def test_edits_from_two_texts_give_the_corrected_one_and_cut_no_grapheme(original, corrected):
    edits = from_texts(original, corrected)
    answer = CorrectedAnswer(original, edits)
    assert answer.corrected == corrected
    assert answer.edits == edits
    answer.validate()
    assert {edge for edit in edits for edge in (edit.start, edit.end)} <= grapheme_boundaries(original)
    assert {edge for s in answer.corrected_segments for edge in (s.start, s.end)} <= grapheme_boundaries(corrected)
    assert (edits == ()) == (original == corrected)


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_any_code_point_even_a_lone_surrogate_is_diffed_exactly(original, corrected):
    assert CorrectedAnswer(original, from_texts(original, corrected)).corrected == corrected


@given(st.text(st.sampled_from([*"🇩🇪🇫", "a", " ", "\u0301", "\u200d", "\ufe0f", "\u0600", "क", "\u094d", "👩", "🏽"])))
def test_graphemes_are_those_of_the_unicode_standard(text):
    assert graphemes(text) == regex.findall(r"\X", text)


@given(st.lists(st.sampled_from("a b c the dog red".split()), max_size=40), st.data())
def test_repetitive_texts_are_diffed_exactly(original, data):
    corrected = data.draw(st.permutations(original)) + data.draw(
        st.lists(st.sampled_from("a b dog".split()), max_size=5)
    )
    original, corrected = " ".join(original), " ".join(corrected)
    assert CorrectedAnswer(original, from_texts(original, corrected)).corrected == corrected


@pytest.mark.parametrize(
    ("original", "corrected", "expected"),
    [
        ("There are two cups on the table.", "There are three cups on the table.", [("two", "three", "number")]),
        ("A big dog sleeps.", "A dog sleeps.", [(" big", "", "attribute")]),
        ("dog runs", "The dog runs", [("", "The ", "object")]),
        ("A man is sitting.", "A man is standing.", [("sitting", "standing", "action")]),
        ("It is on the left.", "It is on the right.", [("left", "right", "position")]),
        ("I don't know.", "I can't know.", [("don't", "can't", "object")]),
        ("猫坐在桌子上。", "狗坐在椅子上。", [("猫", "狗", "object"), ("桌", "椅", "object")]),
        (f"A {FAMILY} here", "A 👨\u200d👩\u200d👦 here", [(FAMILY, "👨\u200d👩\u200d👦", "other")]),
        ("🇩🇪🇫🇷", "🇩🇪🇮🇹", [("🇫🇷", "🇮🇹", "other")]),
        ("cafe\u0301 e", "cafe e", [("cafe\u0301", "cafe", "object")]),
        ("👍🏽 ok", "👍 ok", [("👍🏽", "👍", "other")]),
        ("a\r\nb", "a\nb", [("\r\n", "\n", "other")]),
        (FAMILY * 3, f"No {FAMILY * 3}", [("", "No ", "object")]),
        ("a dog, a dog, a dog", "a dog, a dog", [(", a dog", "", "object")]),
        ("", "", []),
    ],
)
def test_whole_words_and_graphemes_are_replaced(original, corrected, expected):
    edits = from_texts(original, corrected)
    assert [(original[edit.start : edit.end], edit.replacement, edit.kind) for edit in edits] == expected


def test_composed_and_decomposed_letters_are_different_texts():
    original, corrected = "caf\u00e9", unicodedata.normalize("NFD", "café")
    assert CorrectedAnswer(original, from_texts(original, corrected)).corrected == corrected


@pytest.mark.parametrize("unit", ["word{} ", "猫{}", "the cat ", "{} ", "🇩", "e\u0301", "\u200d"])
def test_100_000_characters_are_diffed_within_seconds(unit):
    original = "".join(unit.format(i) for i in range(100_000))[:MAX_ANSWER_CHARS]
    near = original[:30_000] + "changed" + original[30_050:70_000] + original[70_100:]
    far = "".join(unit.format(i * 7 % 977) for i in range(100_000))[:MAX_ANSWER_CHARS][::-1]
    for corrected, most in ((near, 10), (far, 100_000)):
        start = time.perf_counter()
        edits = from_texts(original, corrected)
        assert time.perf_counter() - start < 10
        assert CorrectedAnswer(original, edits).corrected == corrected
        assert len(edits) <= most


# ---- kinds


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("two", "three", "number"),
        ("2 dogs", "a dog", "number"),
        ("", " 3rd", "number"),
        ("٣", "٤", "number"),
        ("red cup", "blue cup", "attribute"),
        ("Wooden", "metal", "attribute"),
        ("on the left", "on the right", "position"),
        ("under", "above", "position"),
        ("sitting", "is asleep", "action"),
        ("building", "ceiling", "object"),
        ("dog", "cat", "object"),
        ("apple", "orange", "object"),
        ("king", "ring", "object"),
        ("猫", "狗", "object"),
        ("There is a red phone on the left.", "", "object"),
        ("", " Two cups are on the right.", "object"),
        (", with a wine glass nearby", "", "object"),
        (" on the left", "", "position"),
        ("There is a cup on the left", "There is a cup on the right", "position"),
        (".", "!", "other"),
        ("", " ", "other"),
        ("two cups", "cups, two", "number"),
    ],
)
def test_kinds_are_inferred_from_the_words_that_differ(old, new, kind):
    assert infer_kind(old, new) == kind


@given(TEXTS, TEXTS)
def test_an_inferred_kind_is_always_a_kind(old, new):
    assert infer_kind(old, new) in KINDS


def test_kinds_have_one_line_definitions_and_word_lists_can_be_handed_to_the_browser():
    assert list(KINDS) == ["object", "position", "number", "attribute", "action", "other"]
    assert all("\n" not in line and line.endswith(".") for line in KINDS.values())
    assert json.loads(json.dumps(KIND_WORDS)) == KIND_WORDS
    for words in KIND_WORDS.values():
        assert len(set(words)) == len(words)
        assert all(word == word.lower() for word in words)


# ---- rows and generated texts


@given(answers_with_edits())
def test_rows_and_back(answer):
    rows = json.loads(json.dumps(edits_to_rows(answer.original, answer.edits)))
    assert edits_from_rows(rows, answer.original) == answer.edits


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {"start": 0},
        ["x"],
        [{"start": 0, "end": 1, "replacement": "x"}],
        [{"start": "0", "end": 1, "replacement": "x", "kind": "other"}],
        [{"start": True, "end": 1, "replacement": "x", "kind": "other"}],
        [{"start": 0.0, "end": 1, "replacement": "x", "kind": "other"}],
        [{"start": 0, "end": 1, "replacement": None, "kind": "other"}],
        [{"start": 0, "end": 1, "text": "b", "replacement": "x", "kind": "other"}],
        [{"start": -3, "end": -1, "text": "bc", "replacement": "x", "kind": "other"}],
    ],
)
def test_forged_rows_are_refused(rows):
    with pytest.raises(InvalidCorrection):
        edits_from_rows(rows, "abcd")


def test_generated_text_is_normalised_once():
    assert normalise_generated("a\r\nb\ud83d c\r\r\n\udc00e\u0301") == "a\nb c\ne\u0301"


@given(st.text(st.characters(), max_size=40))
def test_normalising_again_changes_nothing(text):
    once = normalise_generated(text)
    assert normalise_generated(once) == once
    once.encode("utf-8")
