"""One file that asks for nothing, runs nothing, and tells the truth in full."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from rlhfv.evaluation import sentences
from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.comparison import Change
from rlhfv.evaluation.page import PICTURE_SIDE, SHOWN, Side, render, small_picture, span_of
from tests.evaluation.comparisons import COVER, RATE, make_comparison

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;</style>"
SIDES = Side("Baseline", {"model": "llava@1", "decoding": "greedy"}), Side("Aligned", {"model": "llava@2"})


class Read(HTMLParser):
    VOID = {"meta", "img", "rect", "circle"}

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.text.append(data)


def picture_of(row) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), (len(row.item.id) * 20 % 255, 80, 120)).save(buffer, "PNG")
    return small_picture(buffer.getvalue())


def test_everything_stands_on_the_page():
    page = render(make_comparison(), SIDES, "22 November 2026")
    read = Read(page)
    assert read.open == []
    text = " ".join(" ".join(read.text).split())
    for told in (
        "made-up: Baseline and Aligned",
        "Counted as: by hand",
        "Better, at a price. Answers with an error: 42.5 % → 17.5 %",
        "paired over 40 items: -25.0 points [",
        "12 mended, 2 broken: McNemar's exact test, two-sided, p = 0.013",
        "Price: Objects named -25.0 points [no interval: all items alike]; Words per answer",
        "40 items: 2 broken, 12 mended, 5 still wrong, 21 right.",
        "decoding greedy –",
        "22 November 2026",
    ):
        assert told in text, told
    assert text.index("What broke") < text.index("What was mended") < text.index("Still wrong")


def test_the_page_asks_for_nothing_and_runs_nothing():
    read = Read(render(make_comparison(), SIDES, picture=picture_of))
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(read.tags)
    addresses = [value for _, name, value in read.attributes if name in ("src", "href", "action", "data")]
    assert addresses and all(value.startswith("data:image/jpeg;base64,") for value in addresses)
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    assert "url(" not in render(make_comparison(), SIDES) and "@import" not in render(make_comparison(), SIDES)
    [policy] = [value for tag, name, value in read.attributes if tag == "meta" and value and "default-src" in value]
    assert "default-src 'none'" in policy and "script" not in policy


def test_whatever_was_said_is_text():
    comparison = make_comparison(count=6, mended=1, broken=1, still=1)
    rows = tuple(
        replace(row, item=replace(row.item, id=HOSTILE, question=HOSTILE, group=HOSTILE), answers=(HOSTILE, "fine"))
        for row in comparison.rows
    )
    comparison = replace(comparison, rows=rows, notes=(HOSTILE,), benchmark=HOSTILE, variant=HOSTILE)
    sides = Side(HOSTILE, {HOSTILE: HOSTILE}), Side(HOSTILE, {})
    read = Read(render(comparison, sides, HOSTILE))
    assert "script" not in read.tags and "img" not in read.tags and read.tags.count("style") == 1
    assert " ".join(read.text).count("alert(1)") >= 20


def test_answers_keep_every_character_and_their_marks():
    page = render(make_comparison(count=2, mended=1, broken=0, still=0), SIDES)
    [said] = re.findall(r'<div class="said">(.*?)</article>', page)
    before, after = (re.sub("<[^>]+>", "", part) for part in re.findall(r'<p dir="auto">(.*?)</p>', said))
    assert (before, after) == ("A man with a red hat and a dog.", "A man with a dog.")
    assert re.findall(r'<span class="fault" title="object">([^<]*)</span>', said) == ["red hat"]
    assert "<mark>" in said.split("Aligned")[0] and "<mark>" not in said.split("Aligned")[1]


def test_items_and_pictures_are_bounded_and_may_be_left_out():
    comparison = make_comparison(count=200, mended=60, broken=50, still=40)
    asked = []

    def picture(row):
        asked.append(row.outcome)
        return picture_of(row)

    page = render(comparison, SIDES, picture=picture)
    assert {name: asked.count(name) for name in SHOWN} == SHOWN and len(asked) == sum(SHOWN.values())
    assert page.count("<article>") == page.count("<img ") == len(asked) and len(page) < 500_000
    assert "the first 12 of 50" in page
    without = render(comparison, SIDES, picture=picture, with_pictures=False)
    assert "<img" not in without and without.count("<article>") == len(asked)


def test_a_picture_becomes_small_and_what_is_none_is_left_out(tmp_path):
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Olga's kitchen", 6
    Image.effect_noise((600, 400), 40).convert("RGB").save(file, exif=exif)
    small = small_picture(file)
    image = Image.open(io.BytesIO(small))
    assert max(image.size) == PICTURE_SIDE and image.height > image.width, "it is turned as the camera was"
    assert b"Olga" not in small and len(small) < 40_000
    assert small_picture(b"no picture") is None and small_picture(tmp_path / "missing.jpg") is None


@pytest.mark.parametrize(
    ("p", "told"), [(0.0129, "p = 0.013"), (1.0, "p = 1"), (2.4e-7, "p = 2.4e-07"), (0.0, "p < 1e-300")]
)
def test_no_p_value_is_rounded_away(p, told):
    assert sentences.show_p(replace(make_comparison().flips, p=p)) == told


def test_a_price_of_many_figures_names_three_and_counts_the_others():
    made = make_comparison()
    free = replace(made.prices[0], p=1.0)
    told = sentences.price(replace(made, prices=(free,) * 5).beside((made,)))
    assert told.count("Objects named") == 3 and "; 2 more figures below; made-up: Answers with an error" in told


def test_a_price_names_what_became_clearly_worse_among_the_gains_too():
    made, worse = make_comparison(), make_comparison(mended=0, broken=15)
    (change,) = worse.gains
    told = sentences.price(replace(made, gains=(*made.gains, change)))
    assert sentences.headline(replace(made, gains=(*made.gains, change))).startswith("Better, at a price")
    assert told.startswith("Price: Answers with an error +37.5 points") and "Objects named" in told


def test_a_headline_says_when_nothing_is_sure():
    nothing = make_comparison(mended=3, broken=2)
    assert sentences.headline(nothing) == "No clear difference. Answers with an error: 20.0 % → 17.5 %"
    free = make_comparison()
    assert sentences.headline(replace(free, prices=free.prices[1:])).startswith("Better. ")
    worse = make_comparison(mended=0, broken=15)
    assert sentences.headline(worse).startswith("Worse. ")
    undefined = Figure(None, None, None)
    change = Change(COVER, undefined, Figure(1, 0, 2), undefined, 1.0)
    comparison = replace(nothing, gains=(change,))
    assert "not defined in both sets" in sentences.headline(comparison)
    assert Read(render(comparison, SIDES)).open == []
    assert sentences.show_value(COVER, undefined) == sentences.show_difference(change) == "–"


def test_shares_are_drawn_from_0_to_100_and_others_to_their_largest():
    figure = Figure(40.0, 30.0, 50.0)
    assert span_of(Change(RATE, figure, figure, figure, 1.0)) == (0, 100)
    words = replace(RATE, unit="words")
    assert span_of(Change(words, figure, Figure(90, 80, 100), figure, 1.0)) == (0, pytest.approx(110))
    assert span_of(Change(words, Figure(None, None, None), Figure(0, 0, 0), figure, 1.0)) == (0, 1)
