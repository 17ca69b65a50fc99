"""A voice on a server, over real HTTP: what is sent, what comes back, and what is told when nothing does."""

import base64
import json
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from rlhfv.corrections.conversation import Prompt, Sampling, Turn
from rlhfv.errors import GenerationFailed, InvalidData
from rlhfv.models import remote
from rlhfv.models.generated import Row
from rlhfv.models.protocol import completions_address
from rlhfv.models.refusals import Patience, Refused, explain_refusal, server_words
from rlhfv.models.remote import open_remotes
from rlhfv.settings import RemoteVoice
from tests.remote.server import SAID, OpenAIServer

KEY = "sk-very-secret-0123456789"
QUICK = Patience(connect=2.0, first=0.4, idle=0.4, whole=1.0)
PATIENT = Patience(connect=5.0, first=20.0, idle=20.0, whole=30.0)
WAITED_FOR = ("silent", "stalls", "drips")


def voice_of(server: OpenAIServer, model: str, **fields) -> RemoteVoice:
    return RemoteVoice(model.title(), server.url, model, **fields)


def connect(server, model, patience=None, at_once=4, **fields):
    voice = voice_of(server, model, **fields)
    return open_remotes([voice], at_once, patience or Patience())[voice.id]


def listen(stream):
    """Everything that a stream shows, and what it returns."""
    shown = []
    while True:
        try:
            shown.append(next(stream))
        except StopIteration as end:
            return shown, end.value


def ask(model, prompt, sampling=Sampling(), stop=None):  # noqa: B008 (frozen)
    shown, (generated,) = listen(model.answer_both([Row(None, prompt)], sampling, Path, stop))
    return [text for (text,) in shown], generated


# ---- an answer


def test_an_answer_streams_and_ends_whole(server, prompt):
    server.delay = 0.02
    shown, answer = ask(connect(server, "llava"), prompt)
    assert answer.text == shown[-1] == SAID and answer.finished and answer.note == ""
    assert len(shown) > 3 and all(later.startswith(earlier) for earlier, later in pairwise(shown))
    assert answer.row_layout == (f"llava@127.0.0.1:{server.server_address[1]}",)
    assert answer.extra["finish_reason"] == "stop"


def test_what_is_sent_is_the_conversation_with_its_pictures(server, prompt, picture_file):
    turn = Turn("And before?", "A dog.", images=(str(picture_file),))
    ask(connect(server, "llava"), Prompt("And now?", history=(turn,)))
    _, body = server.requests[0]
    first, second, third = body["messages"]
    url = first["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == picture_file.read_bytes()
    assert first["content"][1] == {"type": "text", "text": "And before?"}
    assert second == {"role": "assistant", "content": "A dog."}
    assert third == {"role": "user", "content": "And now?"}
    assert body["model"] == "llava" and body["stream"] is True
    assert "n" not in body and "logprobs" not in body


def test_greedy_sends_no_sampling_and_sampling_sends_all_of_it(server, prompt):
    model = connect(server, "llava")
    ask(model, prompt, Sampling(max_new_tokens=99))
    ask(model, prompt, Sampling(temperature=0.7, top_p=0.9, max_new_tokens=12, seed=5))
    greedy, sampled = (body for _, body in server.requests)
    assert (greedy["temperature"], greedy["max_tokens"]) == (0.0, 99) and not {"seed", "top_p"} & greedy.keys()
    names = ("temperature", "top_p", "max_tokens", "seed")
    assert [sampled[name] for name in names] == [0.7, 0.9, 12, 5]


@pytest.mark.parametrize(
    ("asked", "stored"), [("alias", "gpt-4o-2024-11-20"), ("path", "llava.gguf"), ("llava", "llava")]
)
def test_the_identity_is_what_the_server_says(server, prompt, asked, stored):
    _, answer = ask(connect(server, asked), prompt)
    assert str(answer.model) == f"{stored}@127.0.0.1:{server.server_address[1]}" and answer.model.adapter is None


@pytest.mark.parametrize("model", ["thinks", "thinks-aloud"])
def test_thoughts_are_no_part_of_the_answer(server, prompt, model):
    server.delay = 0.01
    shown, answer = ask(connect(server, model), prompt)
    assert answer.text == SAID and answer.finished and answer.note == ""
    assert all(SAID.startswith(text) for text in shown)


def test_an_answer_that_never_came_out_of_thinking_says_so(server, prompt):
    _, answer = ask(connect(server, "only-thinks"), prompt, Sampling(max_new_tokens=7))
    assert answer.text == "" and not answer.finished and "still thinking" in answer.note and "7 tokens" in answer.note


# ---- answers that are not whole


def test_the_limit_is_told(server, prompt):
    _, answer = ask(connect(server, "length"), prompt, Sampling(max_new_tokens=3))
    assert answer.text == "A cat and" and not answer.finished and "limit of 3 tokens" in answer.note


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("cut", "lost the connection"),
        ("no-reason", "without saying why"),
        ("fails", "the engine died"),
        ("no-json", "cannot be read"),
        ("stalls", "took too long"),
        ("drips", "took too long"),
        ("filtered", "content filter"),
    ],
)
def test_a_stream_that_breaks_off_is_kept_as_cut_and_never_as_whole(server, prompt, model, words):
    _, answer = ask(connect(server, model, QUICK if model in WAITED_FOR else PATIENT), prompt)
    assert answer.text and SAID.startswith(answer.text) and not answer.finished
    assert words in answer.note, answer.note
    assert KEY not in answer.note


def test_many_answers_take_whole_ones_only(server, prompt):
    model = connect(server, "cut")
    [outcome] = model.answer_each([prompt], Sampling())
    assert isinstance(outcome, GenerationFailed) and "cut off" in outcome.what
    with pytest.raises(GenerationFailed):
        model.answer_many([prompt])


# ---- no answer


@pytest.mark.parametrize(
    ("model", "what", "why", "fix"),
    [
        ("unpaid", "paid", "Insufficient credit", "credit"),
        ("forbidden", "refuses", "no access", "another key"),
        ("busy", "too many requests", "Rate limit reached", "in 17 seconds"),
        ("broken", "HTTP 500", "CUDA out of memory", "log"),
        ("loading", "not ready", "Loading model", "in a minute"),
        ("too-long", "too long", "2048 tokens", "new conversation"),
        ("elsewhere", "sends the studio elsewhere", "no other", "http://other.example/v1 with"),
        ("unknown", "has no model 'unknown'", "does not exist", "/v1/models"),
        ("text-only", "refused the picture", "At most 0 image", "--mmproj"),
        ("page", "did not stream", "text/html", "/v1"),
        ("whole", "did not stream", "application/json", "/v1"),
        ("silent", "took too long", "first word", "shorter"),
        ("deaf", "sent no answer", "without a reason", "address"),
    ],
)
def test_what_went_wrong_is_told_in_three_parts(server, prompt, model, what, why, fix):
    with pytest.raises(GenerationFailed) as told:
        ask(connect(server, model, QUICK if model in WAITED_FOR else PATIENT), prompt)
    error = told.value
    assert what in error.what and why in error.why and fix in error.fix, str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("120", "in 120 seconds"),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "in a minute"),
        ("soon", "in a minute"),
        (None, "a minute"),
    ],
)
def test_a_pause_is_told_as_the_server_asks_for_it(header, told):
    refused = Refused(429, {"retry-after": header} if header else {}, '[{"error": {"message": "Quota exceeded"}}]')
    error = explain_refusal(RemoteVoice("G", "https://g.example/v1", "gemini"), refused, "", 0)
    assert told in error.fix and error.why == "It says: “Quota exceeded”"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://lab:8000", "http://lab:8000/v1/chat/completions"),
        ("http://lab:8000/v1/", "http://lab:8000/v1/chat/completions"),
        ("https://router.huggingface.co/v1", "https://router.huggingface.co/v1/chat/completions"),
        ("https://g.example/v1beta/openai/", "https://g.example/v1beta/openai/chat/completions"),
        ("https://a.example/x/chat/completions", "https://a.example/x/chat/completions"),
    ],
)
def test_an_address_is_taken_as_openai_s_client_takes_it(url, address):
    assert completions_address(url) == address


def test_a_server_s_words_are_short_and_hold_no_picture_and_no_key():
    words = server_words(
        '{"error": "bad image data:image/png;base64,' + "QUJD" * 99 + " for sk-1" + "!" * 999 + '"}', "sk-1"
    )
    assert words.startswith("bad image (data) for (key)!") and len(words) < 310
    assert server_words("<html>no</html>") == "" and server_words("plain\nwords") == "plain words"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a", "Bad API key: (key). The model llava cannot take max_tokens = 1 at http://lab:8000/v1."),
        ("1", "Bad API key: (key). The model llava cannot take max_tokens = (key) at http://lab:8000/v1."),
        ("max", "Bad API key: (key). The model llava cannot take max_tokens = 1 at http://lab:8000/v1."),
        ("sk-a1", "Bad API key: (key). The model llava cannot take max_tokens = 1 at http://lab:8000/v1."),
        ("sk-wrong-key", "Bad API key: (key). The model llava cannot take max_tokens = 1 at http://lab:8000/v1."),
    ],
)
def test_a_short_key_is_hidden_and_the_words_stay_readable(key, words):
    told = f"Bad API key: {key}. The model llava cannot take max_tokens = 1 at http://lab:8000/v1."
    assert server_words(json.dumps({"error": {"message": told}}), key) == words


def test_a_long_key_is_hidden_within_a_word_too():
    assert server_words("tried Bearer_sk-wrong-key2", "sk-wrong-key") == "tried Bearer_(key)2"


def test_a_text_only_model_answers_where_there_is_no_picture(server):
    assert ask(connect(server, "text-only"), Prompt("Hello?"))[1].text == SAID


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://nowhere.invalid/v1"])
def test_a_server_that_is_not_there_is_told(prompt, address):
    voice = RemoteVoice("Gone", address, "llava")
    with pytest.raises(GenerationFailed, match="cannot be reached") as told:
        ask(open_remotes([voice], 1, QUICK)[voice.id], prompt)
    assert address in told.value.fix


def test_a_wrong_path_is_told_as_one(server, prompt):
    voice = RemoteVoice("Lost", server.url.replace("/v1", "/api"), "llava")
    with pytest.raises(GenerationFailed, match="answers nothing at"):
        ask(open_remotes([voice], 1)[voice.id], prompt)


def test_settings_that_a_server_does_not_take_are_left_out_and_told(server, prompt):
    model = connect(server, "picky")
    _, answer = ask(model, prompt, Sampling(temperature=0.5, seed=3))
    assert answer.text == SAID and answer.finished
    assert "does not take seed and temperature" in answer.note and answer.extra["left_out"] == ["seed", "temperature"]
    ask(model, prompt, Sampling(temperature=0.5, seed=3))
    assert len(server.requests) == 4, "what it learned it keeps"


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it(server, prompt):
    _, answer = ask(connect(server, "newer"), prompt, Sampling(max_new_tokens=21))
    assert answer.finished and answer.note == ""
    assert server.requests[-1][1]["max_completion_tokens"] == 21 and "max_tokens" not in server.requests[-1][1]


# ---- the key


@pytest.fixture
def locked():
    server = OpenAIServer(key=KEY)
    yield server
    server.stop()


@pytest.fixture
def signed_in(monkeypatch, tmp_path):
    """A machine with a token of the Hub in its environment and one that `hf auth login` saved."""
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("hf_saved")
    from huggingface_hub import get_token

    assert get_token() == "hf_environment", "the trap is set"


def test_without_a_key_nothing_of_this_machine_is_sent(server, prompt, signed_in, monkeypatch):
    ask(connect(server, "llava"), prompt)
    monkeypatch.delenv("HF_TOKEN")
    ask(connect(server, "llava"), prompt)
    for headers, body in server.requests:
        assert "authorization" not in headers
        assert "hf_" not in str(headers).replace("hf_hub", "") + str(body)


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_voice_sends_its_own_key(locked, prompt, signed_in, monkeypatch, tmp_path, place):
    if place == "variable":
        monkeypatch.setenv("LAB_KEY", KEY)
        fields = {"key_env": "LAB_KEY"}
    else:
        (tmp_path / "key.txt").write_text(f"{KEY}\n")
        fields = {"key_file": tmp_path / "key.txt"}
    model = connect(locked, "llava", **fields)
    assert ask(model, prompt)[1].text == SAID
    assert locked.requests[0][0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(model.voice) + repr(vars(model))


def test_a_refused_key_is_told_and_never_repeated(locked, prompt, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("LAB_KEY", wrong := "sk-wrong-key-987654")
    with pytest.raises(GenerationFailed, match="not let the studio in") as told:
        ask(connect(locked, "llava", key_env="LAB_KEY"), prompt)
    assert "Incorrect API key provided: (key)" in told.value.why and "is not accepted" in told.value.why
    assert wrong not in str(told.value) + caplog.text
    chain, error = "", told.value
    while error is not None:
        chain, error = chain + repr(error), error.__cause__
    assert wrong not in chain
    with pytest.raises(GenerationFailed, match="No key was sent; it wants one"):
        ask(connect(locked, "llava"), prompt)


def test_a_key_that_is_gone_is_told(server, prompt):
    os.environ.pop("NOBODY_SET_THIS", None)
    with pytest.raises(InvalidData, match="no key for 'Llava' in the variable NOBODY_SET_THIS"):
        ask(connect(server, "llava", key_env="NOBODY_SET_THIS"), prompt)
    assert server.requests == []


def test_a_server_next_door_answers_while_the_hub_is_switched_off(server, prompt, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ask(connect(server, "llava"), prompt)[1].finished


# ---- stopping, and many at once


def until(condition, seconds=5.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.01)


def test_stopping_ends_the_stream_at_the_server(server, prompt):
    stop = threading.Event()
    stream = connect(server, "endless").answer_both([Row(None, prompt)], Sampling(), Path, stop)
    next(stream), next(stream)
    stop.set()
    _, (answer,) = listen(stream)
    assert answer.text.startswith("A cat") and not answer.finished and answer.note == ""
    until(lambda: server.abandoned == 1)


def test_a_silent_server_is_left_at_once(server, prompt):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begun = time.monotonic()
    _, answer = ask(connect(server, "silent"), prompt, stop=stop)
    assert time.monotonic() - begun < 5 and answer.text == "" and not answer.finished


def test_a_page_that_is_gone_ends_the_stream(server, prompt):
    stream = connect(server, "endless").answer_both([Row(None, prompt)], Sampling(), Path)
    next(stream)
    stream.close()
    until(lambda: server.abandoned == 1)


def test_a_server_is_asked_for_so_many_answers_at_once(server, prompt):
    server.delay = 0.01
    voices = [voice_of(server, "llava"), voice_of(server, "aligned")]
    models = open_remotes(voices, 3)
    outcomes = []

    def visit(model):
        outcomes.append(ask(model, prompt)[1])

    threads = [threading.Thread(target=visit, args=(model,)) for model in models.values() for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    assert len(outcomes) == 12 and all(one.finished for one in outcomes)
    assert server.most_at_once == 3


def test_who_waits_for_a_turn_can_be_stopped_and_takes_none(server, prompt):
    model = connect(server, "silent", at_once=1)
    first = model.answer_both([Row(None, prompt)], Sampling(), Path, stop := threading.Event())
    holder = threading.Thread(target=lambda: listen(first))
    holder.start()
    until(lambda: server.at_once == 1)
    second_stop = threading.Event()
    threading.Timer(0.1, second_stop.set).start()
    assert ask(model, prompt, stop=second_stop)[1].text == ""
    assert len(server.requests) == 1
    stop.set()
    holder.join(5)
    assert not holder.is_alive()
    server.go.set()
    assert ask(connect(server, "llava", at_once=1), prompt)[1].finished


def test_the_line_for_servers_has_an_end(server, prompt, monkeypatch):
    monkeypatch.setattr(remote, "LINE", 1)
    held = connect(server, "silent").answer_both([Row(None, prompt)], Sampling(), Path, stop := threading.Event())
    holder = threading.Thread(target=lambda: listen(held))
    holder.start()
    until(lambda: server.at_once == 1)
    with pytest.raises(GenerationFailed, match="too many visitors"):
        ask(connect(server, "llava"), prompt)
    stop.set()
    holder.join(5)
    until(lambda: not remote._line)
    assert ask(connect(server, "llava"), prompt)[1].finished


def test_many_answers_come_in_order_with_seeds_of_their_own(server, prompt):
    prompts = [Prompt(f"Question {number}?", prompt.images) for number in range(6)]
    outcomes = connect(server, "llava").answer_each(prompts, Sampling(temperature=1.0, seed=7))
    assert [one.text for one in outcomes] == [SAID] * 6
    asked = {body["messages"][0]["content"][1]["text"]: body["seed"] for _, body in server.requests}
    assert asked == {f"Question {number}?": 7 + number for number in range(6)}


def test_many_answers_make_the_pauses_that_the_server_asks_for(server, prompt):
    [outcome] = connect(server, "pausing").answer_each([prompt], Sampling())
    assert outcome.text == SAID and len(server.requests) == 3
    [outcome] = connect(server, "forbidden").answer_each([prompt], Sampling())
    assert isinstance(outcome, GenerationFailed) and len(server.requests) == 4


def test_two_rows_stream_side_by_side(server, prompt):
    server.delay = 0.02
    model = connect(server, "llava")
    shown, answers = listen(model.answer_both([Row(None, prompt), Row(None, prompt)], Sampling(), Path))
    assert [one.text for one in answers] == [SAID, SAID]
    assert any(left and right and left != SAID and right != SAID for left, right in shown)
