"""The verbs of the command line and their flags."""

import argparse

import pytest

from rlhfv.cli import build_parser, main


def every_verb(parser=None, before=()):
    for action in (parser or build_parser())._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                yield (*before, name)
                yield from every_verb(inner, (*before, name))


@pytest.mark.parametrize("verb", [(), *every_verb()], ids=" ".join)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0 and "usage: python -m rlhfv" in capsys.readouterr().out


def test_the_verbs_of_the_issue_are_there():
    verbs = {" ".join(verb) for verb in every_verb()}
    assert {"chat", "train", "evaluate"} <= verbs
    assert {f"pairs {name}" for name in ("list", "show", "export", "import")} <= verbs
    assert {f"runs {name}" for name in ("list", "show", "follow", "stop", "resume", "export")} <= verbs
    assert {f"demo {name}" for name in ("build", "scene", "annotate", "evaluate")} <= verbs


def flags_of(*verb):
    parser = build_parser()
    for name in verb:
        [groups] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = groups.choices[name]
    return [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]


VERBS = [verb for verb in every_verb() if not any(other[: len(verb)] == verb != other for other in every_verb())]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_speaks_json_and_explains_its_flags(verb):
    flags = flags_of(*verb)
    assert "--json" in [name for flag in flags for name in flag.option_strings]
    assert [flag.dest for flag in flags if not flag.help] == []


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("train", ["--adapter"]),
        ("pairs list", ["--model", "--adapter"]),
        ("runs list", ["--model", "--adapter"]),
        ("demo build", ["--model", "--adapter"]),
        ("demo scene", ["--model", "--adapter", "--data-dir"]),
        ("demo annotate", ["--model", "--adapter", "--data-dir"]),
        ("demo evaluate", ["--model", "--adapter", "--data-dir"]),
    ],
)
def test_no_verb_has_a_flag_that_it_does_not_use(verb, flags):
    assert not set(flags) & {name for one in flags_of(*verb.split()) for name in one.option_strings}


@pytest.mark.parametrize("bad", [["--limit", "-1"], ["--offset", "-1"], ["--limit", "all"], ["--kind", "colour"]])
def test_a_list_takes_counts_and_known_kinds(bad, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["pairs", "list", *bad])
    assert ended.value.code == 2 and bad[1] in capsys.readouterr().err
