"""Flags and environment become one frozen value."""

from argparse import Namespace
from pathlib import Path

import pytest

from rlhfv.settings import DEMO_MODEL, NO_MODEL, parse_app_arguments, settings_from_arguments


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in ("RLHFV_DATA_DIR", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)


def test_without_flags_it_is_one_person_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = parse_app_arguments([])
    assert settings.data_dir == tmp_path.resolve() / ".local" / "share" / "rlhfv"
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 7860, DEMO_MODEL)
    assert settings.single_user and not settings.open_browser and settings.adapters == () and settings.revision is None
    assert settings_from_arguments(Namespace(data_dir=None)) == settings


def test_every_flag_is_kept(tmp_path):
    words = f"--host 0.0.0.0 --port 8000 --data-dir {tmp_path} --model a/b --revision c --adapter d --adapter e --open"
    settings = parse_app_arguments(words.split())
    assert (settings.host, settings.port, settings.data_dir) == ("0.0.0.0", 8000, tmp_path.resolve())
    assert (settings.model, settings.revision, settings.adapters) == ("a/b", "c", ("d", "e"))
    assert settings.open_browser


def test_the_environment_gives_the_defaults(monkeypatch):
    monkeypatch.setenv("RLHFV_DATA_DIR", "~/mine")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7000")
    monkeypatch.setenv("SPACE_ID", "somebody/studio")
    settings = parse_app_arguments([])
    assert settings.data_dir == Path.home().resolve() / "mine"
    assert (settings.host, settings.port, settings.single_user) == ("0.0.0.0", 7000, False)
    assert parse_app_arguments(["--port", "7001"]).port == 7001


@pytest.mark.parametrize("port", ["abc", "0", "-1", "65536", "80.5", "٣"])
@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_port_that_is_none_is_told(port, by, monkeypatch, capsys):
    if by == "environment":
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    with pytest.raises(SystemExit) as ended:
        parse_app_arguments([] if by == "environment" else [f"--port={port}"])
    assert ended.value.code == 2 and "from 1 to 65535" in capsys.readouterr().err


def test_a_second_model_its_weights_and_when_it_leaves_are_flags():
    settings = parse_app_arguments([])
    assert (settings.beside, settings.base_weights, settings.unload_after) == ("", "full", 0)
    settings = parse_app_arguments("--beside a/b --base-weights 4-bit --unload-after 2.5".split())
    assert (settings.beside, settings.base_weights, settings.unload_after) == ("a/b", "4-bit", 2.5)


@pytest.mark.parametrize("minutes", ["-1", "never", "nan", "99999"])
def test_minutes_that_are_none_are_told(minutes, capsys):
    with pytest.raises(SystemExit):
        parse_app_arguments([f"--unload-after={minutes}"])
    assert "from 0 to a week" in capsys.readouterr().err


def test_the_benchmarks_files_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_app_arguments([]).benchmarks is None
    assert parse_app_arguments(["--benchmarks", "~/files"]).benchmarks == tmp_path.resolve() / "files"
    assert settings_from_arguments(Namespace(data_dir=None, benchmarks=tmp_path)).benchmarks == tmp_path.resolve()


# ---- voices on servers

LAB, OPENAI = "http://lab:8000/v1", "https://api.openai.com/v1"


def parse(*words):
    return parse_app_arguments([*map(str, words)])


def test_a_voice_is_a_name_an_address_and_a_model():
    settings = parse("--remote", f"Mine = {LAB}#org/llava:q4")
    [voice] = settings.remotes
    assert (voice.name, voice.url, voice.model) == ("Mine", LAB, "org/llava:q4")
    assert voice.id == "org/llava:q4@lab:8000" and voice.read_key() == ""
    assert settings.model == DEMO_MODEL and settings.remote_at_once == 4


def test_the_path_of_a_model_on_its_server_is_no_part_of_its_identity():
    [voice] = parse("--remote", f"A={LAB}#/home/ada/models/llava").remotes
    assert (voice.model, voice.id) == ("/home/ada/models/llava", "llava@lab:8000")


def test_two_voices_need_no_model_here_unless_one_is_named():
    two = ("--remote", f"A={LAB}#a", "--remote", f"B={LAB}#b")
    assert parse(*two).model == NO_MODEL
    assert parse(*two, "--model", "x/y").model == "x/y"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://lab:8000/v1#a", "NAME=URL#MODEL"),
        ("A=http://lab:8000/v1", "NAME=URL#MODEL"),
        ("A=lab:8000#a", "NAME=URL#MODEL"),
        ("A=http://#a", "the address of 'A' is none"),
        ("A=http://lab:port/v1#a", "the address of 'A' is none"),
        ("A=http://lab/v1?key=s3cret", "NAME=URL#MODEL"),
        ("A=http://ada:s3cret@lab/v1#a", "--remote-key-env"),
        ("A=http://lab/v1?key=s3cret#a", "--remote-key-env"),
    ],
)
def test_what_is_no_voice_is_told(text, told, capsys):
    with pytest.raises(SystemExit):
        parse("--remote", text)
    error = capsys.readouterr().err
    assert told in error and "s3cret" not in error


def test_a_key_is_named_and_never_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    (tmp_path / "openai=1.key").write_text(" sk-openai\n")
    voices = (
        "--remote",
        f"A={LAB}#a",
        "--remote",
        f"B={LAB}#b",
        "--remote",
        f"C={OPENAI}#c",
        "--remote",
        "D=http://d#d",
    )
    keys = ("--remote-key-env", "A=LAB_KEY", "--remote-key-env", "B=LAB_KEY")
    settings = parse(*voices, *keys, "--remote-key-file", f"C={tmp_path / 'openai=1.key'}")
    assert [voice.read_key() for voice in settings.remotes] == ["sk-lab", "sk-lab", "sk-openai", ""]
    assert "sk-" not in repr(settings)


def test_a_key_without_a_name_is_for_one_server_only(monkeypatch, capsys):
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    modules = ("--remote", f"A={LAB}#a", "--remote", f"B={LAB}#b")
    assert [voice.read_key() for voice in parse(*modules, "--remote-key-env", "LAB_KEY").remotes] == ["sk-lab"] * 2
    with pytest.raises(SystemExit):
        parse(*modules, "--remote", f"C={OPENAI}#c", "--remote-key-env", "LAB_KEY")
    assert "must not reach another" in capsys.readouterr().err


@pytest.mark.parametrize("others", [(), ("--remote", f"B={OPENAI}#b")])
@pytest.mark.parametrize("flag", ["--remote-key-env", "--remote-key-file"])
@pytest.mark.parametrize("key", ["sk-secret", "c2VjcmV0secret=", "c2VjcmV0secret=="])
def test_a_key_typed_in_place_of_where_it_is_is_not_repeated(others, flag, key, capsys):
    with pytest.raises(SystemExit):
        parse("--remote", f"A={LAB}#a", *others, flag, key)
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--remote", f"A={LAB}#a", "--remote-key-env", "NOT_SET_ANYWHERE"],
            "no key for 'A' in the variable",
        ),
        (["--remote", f"A={LAB}#a", "--remote-key-file", "/nowhere/key"], "no key for 'A' in the file that was named"),
        (["--remote", f"A={LAB}#a", "--remote-key-env", "B=PATH"], "names no known voice"),
        (["--remote", f"Alice={LAB}#a", "--remote-key-env", "alise=PATH"], "names no voice 'alise'"),
        (["--remote-key-env", "PATH"], "does not say for which voice"),
        (["--remote", f"A={LAB}#a", "--remote-key-env", "PATH", "--remote-key-env", "A=PATH"], "given two keys"),
        (["--remote", f"A={LAB}#a", "--remote", f"A={LAB}#b"], "Two voices are called 'A'"),
        (["--remote", f"A={LAB}#a", "--remote", f"B={LAB}#a"], "Two voices are 'a@lab:8000'"),
        (["--model", "none"], "leaves nobody to answer"),
        (["--remote", f"A={LAB}#a", "--remote-at-once", "0"], "from 1 to 256"),
    ],
)
def test_flags_that_contradict_each_other_are_told(words, told, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_a_space_gives_its_flags_in_the_environment(monkeypatch):
    monkeypatch.setenv("RLHFV_FLAGS", "--model a/b --port 7000 --adapter 'my folder'")
    monkeypatch.setattr("sys.argv", ["app.py", "--port", "7999"])
    settings = parse_app_arguments()
    assert (settings.model, settings.adapters) == ("a/b", ("my folder",))
    assert settings.port == 7999, "the command line has the last word"
    assert parse_app_arguments([]).model == "demo", "flags that are given are all there are"


# ---- what many people share


def test_limits_are_off_here_and_on_in_a_space(monkeypatch, tmp_path):
    alone = parse()
    assert (alone.answers_per_minute, alone.answers_in_all, alone.max_upload, alone.terms) == (0, 0, 500, None)
    monkeypatch.setenv("SPACE_ID", "somebody/studio")
    shared = parse()
    assert (shared.answers_per_minute, shared.answers_in_all, shared.max_upload) == (10, 240, 25)
    words = f"--answers-per-minute 0 --answers-in-all 7 --max-upload 3 --terms {tmp_path / 'a.md'}"
    given = parse(*words.split())
    assert (given.answers_per_minute, given.answers_in_all, given.max_upload) == (0, 7, 3)
    assert given.terms == (tmp_path / "a.md").resolve()


@pytest.mark.parametrize("words", ["--answers-per-minute -1", "--answers-in-all many", "--max-upload 0"])
def test_what_is_no_limit_is_told(words, capsys):
    with pytest.raises(SystemExit):
        parse(*words.split())
    assert "is no" in capsys.readouterr().err


def test_where_a_copy_lies(monkeypatch, tmp_path):
    assert parse_app_arguments([]).durable is None
    assert parse_app_arguments(["--durable", str(tmp_path / "kept")]).durable == tmp_path / "kept"
    monkeypatch.setenv("RLHFV_DURABLE", "hf://buckets/ann/kept")
    assert parse_app_arguments([]).durable == "hf://buckets/ann/kept"
    assert parse_app_arguments(["--durable", "hf://datasets/ann/kept"]).durable == "hf://datasets/ann/kept"
    assert settings_from_arguments(Namespace(data_dir=None)).durable is None, "the app alone keeps the copy"


@pytest.mark.parametrize("place", ["hf://models/ann/kept", "hf://buckets/ann", "hf://buckets/ann/kept/more"])
def test_a_place_that_is_none_is_told(place, capsys):
    with pytest.raises(SystemExit):
        parse_app_arguments(["--durable", place])
    assert "There is no place" in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["-1", "soon", "1e3", "99999", "٣"])
def test_what_is_no_time_to_forget_after_is_told(hours, capsys):
    with pytest.raises(SystemExit):
        parse_app_arguments([f"--forget-after={hours}"])
    assert "no number of hours" in capsys.readouterr().err


def test_names_that_a_proxy_passes_on(capsys):
    assert parse().public_hosts == ()
    assert parse("--public-host", "Studio.lab.org", "--public-host", "gpu1").public_hosts == ("studio.lab.org", "gpu1")
    for wrong in ("https://studio.lab.org", "studio.lab.org:443", "studio.lab.org/x", ""):
        with pytest.raises(SystemExit):
            parse("--public-host", wrong)
        assert "no name of a host" in capsys.readouterr().err


# ---- the judge

JUDGE = ("--judge", "https://api.openai.com/v1#gpt-4o")


def test_the_app_takes_the_judge_of_the_verbs_and_keeps_no_key(monkeypatch, tmp_path):
    assert parse().judge is None and settings_from_arguments(Namespace(data_dir=None)).judge is None
    judge = parse(*JUDGE).judge
    assert (judge.voice.server, judge.voice.model, judge.voice.flag) == ("api.openai.com", "gpt-4o", "--judge")
    assert (judge.prompt, judge.at_once, judge.voice.read_key()) == (None, 4, "")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-judges-own-key")
    (tmp_path / "words.txt").write_text("{question}")
    words = ("--judge-key-env", "OPENAI_API_KEY", "--judge-prompt", tmp_path / "words.txt", "--judge-at-once", 2)
    settings = parse(*JUDGE, *words)
    assert settings.judge.voice.read_key() == "sk-judges-own-key" and "sk-judges" not in repr(settings)
    assert (settings.judge.prompt, settings.judge.at_once) == (tmp_path.resolve() / "words.txt", 2)
    assert settings.remotes == () and settings.model == DEMO_MODEL, "a judge is no voice of the chat"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--judge", "gpt-4o"], "names no judge"),
        ([*JUDGE, "--judge-key-env", "NOT_SET_ANYWHERE"], "no key for 'gpt-4o' in the variable"),
        ([*JUDGE, "--judge-key-env", "sk-secret"], "no key for 'gpt-4o' in the variable that was named"),
        (["--judge-key-env", "PATH"], "No judge is named"),
        ([*JUDGE, "--judge-prompt", "/nowhere"], "--judge-prompt"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_told_at_the_start(words, told, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    error = capsys.readouterr().err
    assert told in error and "sk-secret" not in error
