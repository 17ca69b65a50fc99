"""A voice on a server answers a benchmark."""

import json

import pytest

from rlhfv.cli import main
from tests.remote.server import SAID
from tests.services.made_benchmark import make_pope


@pytest.fixture
def ask(server, tmp_path, capsys):
    """`ask("model", …)` lets that model of the server answer: (exit code, its JSON, what was told)."""
    make_pope(tmp_path / "files", 4)

    def run(model, *words):
        places = ["--data-dir", str(tmp_path / "data"), "--benchmarks", str(tmp_path / "files")]
        voice = ["--remote", f"Lab={server.url}#{model}", "--model", "none", "--json"]
        capsys.readouterr()
        code = main(["benchmark", "answer", "pope-random", *voice, *places, *words])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run


def test_it_is_asked_about_each_picture_and_named_as_the_server_names_it(ask, server, tmp_path, capsys):
    code, told, _ = ask("llava")
    assert (code, told["done"], told["total"]) == (0, 4, 4)
    bodies = [body for _, body in server.requests]
    assert [body["temperature"] for body in bodies] == [0] * 4 and bodies[0]["max_tokens"] == 1024
    assert all(body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg") for body in bodies)
    main(["benchmark", "sets", "--json", "--data-dir", str(tmp_path / "data")])
    [one] = json.loads(capsys.readouterr().out)
    host = server.url.split("/")[2]
    assert one["stamp"]["model"]["revision"] == host and one["stamp"]["architecture"] == f"on {host}"
    rows = [
        json.loads(line)
        for line in (tmp_path / "data/evaluations" / one["id"] / "answers.jsonl").open()
        if line > "\n"
    ]
    assert {row["answer"] for row in rows} == {SAID} and one["stamp"]["model"]["name"] == rows[0]["served"]
    assert ask("llava")[1]["done"] == 4 and len(server.requests) == 4, "nothing is asked, or paid, twice"


def test_beams_are_refused_in_a_sentence(ask, server):
    code, _, err = ask("llava", "--decoding", "rlhfv")
    assert code == 2 and "has no beams" in err and server.requests == []


def test_a_server_that_refuses_every_question_ends_it(ask, server):
    code, _, err = ask("unpaid")
    assert code == 2 and "Insufficient credit" in err
    assert len(server.requests) == 4, "one batch, not the whole benchmark"
