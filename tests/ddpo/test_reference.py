import dataclasses
import shutil

import pytest
import torch

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo.base import load_base
from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.reference import ReferenceCache, StaleReference, compute_references, describe_setting, pair_key
from rlhfv.models.catalog import find_entry

SETTING = {"model": "a", "revision": "1", "dtype": "float32"}


@pytest.fixture
def pair(names):
    return EncodedPair("p", Prompt("q", (names[0],)), [1, 2, 3], {}, [4, 5], [6, 7, 8], [1.0, 1.0], [1.0, 1.0, 1.0])


def test_what_is_kept_comes_back(tmp_path):
    cache = ReferenceCache(tmp_path / "reference.safetensors", SETTING)
    assert cache.load() == {}
    cache.save({"key": torch.tensor([-1.5, -2.0])})
    assert cache.load()["key"].tolist() == [-1.5, -2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["reference.safetensors"]


@pytest.mark.parametrize("name", SETTING)
def test_any_change_of_the_setting_refuses_the_cache_and_names_it(tmp_path, name):
    path = tmp_path / "reference.safetensors"
    ReferenceCache(path, SETTING).save({"key": torch.zeros(1)})
    with pytest.raises(StaleReference, match=f"another {name}"):
        ReferenceCache(path, {**SETTING, name: "changed"}).load()


def test_the_key_of_a_pair_holds_tokens_and_image_bytes(pair, find_image, tmp_path, names):
    key = pair_key(pair, find_image)
    assert key == pair_key(dataclasses.replace(pair, id="other", chosen_weights=[5.0, 1.0]), find_image)
    assert key != pair_key(dataclasses.replace(pair, chosen=[4, 9]), find_image)
    assert key != pair_key(dataclasses.replace(pair, prompt=[1, 2]), find_image)
    shutil.copy(find_image(names[1]), tmp_path / names[0])
    assert key != pair_key(pair, lambda name: tmp_path / name)


def test_the_setting_tells_what_scores_depend_on(bases):
    base = load_base(find_entry(str(bases["llava"])), TrainingConfig())

    before, changed = describe_setting(base), set()

    def assert_changes(name):
        changed.add(name)
        now = describe_setting(base)
        assert {name for name in before if now[name] != before[name]} == changed

    assert (before["model"], before["revision"]) == (base.name, base.revision)
    base.processor.chat_template += " "
    assert_changes("template")
    base.processor.image_processor.image_mean = [0.0, 0.0, 0.0]
    assert_changes("image processor")
    base.model.to(torch.bfloat16)
    assert_changes("dtype")
    base.bfloat16 = True  # full tuning computes in it with weights of float32
    assert_changes("precision")
    base.processor.tokenizer.add_tokens(["knifefork"])
    assert_changes("tokenizer")
    base.model.set_attn_implementation("eager")
    assert_changes("attention")
    base.revision = "another"
    assert_changes("revision")


def test_scores_find_their_pair_whatever_the_batches(pair):
    pairs = [dataclasses.replace(pair, id=str(n), chosen=[n] * (n + 1), rejected=[n + 50] * (5 - n)) for n in range(5)]

    def score(batch):
        return torch.tensor([float(t) for side in ("chosen", "rejected") for p in batch for t in getattr(p, side)])

    compute_references(pairs, score, batch_size=2)
    for one in pairs:
        assert one.reference.tolist() == [float(token) for token in one.chosen + one.rejected]
