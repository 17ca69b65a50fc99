from huggingface_hub import DatasetCard

from rlhfv.corrections.edits import KINDS
from rlhfv.publishing.card import BEGIN, END, count_rows, write_card
from rlhfv.publishing.schema import FEATURES


def rows(bench, **fields):
    return [(name, bench.pair(number, **fields).to_row()) for number, name in enumerate(["annotator-1", "Ann", "Ann"])]


def card(figures, present=""):
    return write_card("ann/pairs", figures, present, FEATURES)


def test_what_is_counted_stands_in_the_text(bench):
    text = card(count_rows(rows(bench), judgements=4))
    for line in ("Preference pairs | 3", "Pictures | 3", "Corrections | 3 (1.00 an answer)", "a correction | 4"):
        assert f"{line} |" in text
    assert "Ann (2), annotator-1 (1)" in text and "| cc-by-4.0 | 3 |" in text
    assert "| llava-hf/llava-1.5-7b-hf | 3 |" in text
    chart = text.partition("```text\n")[2].partition("```")[0].splitlines()
    assert [line.split()[0] for line in chart] == list(KINDS)
    assert next(line for line in chart if line.startswith("attribute")).split() == ["attribute", "3", "█" * 30]


def test_the_header_declares_all_columns(bench):
    data = DatasetCard(card(count_rows(rows(bench), 0))).data.to_dict()
    declared = {info["config_name"]: [one["name"] for one in info["features"]] for info in data["dataset_info"]}
    assert declared == {"default": list(FEATURES["pairs"]), "judgements": list(FEATURES["judgements"])}
    assert [config["config_name"] for config in data["configs"]] == ["default", "judgements"]
    assert data["license"] == "cc-by-4.0" and data["size_categories"] == ["n<1K"]
    assert not {"num_bytes", "num_examples", "splits"} & set().union(*data["dataset_info"])


def test_several_licences_are_all_named(bench):
    mixed = [*rows(bench), *rows(bench, licence="CC0-1.0"), *rows(bench, licence="my own")]
    assert DatasetCard(card(count_rows(mixed, 0))).data.license == ["cc-by-4.0", "cc0-1.0", "other"]


def test_the_same_figures_change_nothing(bench):
    figures = count_rows(rows(bench), 1)
    text = card(figures)
    assert card(figures, text) == text == card(figures)


def test_what_the_owner_wrote_stays(bench):
    text = card(count_rows(rows(bench), 1))
    edited = (
        "---\npretty_name: Ours\n" + text.removeprefix("---\n").replace(BEGIN, f"Before.\n\n{BEGIN}") + "\nAfter.\n"
    )
    again = card(count_rows(rows(bench)[:1], 1), edited)
    assert "Before." in again and "After." in again and "pretty_name: Ours" in again
    assert "Preference pairs | 1 |" in again and "Preference pairs | 3 |" not in again
    own = "---\nlicense: mit\n---\n# All my own words\n"
    replaced = card(count_rows(rows(bench), 1), own)
    assert DatasetCard(replaced).text.strip() == "# All my own words" and "dataset_info" in replaced


def test_names_and_a_broken_header_do_no_harm(bench):
    evil = [("<img onerror=x>|`a`\n# T", row) for _, row in rows(bench, licence="a|b\n<script>")]
    text = card(count_rows(evil, 0), "---\n: [broken\n---\nMine.\n")
    assert "<img" not in text and "<script" not in text and "Mine." in text
    assert text.count("\n# ") == 0 and "| a&#124;b &#60;script&#62; | 3 |" in card(count_rows(evil, 0))
    assert BEGIN in card(count_rows([], 0)) and END in card(count_rows([], 0))
