import dataclasses
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.ddpo.base import end_tokens
from rlhfv.ddpo.batches import Collator, EncodedPair, LengthGroups, PairEncoder, Unusable, split_held_out
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.models.processors import load_processor
from tests.ddpo.conftest import ANSWER, make_pair
from tests.models.tiny import build_llama_tokenizer, build_llava

FAMILIES = ("llava", "smolvlm", "qwen2_5_vl")
EMOJI = "👩‍🍳"


@pytest.fixture(scope="module")
def processors(bases):
    return {family: load_processor(folder) for family, folder in bases.items()}


@pytest.fixture
def encoder(processors, find_image):
    def make(family="llava", config=None, **options):
        processor = processors[family]
        ends = end_tokens(processor.tokenizer, None)
        return PairEncoder(processor, find_image, config or TrainingConfig(), ends, **options)

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_is_its_own_tokens_and_one_end_token(encoder, processors, pairs, family):
    tokenizer = processors[family].tokenizer
    for pair in pairs:
        encoded = encoder(family).encode(pair)
        for ids, text in ((encoded.chosen, pair.chosen), (encoded.rejected, pair.rejected)):
            assert tokenizer.decode(ids[:-1]).strip() == text
            assert ids[-1] == tokenizer.eos_token_id
            assert tokenizer.eos_token_id not in ids[:-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_what_the_model_saw_when_it_answered(encoder, processors, find_image, pairs, family):
    from rlhfv.models.prompts import encode_prompt

    for pair in pairs[:4]:
        seen = encode_prompt(processors[family], pair.prompt, find_image)
        assert encoder(family).encode(pair).prompt == seen["input_ids"][0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pieces_of_a_replaced_emoji_are_corrected_and_nothing_else(encoder, processors, names, family):
    answer = f"a man {EMOJI} at the table"
    encoded = encoder(family).encode(make_pair("p", names[0], [(EMOJI, "🐈")], answer))
    tokenizer = processors[family].tokenizer
    for ids, weights, piece in (
        (encoded.rejected, encoded.rejected_weights, EMOJI),
        (encoded.chosen, encoded.chosen_weights, "🐈"),
    ):
        corrected = [token for token, weight in zip(ids, weights, strict=True) if weight == 5.0]
        assert tokenizer.decode(corrected).strip() == piece
        assert weights[-1] == 1.0


@pytest.mark.parametrize(
    ("edits", "chosen", "rejected"),
    [
        ([("knife", "fork")], ["▁fork"], ["▁knife"]),
        ([("cat", "dog"), ("red", "blue")], ["▁dog", "▁blue"], ["▁cat", "▁red"]),
        ([(" and a knife", "")], ["▁on"], ["▁and", "▁a", "▁knife"]),
        ([(" with a red cup.", "")], ["</s>"], ["▁with", "▁a", "▁red", "▁cup", "."]),
        ([("There", "Where")], ["▁Where"], ["▁There"]),
        ([("😀", "🐈")], ["<0xF0>", "<0x9F>", "<0x90>", "<0x88>"], ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]),
    ],
)
def test_tokens_of_a_sentencepiece_vocabulary_are_found_too(names, find_image, tmp_path, edits, chosen, rejected):
    """As Llama's and Vicuna's: words carry the space before them, unknown characters fall back to bytes."""
    folder = build_llava(tmp_path / "llava", tokenizer=build_llama_tokenizer)
    processor = load_processor(folder)
    encoder = PairEncoder(processor, find_image, TrainingConfig(), end_tokens(processor.tokenizer, None))
    encoded = encoder.encode(make_pair("p", names[0], edits))
    for ids, weights, wanted in (
        (encoded.chosen, encoded.chosen_weights, chosen),
        (encoded.rejected, encoded.rejected_weights, rejected),
    ):
        corrected = [token for token, weight in zip(ids, weights, strict=True) if weight == 5.0]
        assert processor.tokenizer.convert_ids_to_tokens(corrected) == wanted


def test_the_seam_of_a_deletion_is_the_next_token_or_the_end(encoder, names):
    middle = encoder().encode(make_pair("p", names[0], [(" and a knife", "")]))
    assert sum(weight == 5.0 for weight in middle.chosen_weights) == 1
    assert middle.chosen_weights[-1] == 1.0
    end = encoder().encode(make_pair("p", names[0], [(" with a red cup.", "")]))
    assert end.chosen_weights == [1.0] * (len(end.chosen) - 1) + [5.0]
    off = encoder(config=TrainingConfig(seam=False)).encode(make_pair("p", names[0], [(" and a knife", "")]))
    assert set(off.chosen_weights) == {1.0}
    assert off.rejected_weights == middle.rejected_weights


def test_a_template_without_end_token_gets_the_models_own(encoder, processors, names):
    processor = processors["llava"]
    before = processor.chat_template
    try:
        processor.chat_template = before.replace("eos_token", "' '")
        pair = make_pair("p", names[0])
        encoded = encoder().encode(pair)
        assert processor.tokenizer.decode(encoded.chosen) == f"{pair.chosen}</s>"
        processor.chat_template = before.replace("part['text']", "part['text'] | trim")
        padded = make_pair("p", names[0], answer=f"  {ANSWER} ")
        encoded = encoder().encode(padded)
        assert processor.tokenizer.decode(encoded.chosen) == f"{pair.chosen}</s>"
        corrected = [t for t, w in zip(encoded.chosen, encoded.chosen_weights, strict=True) if w == 5.0]
        assert processor.tokenizer.decode(corrected).strip() == "fork"
    finally:
        processor.chat_template = before


def test_recipes_of_the_released_code_diff_token_ids(encoder, names):
    encoded = encoder(config=RECIPES["vl-rlhf"]).encode(make_pair("p", names[0]))
    assert set(encoded.chosen_weights) == set(encoded.rejected_weights) == {0.0, 1.0}
    deletion = encoder(config=RECIPES["rlhfv-2024"]).encode(make_pair("p", names[0], [(" and a knife", "")]))
    assert set(deletion.chosen_weights) == {1.0}


def test_a_pair_without_any_weight_is_left_out_and_says_why(encoder, names):
    """With shared tokens at 0 a deletion teaches the released code's rule nothing."""
    pair = make_pair("p", names[0], [(" and a knife", "")])
    for measure_only in (False, True):
        with pytest.raises(Unusable, match="teach nothing"):
            encoder(config=RECIPES["vl-rlhf"], measure_only=measure_only).encode(pair)
        assert encoder(config=RECIPES["rlhfv-2024"], measure_only=measure_only).encode(pair)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("edits", [[("knife", "fork")], [(" and a knife", "")], [("There", "Here")], [("", "Well. ")]])
def test_measured_pairs_weigh_what_they_will_weigh(encoder, names, name, edits):
    config, pair = RECIPES[name].changed(shared_weight=1.0), make_pair("p", names[0], edits)
    exact, measured = (encoder(config=config, measure_only=only).encode(pair) for only in (False, True))
    assert (exact.chosen_weights, exact.rejected_weights) == (measured.chosen_weights, measured.rejected_weights)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": ANSWER, "edits": ()}, "identical"),
        ({"outcome": "preferred", "chosen": "a cat", "edits": ()}, "preferred"),
        ({"prompt": Prompt("what?", ("0" * 64 + ".png",))}, "is missing"),
        ({"chosen": "a cat </s> sits"}, "control token"),
        ({"chosen": "a cat <image> sits"}, "control token"),
    ],
)
def test_unusable_pairs_say_why(encoder, names, change, reason):
    with pytest.raises(Unusable, match=reason):
        encoder().encode(dataclasses.replace(make_pair("p", names[0]), **change))


@pytest.mark.parametrize("measure_only", [False, True])
def test_a_picture_that_cannot_be_read_is_a_reason(names, tmp_path, processors, measure_only):
    (tmp_path / names[0]).write_bytes(b"not a picture")
    find, settings = (lambda name: tmp_path / name), TrainingConfig()
    broken = PairEncoder(processors["llava"], find, settings, (1,), measure_only=measure_only)
    with pytest.raises(Unusable, match="cannot be opened"):
        broken.encode(make_pair("p", names[0]))


def test_a_template_that_wants_the_last_word_to_be_a_question(encoder, processors, names):
    processor, pair = processors["llava"], make_pair("p", names[0])
    before, expected = processor.chat_template, encoder().encode(pair)
    refusing = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('whose turn is it?') }}{% endif %}"
    try:
        processor.chat_template = refusing + before
        encoded = encoder().encode(pair)
        assert (encoded.prompt, encoded.chosen) == (expected.prompt, expected.chosen)
        assert encoded.chosen_weights == expected.chosen_weights
    finally:
        processor.chat_template = before


def test_a_conversation_that_the_template_refuses_is_a_reason(encoder, processors, names):
    processor = processors["llava"]
    before = processor.chat_template
    try:
        processor.chat_template = "{{ raise_exception('no earlier turns') }}"
        for measure_only in (False, True):
            with pytest.raises(Unusable, match="no earlier turns"):
                encoder(measure_only=measure_only).encode(make_pair("p", names[0]))
    finally:
        processor.chat_template = before


def test_a_long_pair_is_left_out_and_never_cut(encoder, names):
    pair = make_pair("p", names[0])
    length = encoder().encode(pair).length
    assert encoder(config=TrainingConfig(max_length=length)).encode(pair).length == length
    with pytest.raises(Unusable, match=f"{length} tokens"):
        encoder(config=TrainingConfig(max_length=length - 1)).encode(pair)


def test_preferred_pairs_weigh_one_everywhere(encoder, names):
    pair = make_pair("p", names[0], chosen="a cat", edits=[], outcome="preferred")
    encoded = encoder(config=TrainingConfig(include_preferred=True)).encode(pair)
    assert set(encoded.chosen_weights) == set(encoded.rejected_weights) == {1.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_measuring_gives_the_true_lengths(encoder, pairs, family):
    exact, measured = encoder(family), encoder(family, measure_only=True)
    assert [measured.encode(pair).length for pair in pairs] == [exact.encode(pair).length for pair in pairs]


def test_a_batch_has_all_chosen_rows_first_and_no_weight_on_padding(encoder, names):
    pairs = [
        make_pair("a", names[0]),
        make_pair("b", names[1], [(" on the table 😀 with a red cup", "")], history=(Turn("what?", "a dog"),)),
    ]
    encoded = [encoder().encode(pair) for pair in pairs]
    for number, pair in enumerate(encoded):
        pair.reference = torch.arange(len(pair.chosen) + len(pair.rejected)) + 100.0 * number
    batch = Collator(0, lambda rows: {"rows": [row.id for row in rows]})(encoded)
    sites, ids = SimpleNamespace(**batch["sites"]), batch["model"]["input_ids"]
    assert batch["model"]["rows"] == ["a", "b", "a", "b"]
    assert "attention_mask" not in batch["model"]
    assert torch.equal(ids[sites.rows, sites.positions + 1], sites.targets)
    for row, pair in enumerate([*encoded, *encoded]):
        mine = sites.rows == row
        answer, weights = (pair.chosen, pair.chosen_weights) if row < 2 else (pair.rejected, pair.rejected_weights)
        assert sites.targets[mine].tolist() == answer
        assert (sites.chosen_weights + sites.rejected_weights)[mine].tolist() == weights
        assert sites.positions[mine][0] == len(pair.prompt) - 1
        start = 0 if row < 2 else len(pair.chosen)
        assert batch["reference"][mine].tolist() == pair.reference[start : start + len(answer)].tolist()


def lone(identity: str, *images: str) -> EncodedPair:
    return EncodedPair(identity, Prompt("q", images), [1], {}, [1], [2], [1.0], [1.0])


@settings(max_examples=60)
@given(
    st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=2), min_size=1, max_size=20), st.sampled_from([0, 0.1, 0.5])
)
def test_no_image_is_on_both_sides_of_the_split(images, fraction):
    pairs = [lone(f"p{number}", *sorted(names)) for number, names in enumerate(images)]
    training, held_out = split_held_out(pairs, fraction, seed=1)
    assert sorted(pair.id for pair in [*training, *held_out]) == sorted(pair.id for pair in pairs)
    assert training
    sides = [{name for pair in side for name in pair.images} for side in (training, held_out)]
    assert not sides[0] & sides[1]
    if fraction == 0:
        assert not held_out
    assert (training, held_out) == split_held_out(pairs, fraction, seed=1)


def test_a_tenth_of_many_pairs_is_held_out():
    pairs = [lone(f"p{number}", f"image {number // 2}") for number in range(200)]
    training, held_out = split_held_out(pairs, 0.1, seed=0)
    assert (len(training), len(held_out)) == (180, 20)


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = list(range(100, 164))
    first, second = (LengthGroups(lengths, range(64), 4, seed=3) for _ in range(2))
    torch.manual_seed(99)
    assert list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    assert sorted(first) == list(range(64))


def test_pairs_of_one_image_stay_in_one_batch():
    images = [number // 3 if number < 30 else number for number in range(64)]
    order = list(LengthGroups([100] * 64, images, 8, seed=1))
    assert sorted(order) == list(range(64))
    batches = [order[start : start + 8] for start in range(0, 64, 8)]
    for image in range(10):
        assert sum(any(images[place] == image for place in batch) for batch in batches) == 1
    other = LengthGroups([100] * 64, images, 8, seed=1)
    other.set_epoch(1)
    assert list(other) != order


def test_the_widest_come_first_and_a_smaller_batch_last():
    lengths = [100 + number for number in range(30)]
    order = list(LengthGroups(lengths, range(30), 8, seed=2))
    batches = [order[start : start + 8] for start in range(0, 30, 8)]
    assert 29 in batches[0]
    assert len(batches[-1]) == 6
    spread = [max(batch) - min(batch) for batch in batches]
    assert sum(spread) < 4 * 20  # drawn by chance it would be about 4 times 23
