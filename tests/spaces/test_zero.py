"""ZeroGPU, with the scheduler of the package `spaces` stubbed: both answers in one borrowed GPU, or why not."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apps import ROOT, free_port, wait_until_ready
from tests.spaces.device import Device, visitor_token

pytest.importorskip("spaces.zero", reason="the package `spaces` is not installed")
pytestmark = pytest.mark.slow


def children_of(pid: int) -> dict[int, str]:
    """Each child process of `pid` with its state; "Z" is a zombie."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid:
                found[int(entry)] = state
    return found


@contextmanager
def start_zero(place, device: Device, what: str, *flags: str):
    """The port and the process of `zero_app.py`, whose workers are gone with it."""
    port = free_port()
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "SPACE"))}
    environment |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": device.url,
        "HF_HUB_OFFLINE": "1",
        "HOME": str(place),
        "OMP_NUM_THREADS": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]),
    }
    with (place / "app.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.spaces.zero_app", str(port), what, "--data-dir", place / "data", *flags],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(port, process)
        yield port, process
        assert "Z" not in children_of(process.pid).values()
    finally:
        workers = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        for pid in workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        print((place / "app.log").read_text()[-4000:])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from tests.models.tiny import add_random_adapter, build_llava

    place = tmp_path_factory.mktemp("tiny")
    base = build_llava(place / "base")
    return base, add_random_adapter(base, place / "adapter")


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny):
    base, adapter = tiny
    device = Device()
    flags = ("--model", str(base), "--adapter", str(adapter))
    with start_zero(tmp_path_factory.mktemp("zero"), device, "chat", *flags) as (port, process):
        yield device, port, process
    device.close()


@pytest.fixture
def device(running):
    device = running[0]
    device.calls.clear()
    device.refusals.clear()
    device.fresh = False
    return device


@pytest.fixture
def ask(running):
    from gradio_client import Client

    def ask(question="what is in this image", tokens=24, visitor="v", token=None, stop_after=0, right="", watch=None):
        """What the visitor saw, state by state."""
        headers = {"x-ip-token": token} if token else {}
        client = Client(f"http://127.0.0.1:{running[1]}", headers=headers, verbose=False)
        job = client.submit(visitor, question, tokens, stop_after, right, api_name="/ask")
        for state in job:
            if watch:
                watch(state)
        return job.outputs()

    return ask


def test_both_answers_come_in_one_borrowed_call_word_by_word(device, ask, tiny):
    states = ask(visitor="both")
    assert [path for path, _ in device.calls] == ["/schedule", "/allow", "/release"]
    [wanted] = device.to("/schedule")
    assert wanted["gpuSize"] == "large" and 15 <= int(wanted["durationSeconds"]) <= 120
    assert "token" not in wanted, "nobody is signed in"
    lengths = [(len(state["left"]["text"]), len(state["right"]["text"])) for state in states]
    assert len({length for length in lengths if length[0] and length[1]}) > 2 and lengths == sorted(lengths)
    assert states[-1]["left"]["answer_id"] and states[-1]["right"]["answer_id"]

    # What a model in this process says to the same.
    from PIL import Image

    from rlhfv.corrections.conversation import Prompt, Sampling
    from rlhfv.models.local import Row, load_model

    base, adapter = tiny
    model = load_model(str(base), [adapter])
    picture = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    picture.save(base / "picture.png")
    prompt = Prompt("what is in this image", images=(str(base / "picture.png"),))
    [*_, last] = model.answer_both([Row(None, prompt), Row(next(iter(model.adapters())), prompt)], Sampling(0, 1, 24))
    assert (states[-1]["left"]["text"], states[-1]["right"]["text"]) == last
    model.unload()


def test_whoever_is_signed_in_pays_with_their_own_time(device, ask):
    token = visitor_token(user="ann")
    assert ask(visitor="ann", token=token)[-1]["left"]["text"]
    assert [wanted["token"] for wanted in device.to("/schedule")] == [token]


def test_beside_a_voice_that_needs_no_gpu_it_is_still_their_own_time(device, ask):
    token = visitor_token(user="eve")
    [*_, last] = ask(visitor="eve", token=token, tokens=6, right="base:demo")
    assert last["left"]["answer_id"] and last["right"]["voice_title"] == "Demo model: baseline"
    assert [wanted["token"] for wanted in device.to("/schedule")] == [token]


def test_an_adapter_that_came_later_is_brought_along(device, running, tiny, tmp_path):
    from gradio_client import Client
    from PIL import Image

    from rlhfv.corrections.conversation import Prompt, Sampling
    from rlhfv.models.local import Row, load_model
    from tests.models.tiny import add_random_adapter, build_llava

    client = Client(f"http://127.0.0.1:{running[1]}", verbose=False)
    late, picture = add_random_adapter(tiny[0], tmp_path / "late", seed=5), tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    said = client.predict(str(late), str(picture), api_name="/late")["texts"]
    model = load_model(str(tiny[0]), [late])
    prompt = Prompt("what is there", images=(str(picture),))
    [*_, expected] = model.answer_both(
        [Row(None, prompt), Row(next(iter(model.adapters())), prompt)], Sampling(max_new_tokens=12)
    )
    model.unload()
    assert tuple(said) == expected and said[0] != said[1]
    assert len(device.to("/schedule")) == 1
    other = add_random_adapter(build_llava(tmp_path / "other", seed=3, hidden_size=32), tmp_path / "strange")
    refused = client.predict(str(other), str(picture), api_name="/late")["error"]
    assert "strange" in refused, "the one that does not fit says so, from where the GPU is"


def test_two_visitors_at_once_get_their_own_answers(device, ask):
    questions = {"x": "how many", "y": "what is there on the table"}
    alone = {who: ask(question, visitor=f"{who}-alone")[-1] for who, question in questions.items()}
    with ThreadPoolExecutor(2) as pool:
        asked = {who: pool.submit(ask, question, visitor=who) for who, question in questions.items()}
    for who, states in asked.items():
        for side in ("left", "right"):
            assert states.result()[-1][side]["text"] == alone[who][side]["text"]
    assert alone["x"]["left"]["text"] != alone["y"]["left"]["text"]
    assert len(device.to("/schedule")) == len(device.to("/release")) == 4


def test_a_worker_goes_on_for_the_next_visitor(device, ask):
    ask(visitor="one")
    ask(visitor="two")
    assert len(device.to("/allow")) <= 1 and len(device.to("/schedule")) == len(device.to("/release")) == 2


@pytest.mark.parametrize("token", [None, visitor_token(user="ann")])
def test_when_the_quota_ends_the_demo_model_answers_next_and_says_so(device, ask, token):
    visitor = f"poor-{token is None}"
    device.refusals.append((429, {"left": 3, "wait": 3600}))
    [*_, end] = ask(visitor=visitor, token=token)
    what, why, fix = end["error"]
    assert what == "The GPU time that you have for today is used up." and "ZeroGPU says: " in why
    assert ("3s left" in why) == (token is not None)
    assert "demo model" in fix and "drawn scenes only" in fix and end["turns"] == 0
    assert end["voices"] == ["Demo model: baseline", "Demo model: Aligned with oracle corrections"]
    device.calls.clear()
    [*_, last] = ask("Describe this image in detail.", tokens=8, visitor=visitor, token=token)
    assert last["left"]["text"] and last["right"]["text"] and device.calls == [], "no GPU was asked for"
    assert last["left"]["voice_title"] == "Demo model: baseline"


@pytest.mark.parametrize(
    ("refusal", "what"),
    [
        ((429, {"left": 100, "wait": -1}), "The answer would take longer than a GPU is lent for."),
        ((503, {}), "No GPU is free at the moment."),
        ((500, {}), "No GPU is free at the moment."),
    ],
)
def test_other_refusals_are_told_in_words(device, ask, refusal, what):
    device.refusals.append(refusal)
    [*_, end] = ask(visitor=str(refusal))
    assert end["error"][0] == what and end["error"][1].startswith("ZeroGPU says: ")


def test_a_worker_that_is_taken_away_is_told_and_the_next_question_works(device, running, ask):
    device.fresh, killed = True, []

    def kill(state):
        if not killed and state.get("left", {}).get("text"):
            killed.append(int(device.to("/allow")[-1]["pid"]))
            assert killed[0] in children_of(running[2].pid), "a process that this app started"
            os.kill(killed[0], signal.SIGKILL)

    [*_, end] = ask(visitor="cut", tokens=200, watch=kill)
    assert end["error"][0] == "The GPU was taken away in the middle of the answers."
    assert "GPU task aborted" in end["error"][1] and end["turns"] == 0
    assert device.to("/release")[-1]["fail"] == "true"
    assert ask(visitor="cut")[-1]["left"]["answer_id"]
    deadline = time.monotonic() + 5
    while killed[0] in children_of(running[2].pid):
        assert time.monotonic() < deadline, "a zombie is left"
        time.sleep(0.05)


def test_a_stopped_answer_is_kept_as_it_stands(device, ask):
    states = ask(visitor="stops", tokens=200, stop_after=3)
    last = states[-1]
    assert last["left"]["answer_id"] and last["left"]["text"] and not last["left"]["finished"]
    assert len(device.to("/release")) == 1 and device.to("/release")[0]["fail"] == "false"


def test_off_zero_gpu_nothing_of_it_is_imported():
    code = "import sys, app, rlhfv.services.model_host; print('spaces' in sys.modules)"
    environment = {name: text for name, text in os.environ.items() if not name.startswith("SPACE")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
