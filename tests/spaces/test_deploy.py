"""`spaces/deploy.py` against a Hub of the tests, with the real client: create, update, duplicate, refuse."""

import importlib.util
import sys

import pytest

from rlhfv.corrections.recorded import Recorded, Saying, Source, write_recorded
from rlhfv.publishing.space_card import make_card
from tests.apps import ROOT
from tests.publishing.formats.rows import picture
from tests.publishing.test_photographs import put_dataset, row

FLAGS = "--model llava-hf/llava-1.5-7b-hf --remote GPT=https://gpt.example/v1#gpt --remote-key-env GPT_KEY"


@pytest.fixture
def deploy(monkeypatch, tmp_path):
    """The script as a module, over a small package: what it does with 11 MB it does with a few files."""
    spec = importlib.util.spec_from_file_location("deploy_under_test", ROOT / "spaces" / "deploy.py")
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    root = tmp_path / "project"
    for name in ("app.py", "LICENSE", "spaces/README.md", "spaces/requirements.txt", "rlhfv/__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / "rlhfv/weights.safetensors").write_bytes(bytes(range(256)) * 40)
    (root / "rlhfv/old.py").write_text("old = True\n")
    module.ROOT = root
    return module


@pytest.fixture
def run(deploy, capsys):
    def run(*words: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        code = deploy.run(lambda: deploy.main(deploy.make_parser().parse_args(words)))
        return code, *capsys.readouterr()

    return run


def commits(hub, repo="ann/studio"):
    return hub.commits(repo, repo_type="space")


def test_a_space_is_made_with_all_it_needs(hub, connect, run, deploy, monkeypatch, transport):
    connect(hub.user("ann"))
    monkeypatch.setenv("GPT_KEY", "key-of-gpt-1234")
    code, out, err = run("--to", "ann/studio", "--hardware", "zero-a10g", "--bucket", "ann/kept", "--flags", FLAGS)
    assert code == 0, err
    space, repo = hub.spaces.all["ann/studio"], hub.repo("ann/studio", "space")
    assert (repo.sdk, repo.private, space.hardware) == ("gradio", False, "zero-a10g")
    assert space.variables == {"RLHFV_FLAGS": FLAGS, "RLHFV_DURABLE": "/data"}
    assert space.secrets == {"GPT_KEY": "key-of-gpt-1234"}
    assert space.volumes == [{"type": "bucket", "source": "ann/kept", "mountPath": "/data"}]
    assert hub.spaces.buckets == {"ann/kept": True}, "made, and private"
    assert set(hub.paths("ann/studio", repo_type="space")) == {".gitattributes", *deploy.list_files()}
    assert len(commits(hub)) == 2, "the Hub's own first one, and one of ours"
    card = hub.file("ann/studio", "README.md", repo_type="space").decode()
    assert "\nmodels:\n- llava-hf/llava-1.5-7b-hf\npreload_from_hub:\n- llava-hf/llava-1.5-7b-hf\n---\n" in card
    assert "created    ann/studio, public, on zero-a10g" in out and "7 new (7 files in all)" in out
    assert "secret     GPT_KEY" in out and "key-of-gpt" not in out + err
    assert hub.leaks == []


def test_an_update_is_one_commit_of_what_differs(hub, connect, run, deploy):
    connect(hub.user("ann"))
    assert run("--to", "ann/studio")[0] == 0
    before = len(hub.requests)
    code, out, _ = run("--to", "ann/studio")
    assert code == 0 and out == "Nothing to do: ann/studio is up to date.\n" and len(commits(hub)) == 2
    assert not [one for one in hub.requests[before:] if one.method != "GET"], "nothing is sent"
    hub.commit_as("ann", "ann/studio", {"notes.md": b"mine"}, repo_type="space")
    (deploy.ROOT / "rlhfv/old.py").unlink()
    (deploy.ROOT / "rlhfv/new.py").write_text("new = True\n")
    (deploy.ROOT / "app.py").write_text("print('changed')\n")
    code, out, _ = run("--to", "ann/studio", "--dry-run")
    assert code == 0 and len(commits(hub)) == 3
    assert [line.split()[2:] for line in out.splitlines()] == [
        ["new", "rlhfv/new.py"],
        ["changed", "app.py"],
        ["deleted", "rlhfv/old.py"],
    ]
    before = len(hub.requests)
    code, out, _ = run("--to", "ann/studio")
    assert "1 new, 1 changed, 1 deleted (7 files in all)" in out and len(commits(hub)) == 4
    [sent] = [one for one in hub.requests[before:] if one.path.endswith("/preupload/main")]
    assert {file["path"] for file in sent.json()["files"]} == {"app.py", "rlhfv/new.py"}, "only these are sent"
    assert set(hub.paths("ann/studio", repo_type="space")) == {".gitattributes", "notes.md", *deploy.list_files()}


def test_an_update_sets_only_what_is_another(hub, connect, run):
    connect(hub.user("ann"))
    run("--to", "ann/studio", "--variable", "A=1", "--variable", "B=2")
    hub.spaces.all["ann/studio"].volumes = [{"type": "model", "source": "ann/m", "mountPath": "/m"}]
    before = len(hub.requests)
    code, out, err = run(
        *"--to ann/studio --variable A=1 --variable B=3 --hardware l4x1 --bucket ann/kept".split(),
    )
    assert code == 0, err
    space = hub.spaces.all["ann/studio"]
    assert (space.variables, space.hardware) == ({"A": "1", "B": "3", "RLHFV_DURABLE": "/data"}, "l4x1")
    assert [volume["source"] for volume in space.volumes] == ["ann/m", "ann/kept"], "another volume stays"
    changing = [str(one) for one in hub.requests[before:] if one.method != "GET"]
    assert changing == [
        "POST /api/buckets/ann/kept",
        "POST /api/spaces/ann/studio/variables",
        "POST /api/spaces/ann/studio/variables",
        "PUT /api/spaces/ann/studio/volumes",
        "POST /api/spaces/ann/studio/hardware",
    ]
    assert "hardware   l4x1, was cpu-basic" in out and "variable   B=3" in out and "A=1" not in out
    assert run("--to", "ann/studio", "--hardware", "l4x1")[1] == "Nothing to do: ann/studio is up to date.\n"


def test_a_space_is_duplicated_with_one_command(hub, connect, run, monkeypatch):
    connect(hub.user("lab"))
    monkeypatch.setenv("GPT_KEY", "key-of-gpt-1234")
    run("--to", "lab/studio", "--flags", FLAGS)
    monkeypatch.delenv("GPT_KEY")
    connect(hub.user("ann"))
    code, out, err = run("--from", "lab/studio")
    assert code == 0, err
    assert hub.paths("ann/studio", repo_type="space") == hub.paths("lab/studio", repo_type="space")
    space = hub.spaces.all["ann/studio"]
    assert space.variables == {"RLHFV_FLAGS": FLAGS} and space.secrets == {}
    assert hub.repo("ann/studio", "space").private is False
    assert "duplicated lab/studio as ann/studio" in out
    assert "missing    secret GPT_KEY: python spaces/deploy.py --to ann/studio --secret GPT_KEY=VARIABLE" in out
    # The line that was shown does it.
    monkeypatch.setenv("MY_GPT_KEY", "another-key-5678")
    code, out, err = run(*"--to ann/studio --secret GPT_KEY=MY_GPT_KEY".split())
    assert code == 0 and space.secrets == {"GPT_KEY": "another-key-5678"} and "missing" not in out
    assert "another-key" not in out + err
    code, _, err = run("--from", "lab/studio", "--to", "ann/studio")
    assert code == 2 and "(409)" in err and "The name is taken." in err


def test_a_public_bucket_is_refused_before_anything_is_made(hub, connect, run):
    """What is kept in it is everybody's, and the key that signs their cookies is with it."""
    api = connect(hub.user("ann"))
    api.create_bucket("ann/open", private=False)

    def refused(*words):
        before = len(hub.requests)
        code, _, err = run(*words, "--bucket", "ann/open")
        assert code == 2 and "The bucket ann/open is public." in err and len(err.splitlines()) == 3, err
        return [str(one) for one in hub.requests[before:] if one.method != "GET" and "/buckets/" not in one.path]

    assert refused("--to", "ann/studio") == [] == refused("--to", "ann/studio", "--dry-run")
    assert "spaces/ann/studio" not in hub.storage.repos
    assert run("--to", "ann/studio")[0] == 0
    assert refused("--to", "ann/studio", "--variable", "A=1") == []
    assert refused("--from", "ann/studio", "--to", "ann/copy") == [] and "ann/copy" not in hub.spaces.all
    hub.spaces.all["ann/studio"].volumes = [{"type": "bucket", "source": "ann/open", "mountPath": "/data"}]
    assert refused("--to", "ann/studio") == [], "the one that it has"
    assert run("--to", "ann/studio", "--bucket", "ann/kept", "--dry-run")[0] == 0
    assert "ann/kept" not in hub.spaces.buckets, "a dry run makes none"


@pytest.mark.parametrize("given", [("--variable", "RLHFV_DURABLE={}"), ("--flags", "--durable {}")])
def test_a_copy_is_told_that_it_would_keep_its_work_where_the_source_does(hub, connect, run, given):
    connect(hub.user("lab"))
    name, value = given
    assert run("--to", "lab/studio", name, value.format("hf://buckets/lab/kept"))[0] == 0
    connect(hub.user("ann"))
    code, out, err = run("--from", "lab/studio")
    assert code == 0, err
    assert "hf://buckets/lab/kept is where lab/studio keeps its copy" in out
    assert "python spaces/deploy.py --to ann/studio" in out
    code, out, err = run("--from", "lab/studio", "--to", "ann/other", name, value.format("hf://buckets/ann/own"))
    assert code == 0 and "keeps its copy" not in out


def test_every_refusal_says_why_and_what_to_do(hub, connect, run, monkeypatch):
    def refused(*words) -> str:
        code, out, err = run(*words)
        lines = err.splitlines()
        assert code == 2 and len(lines) == 3 and lines[0].startswith("Error: "), err
        assert "Traceback" not in err and "hf_" not in out + err
        return err

    connect(None)
    assert "no token of the Hub" in refused("--to", "ann/studio")
    ann = hub.user("ann")
    connect(hub.user("ann", "read"))
    assert "(403)" in (told := refused("--to", "ann/studio")) and "may not create and change Spaces" in told
    connect(hub.user("ann", {"datasets/ann/pairs": "repo.write"}))
    assert "(403)" in refused("--to", "ann/studio")
    gone = hub.user("bob")
    connect(gone)
    hub.revoke(gone)
    assert "(401)" in (told := refused("--to", "bob/studio")) and "hf auth login" in told
    connect(ann)
    assert "(403)" in refused("--to", "bob/studio"), "somebody else's namespace"
    assert (
        "no hardware 'l4x7'" in (told := refused("--to", "ann/studio", "--hardware", "l4x7"))
        and "l4x1 ($0.80/h)" in told
    )
    hub.spaces.unpaid.add("ann")
    assert "(402)" in (told := refused("--to", "ann/studio")) and "--hardware zero-a10g" in told
    assert "spaces/ann/studio" not in hub.storage.repos, "what is refused leaves nothing"
    assert run("--to", "ann/studio", "--hardware", "zero-a10g")[0] == 0
    assert "(402)" in refused("--to", "ann/studio", "--hardware", "a100-large")
    hub.storage.create("spaces", "ann/game", "ann", False, "static")
    hub.commit_as("ann", "ann/game", {"index.html": b"<p>"}, repo_type="space")
    assert "taken by another Space" in (told := refused("--to", "ann/game")) and "index.html" in told
    hub.storage.create("spaces", "bob/secret", "bob", True, "gradio")
    assert "(403)" in refused("--to", "bob/secret")
    assert "no such Space" in refused("--from", "bob/secret")
    monkeypatch.delenv("GPT_KEY", raising=False)
    assert "no variable GPT_KEY" in refused("--to", "ann/studio", "--secret", "GPT_KEY")
    assert "named 'studio'" in refused("--to", "studio")
    hub.fail("POST /api/spaces/ann/studio/commit", status=412)
    hub.commit_as("ann", "ann/studio", {"app.py": b"other"}, repo_type="space")
    assert "at the same moment" in refused("--to", "ann/studio")
    assert run("--to", "ann/studio")[0] == 0
    hub.stop()
    assert "cannot be reached" in refused("--to", "ann/studio")
    hub.start()


def test_a_creation_that_was_cut_short_goes_on(hub, connect, run):
    connect(hub.user("ann"))
    hub.fail("POST /api/spaces/ann/studio/commit", status=500, times=None)
    assert run("--to", "ann/studio")[0] == 2 and len(commits(hub)) == 1
    hub.heal()
    code, out, _ = run("--to", "ann/studio")
    assert code == 0 and "7 new" in out


def test_flags_that_the_app_would_refuse_are_refused_before_anything_is_made(hub, connect, run, monkeypatch, capsys):
    connect(hub.user("ann"))
    monkeypatch.delenv("GPT_KEY", raising=False)
    for flags, said in (("--modle x", "--modle"), (FLAGS, "There is no key for 'GPT'")):
        with pytest.raises(SystemExit):
            run("--to", "ann/studio", "--flags", flags)
        assert said in capsys.readouterr().err
    assert not hub.storage.repos


def test_a_value_in_place_of_a_name_is_refused_unseen(run, capsys):
    for words in (["--secret", "hf_" + "a" * 30], ["--secret", "KEY=sk-123"]):
        with pytest.raises(SystemExit):
            run(*words)
        err = capsys.readouterr().err
        assert "by names only" in err and "sk-123" not in err and "aaaa" not in err


def test_a_token_is_no_public_variable(run, capsys):
    with pytest.raises(SystemExit):
        run("--variable", "HF_TOKEN=hf_" + "a" * 30)
    assert "use --secret HF_TOKEN" in (err := capsys.readouterr().err) and "aaaa" not in err


def test_the_spaces_own_token_is_given_by_name_only(hub, connect, run):
    connect(hub.user("ann"))
    code, out, _ = run("--to", "ann/studio", "--flags", "--publish-to ann/pairs")
    assert code == 0 and hub.spaces.all["ann/studio"].secrets == {}, "the token that deploys may do too much"
    assert "missing    secret HF_TOKEN" in out


def recorded(hub) -> list[str]:
    return [path for path in hub.paths("ann/studio", repo_type="space") if path.startswith("recorded/")]


def card(hub) -> str:
    return hub.file("ann/studio", "README.md", repo_type="space").decode()


def test_the_page_opens_on_photographs_whose_source_the_card_names(hub, connect, run, tmp_path):
    commit = put_dataset(hub, connect, tmp_path)
    connect(hub.user("ann"))
    code, out, err = run("--to", "ann/studio")
    assert code == 0, err
    assert f"photos     3 of openbmb/RLHF-V-Dataset@{commit} (cc-by-nc-4.0); --photos none: without" in out
    assert len(recorded(hub)) == 6
    wanted = (
        f"- Picture from openbmb/RLHF-V-Dataset at commit {commit[:12]}, row 8, there from LCS-558K (cc-by-nc-4.0; "
    )
    assert wanted + "author: not named there). Muffin answered." in card(hub)
    # They stay what they are when the data set moves on, and when it cannot be had.
    put_dataset(hub, connect, tmp_path, [row(30)])
    connect(hub.user("ann"))
    assert run("--to", "ann/studio")[1] == "Nothing to do: ann/studio is up to date.\n"
    code, out, _ = run("--to", "ann/studio", "--photos", "openbmb/RLHF-V-Dataset")
    assert code == 0 and "photos     1 of" in out and len(recorded(hub)) == 2 and "row 1," in card(hub)
    code, out, _ = run("--to", "ann/studio", "--photos", "none")
    assert code == 0 and "2 deleted" in out and recorded(hub) == [] and "recorded" not in card(hub)
    assert run("--to", "ann/studio")[1] == "Nothing to do: ann/studio is up to date.\n", "none stays none"
    assert hub.leaks == []


def test_own_recordings_take_the_place_of_photographs(hub, connect, run, tmp_path):
    connect(hub.user("ann"))
    made = Recorded(
        "",
        "What is there?",
        Saying("Baseline", "m@1", "A dog and a cat."),
        Saying("Aligned", "m@1 + a", "A dog."),
        "2026-11-22",
        Source("my camera", "CC-BY-4.0", "Ann"),
    )
    folder = write_recorded(made, picture(1), tmp_path / "mine" / "a").parent
    code, out, _ = run("--to", "ann/studio", "--recorded", str(folder))
    assert code == 0 and f"recorded   1 of {folder}" in out and len(recorded(hub)) == 2
    assert "- Picture: my camera by Ann (CC-BY-4.0). Baseline answered." in card(hub)
    (folder / "a" / "comparison.json").write_text("{}")
    code, _, err = run("--to", "ann/studio", "--recorded", str(folder))
    assert code == 2 and "cannot be shown" in err and len(recorded(hub)) == 2


def test_photographs_that_cannot_be_had_stop_nothing_unless_they_were_asked_for(hub, connect, run):
    connect(hub.user("ann"))
    code, _, err = run("--to", "ann/studio", "--photos", "nobody/nothing")
    assert code == 2 and "no data set 'nobody/nothing'" in err and "spaces/ann/studio" not in hub.storage.repos
    code, out, _ = run("--to", "ann/studio")
    assert code == 0 and "photos     none: There is no data set 'openbmb/RLHF-V-Dataset' on the Hub." in out


def test_a_copy_on_the_hub_needs_a_token_there(deploy):
    assert deploy.needed_secrets("--durable hf://buckets/ann/kept") == ["HF_TOKEN"]
    assert deploy.needed_secrets("--durable /data") == []
    assert deploy.needed_secrets("--model=gemma-3-4b") == ["HF_TOKEN"], "Google asks for an agreement first"
    assert deploy.needed_secrets("--model smolvlm --beside google/gemma-3-4b-it") == ["HF_TOKEN"]


LLAVA, RLAIF = "llava-hf/llava-1.5-7b-hf", "openbmb/RLAIF-V-7B"
QWEN = ["Qwen/Qwen2-VL-2B-Instruct", "psp-dada/Qwen2-VL-2B-Instruct-SENTINEL"]


@pytest.mark.parametrize(
    ("flags", "fetched"),
    [
        ("--model qwen2-vl-2b", QWEN),
        ("--model=qwen2-vl-2b", QWEN),
        ("--model llava-1.5-7b", [LLAVA, RLAIF]),
        ("--model rlaif-v-7b --beside=llava-1.5-7b", [RLAIF, LLAVA]),
        ("--model a/b --beside llava-1.5-7b", ["a/b", LLAVA, RLAIF]),
        (f"--model {LLAVA}", [LLAVA]),
        ("--model=a/b --adapter c/d --auth-file x", ["a/b", "c/d"]),
        ("--beside a/b", ["a/b"]),
    ],
)
def test_the_card_names_all_models_that_a_short_name_stands_for(deploy, flags, fetched):
    card = make_card("---\ntitle: x\n---\nText", deploy.spell_out(flags), {}).decode()
    listed = "".join(f"\n- {name}" for name in fetched)
    assert f"\nmodels:{listed}\npreload_from_hub:{listed}\n---\n" in card
