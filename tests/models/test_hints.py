import threading
import unicodedata
from types import SimpleNamespace

import pytest
import regex
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import GenerationFailed, ModelUnavailable
from rlhfv.models.engine import BLANK, Reader, Reading
from rlhfv.models.hints import (
    FEWEST,
    FUNCTION_WORDS,
    THRESHOLDS,
    WEIGHTS,
    WORDS_A_HINT,
    find_hints,
    find_words,
    read_answer,
)
from rlhfv.models.local import Row, load_model
from rlhfv.models.prompts import encode_answer, encode_with_images, open_image
from tests.models.conftest import FAMILIES, finish, generate, hook_count, one_turn, two_turns
from tests.models.tiny import add_random_adapter

ANSWER = "There is a knife on the table, with two cups nearby \U0001f408 日本語 e\u0301."

# ---- reading: one pass, as exact as a pass for each


def plain_scores(model, prompt, answer, reader) -> torch.Tensor:
    """What one forward pass of one row over pixels gives, without batches, shared images or mixed voices."""
    engine = model._engine
    pictures = [open_image(path) for path in prompt.all_images]
    if reader.blind:
        pictures = [Image.new("RGB", picture.size, BLANK) for picture in pictures]
    tensors = encode_with_images(model.processor, prompt, pictures)
    tokens = encode_answer(model.processor, prompt, answer, engine._ends)[0][:-1]
    start = tensors["input_ids"].shape[1]
    for name, value in list(tensors.items()):
        if name == "input_ids":
            tensors[name] = torch.cat([value, torch.tensor([tokens])], dim=1)
        elif name == "attention_mask" or name.endswith("token_type_ids"):
            fill = torch.full((1, len(tokens)), int(name == "attention_mask"), dtype=value.dtype)
            tensors[name] = torch.cat([value, fill], dim=1)
    peft = engine._peft
    with torch.no_grad():
        if reader.voice:
            peft.set_adapter(engine.adapters[reader.voice].name, inference_mode=True)
            logits = peft(**tensors).logits
        elif peft is not None:
            with peft.disable_adapter():
                logits = peft(**tensors).logits
        else:
            logits = model.model(**tensors).logits
    log_probs = logits[0, start - 1 : -1].double().log_softmax(-1)
    return log_probs[torch.arange(len(tokens)), torch.tensor(tokens)]


def check_reading(model, prompt, readers):
    reading = model.read(prompt, ANSWER, readers)
    for reader, scores in zip(readers, reading.log_probs, strict=True):
        expected = plain_scores(model, prompt, ANSWER, reader)
        assert len(scores) == len(reading.offsets) == len(expected)
        torch.testing.assert_close(torch.tensor(scores).double(), expected, atol=1e-4, rtol=0)
    return reading


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reading_equals_a_plain_forward_pass_a_row(loaded, pictures, family):
    model, adapter = loaded[family]
    readers = [Reader(None), Reader(adapter), Reader(None, blind=True), Reader(adapter, blind=True)]
    hooks = hook_count(model)
    reading = check_reading(model, one_turn(pictures[0]), readers)
    assert len(set(reading.log_probs)) == 4, "every reader reads differently"
    check_reading(model, two_turns(pictures[1]), readers[:3])
    assert hook_count(model) == hooks


def test_adapters_that_do_not_mix_or_touch_the_tower_are_read_alone(folders, pictures, tmp_path):
    tower = add_random_adapter(folders["llava"], tmp_path / "tower", target_modules=r".*\.(q_proj|v_proj)")
    dora = add_random_adapter(folders["llava"], tmp_path / "dora", use_dora=True)
    model = load_model(str(folders["llava"]), [tower, dora])
    first, second = model.adapters().values()
    assert first.touches_vision and not second.mixes
    for info in (first, second):
        check_reading(model, one_turn(pictures[0]), [Reader(None), Reader(info.identity), Reader(None, blind=True)])
    model.unload()


def test_one_pass_for_all_readers_and_one_encoding_an_image(folders, pictures):
    model = load_model(str(folders["llava"]), [folders["llava-adapter"]])
    (adapter,) = model.adapters()
    readers = [Reader(None), Reader(adapter), Reader(None, blind=True)]
    engine, passes = model._engine, []
    model.model.get_decoder().register_forward_pre_hook(
        lambda module, arguments, named: passes.append(named["inputs_embeds"].shape[0]), with_kwargs=True
    )
    before = engine.images.encoded
    model.read(one_turn(pictures[0]), ANSWER, readers)
    assert passes == [3] and engine.images.encoded == before + 2, "the picture and the grey one"
    model.read(one_turn(pictures[0]), ANSWER + " Yes.", readers)
    assert passes == [3, 3] and engine.images.encoded == before + 2
    model.unload()


def test_reading_beside_visitors_changes_none_of_their_answers(llava, pictures):
    model, adapter = llava
    rows = [Row(None, one_turn(pictures[0])), Row(adapter, one_turn(pictures[0]))]
    long = Sampling(max_new_tokens=120)
    expected, hooks = generate(model, rows, long), hook_count(model)
    stream, readings = model.answer_both(rows, long), []
    next(stream)
    readers = [Reader(None), Reader(adapter)]
    thread = threading.Thread(target=lambda: readings.append(model.read(one_turn(pictures[1]), ANSWER, readers)))
    thread.start()
    answers, _ = finish(stream)
    thread.join()
    assert answers == expected and len(readings) == 1 and hook_count(model) == hooks
    assert generate(model, rows, long) == expected


def test_what_cannot_be_read_is_told_and_harms_nothing(llava, pictures):
    model, adapter = llava
    prompt = one_turn(pictures[0])
    for answer in ("a <image> in it", "cat " * 3000):
        with pytest.raises(GenerationFailed):
            model.read(prompt, answer, [Reader(None), Reader(adapter)])
    with pytest.raises(ModelUnavailable):
        model.read(prompt, ANSWER, [Reader("unknown@0")])
    empty = model.read(prompt, "", [Reader(None), Reader(adapter)])
    assert empty == Reading((), ((), ()))
    check_reading(model, prompt, [Reader(None), Reader(adapter)])


def test_sources_that_do_not_exist_are_left_out(folders, loaded, pictures):
    plain = load_model(str(folders["llava"]))
    model, adapter = loaded["llava"]
    picture, none = one_turn(pictures[0]), Prompt("what is there?")
    for own, aligned, prompt, names in (
        (plain, None, picture, {"speaker", "blind"}),
        (plain, None, none, {"speaker"}),
        (model, adapter, picture, {"speaker", "baseline", "aligned", "blind"}),
        (model, adapter, none, {"speaker", "baseline", "aligned"}),
    ):
        reading, rows = read_answer(own, prompt, ANSWER, None, aligned)
        assert set(rows) == names
        hints = find_hints(ANSWER, reading, rows)
        assert all(0 <= hint.score <= 1 and ANSWER[hint.start : hint.end].strip() for hint in hints)
    reading, rows = read_answer(model, picture, ANSWER, adapter, adapter)
    assert rows["speaker"] == rows["aligned"] != rows["baseline"] and len(reading.log_probs) == 3
    plain.unload()


# ---- from tokens to words


def byte_processor(normalizer=None):
    """A byte-level tokenizer and a template without images; no model is needed to cut an answer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    merges = [("Ġ", "a"), ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("æ", "Ĺ"), ("æĹ", "¥")]
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.add_special_tokens(["</s>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")

    def template(messages, add_generation_prompt=False, tokenize=False):
        said = [f"{message['role']}: {message['content'][-1]['text']}" for message in messages]
        return "\n".join(said) + ("\nassistant: " if add_generation_prompt else "</s>")

    return SimpleNamespace(tokenizer=tokenizer, apply_chat_template=template)


PLAIN, COMPOSING = byte_processor(), byte_processor(normalizers.NFC())
WORDS = "a the two in with cat Knife it's 12 red ... , ' - \n \u00a0 的 日本語 猫が 고양이 แมว กิน ไทย مرحبا क्षि"
MARKS = "\U0001f408 \U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301 \u00e9 n\u0303o \u0301 \u200b \u202e"
PIECES = [*WORDS.split(" "), *MARKS.split(" "), " ", "  "]
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.text(max_size=30)).filter(
    lambda text: "</s>" not in text and text.encode("utf-8", "ignore").decode() == text
)


def cut(processor, text):
    ids, offsets = encode_answer(processor, Prompt("what?"), text, [processor.tokenizer.eos_token_id])
    return ids[:-1], offsets[:-1]


@given(texts)
def test_offsets_name_the_characters_of_their_tokens(text):
    ids, offsets = cut(PLAIN, text)
    start = 0
    while start < len(ids):  # pieces of one character share its range, so that only together they can be decoded
        end, reach = start + 1, offsets[start][1]
        while end < len(ids) and offsets[end][0] < reach:
            reach, end = max(reach, offsets[end][1]), end + 1
        assert PLAIN.tokenizer.decode(ids[start:end]) == text[offsets[start][0] : reach]
        start = end
    assert "".join(text[slice(*span)] for span in dict.fromkeys(offsets)) == text


@given(texts, st.sampled_from([PLAIN, COMPOSING]))
@example(" \u0e33", PLAIN)
def test_words_are_whole_disjoint_and_have_their_tokens(text, processor):
    _, offsets = cut(processor, text)
    content = find_words(text, offsets)
    borders = {0}
    for cluster in regex.findall(r"\X", text):
        borders.add(max(borders) + len(cluster))
    position = 0
    for word in content:
        shown = text[word.start : word.end]
        assert position <= word.start < word.end and {word.start, word.end} <= borders
        # By clusters: a blank that carries a mark, as before a lone Thai vowel, is part of a word.
        ends = regex.findall(r"\X", shown)
        assert not ends[0].isspace() and not ends[-1].isspace()
        assert any(map(str.isalnum, shown)) and shown.lower() not in FUNCTION_WORDS
        overlapping = {i for i, (start, end) in enumerate(offsets) if start < word.end and end > word.start}
        assert word.tokens and set(word.tokens) & overlapping
        assert all(offsets[token][0] < word.end for token in word.tokens)
        position = word.end
    if processor is PLAIN:
        named = regex.findall(r"[\p{L}\p{N}]", text)
        kept = "".join(text[word.start : word.end] for word in content)
        loose = [one for one in named if unicodedata.category(one) == "Lo"]
        assert all(one in kept for one in loose), "letters of scripts without blanks are never function words"


def make_reading(*tokens: tuple) -> tuple[str, Reading, dict[str, int]]:
    """An answer from (text, baseline, aligned, blind) tokens; the baseline spoke."""
    answer, offsets = "", []
    for text, *_ in tokens:
        offsets.append((len(answer), len(answer) + len(text)))
        answer += text
    rows = {"speaker": 0, "baseline": 0, "aligned": 1, "blind": 2}
    scores = tuple(tuple(float(token[place]) for token in tokens) for place in (1, 2, 3))
    return answer, Reading(tuple(offsets), scores), rows


SURE = (-0.01, -0.01, -6.0)


def found(answer, reading, rows) -> list[tuple[str, str, str]]:
    return [(answer[hint.start : hint.end], hint.kind, hint.source) for hint in find_hints(answer, reading, rows)]


def test_the_words_that_lead_into_a_phrase_count_for_all_of_it():
    case = make_reading(
        *[("A", *SURE), (" fork", *SURE), (" is", *SURE), (" here", *SURE), (",", -0.3, -9, -0.3), (" with", *SURE)],
        *[(" a", *SURE), (" bar", *SURE), (" of", *SURE), (" soap", *SURE), (" nearby", *SURE), (".", *SURE)],
    )
    # "of" parts two marks, since nobody wants to correct it
    assert found(*case) == [("bar", "object", "parting"), ("soap nearby", "object", "parting")]


def test_each_source_speaks_and_kinds_are_guessed():
    sure = [(" It", *SURE), (" shows", *SURE), (" dogs", *SURE), (".", *SURE)]
    assert found(*make_reading(*sure)) == []
    assert found(*make_reading(*sure, (" On", -4, -4, -9), (" the", *SURE), (" left", -3, -12, -9))) == [
        ("left", "position", "parting")
    ]
    answer, reading, rows = make_reading(*sure, (" Two", -6, -6, -9), (" cats", *SURE))
    del rows["aligned"], rows["baseline"]
    assert found(answer, reading, rows)[0] == ("Two", "number", "unlikely")


def test_characters_that_share_a_token_are_one_word_and_neighbours_one_mark():
    answer, reading, rows = make_reading(
        ("桌上", *SURE), ("有", *SURE), ("刀", -2, -12, -1), ("叉", -2, -12, -1), ("。", *SURE), ("很好", *SURE)
    )
    assert [answer[word.start : word.end] for word in find_words(answer, reading.offsets)] == (
        ["桌上", "有", "刀", "叉", "很好"]
    )
    assert found(answer, reading, rows) == [("刀叉", "object", "parting")]


def test_marks_stay_rare():
    tokens = [token for _ in range(60) for token in ((" dog", -9, -20, -1), (",", *SURE))]
    answer, reading, rows = make_reading(*tokens)
    hints = find_hints(answer, reading, rows)
    assert len(hints) == 60 // WORDS_A_HINT > FEWEST
    assert hints == sorted(hints, key=lambda hint: hint.start)


@given(
    st.lists(
        st.tuples(st.sampled_from([" cat", " the", " 猫", ", ", " two", "\U0001f408"]), *[st.floats(-40, 0)] * 3),
        max_size=20,
    ),
    st.sampled_from(sorted(WEIGHTS)),
)
def test_hints_are_ordered_spans_with_scores_above_the_threshold(tokens, sources):
    answer, reading, rows = make_reading(*tokens)
    gone = [] if "parting" in sources else ["baseline", "aligned"]
    rows = {name: row for name, row in rows.items() if name not in gone and (name != "blind" or name in sources)}
    position = 0
    for hint in find_hints(answer, reading, rows):
        assert position <= hint.start < hint.end <= len(answer) and hint.source in sources
        assert THRESHOLDS[sources] - 1e-3 <= hint.score <= 1 and hint.kind
        position = hint.end
