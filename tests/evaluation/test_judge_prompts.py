"""What a judge is told: values go where the wording wants them, and nothing in a value is taken for a place."""

import hashlib
import json

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation import judged_objects, llava_bench, mmhal
from rlhfv.evaluation.judge_prompts import read_template

VALUES = {"question": "{answer} {}?", "answer": 'say "{question}" {x}\\1'}


def write(tmp_path, text: str):
    path = tmp_path / "official.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_text_is_one_message_and_its_hash_is_its_name(tmp_path):
    text = 'Q: {question}\nA: {answer}\nReply {"json": {}}'
    template = read_template(write(tmp_path, text), ("question", "answer"))
    [message] = template.fill(VALUES)
    assert message == {
        "role": "user",
        "content": 'Q: {answer} {}?\nA: say "{question}" {x}\\1\nReply {"json": {}}',
    }
    assert template.label == f"prompt sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def test_places_without_names_are_taken_in_order(tmp_path):
    template = read_template(write(tmp_path, "Q {}\nA {}"), ("question", "answer"))
    assert template.fill({"question": "one", "answer": "two"})[0]["content"] == "Q one\nA two"


def test_a_list_of_messages_keeps_its_roles(tmp_path):
    messages = [{"role": "system", "content": "Judge {question}."}, {"role": "user", "content": "{answer}"}]
    template = read_template(write(tmp_path, json.dumps(messages)), ("question", "answer"))
    assert template.fill({"question": "q", "answer": "a"}) == (
        {"role": "system", "content": "Judge q."},
        {"role": "user", "content": "a"},
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Only {question}", "no place for {answer}"),
        ("", "no place for {question} and {answer}"),
        ("{} {} {}", "no place for"),
        ('[{"role": "boss", "content": "{question} {answer}"}]', "role"),
        ('[{"role": "user", "content": 3}]', "role"),
        ("[]", "role"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path, text, why):
    with pytest.raises(InvalidData) as error:
        read_template(write(tmp_path, text), ("question", "answer"))
    assert why in error.value.why


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="cannot be read"):
        read_template(tmp_path / "none.txt", ("answer",))
    path = tmp_path / "latin.txt"
    path.write_bytes(b"{answer} \xe9")
    with pytest.raises(InvalidData, match="UTF-8"):
        read_template(path, ("answer",))


@pytest.mark.parametrize(
    ("template", "names"),
    [
        (mmhal.OWN, mmhal.VALUES),
        (llava_bench.OWN, (*llava_bench.NEEDED, "role")),
        (llava_bench.RULED, (*llava_bench.NEEDED, *llava_bench.KNOWN)),
        (judged_objects.OWN, ("answer",)),
    ],
)
def test_the_studio_s_own_wordings_have_every_place_and_a_name(template, names):
    values = {name: f"<{name} {{answer}}>" for name in names}
    whole = "".join(message["content"] for message in template.fill(values))
    assert all(value in whole for value in values.values())
    assert "rlhfv-studio-1" in template.label


def test_the_own_wording_never_answers_in_the_judge_s_place():
    [message] = mmhal.OWN.fill(dict.fromkeys(mmhal.VALUES, "x"))
    assert mmhal.read_rating(message["content"]) is None
