"""A comparison leaves the chat: as a picture and under a link. For the phone's own sharing see test_phone.py."""

import io
import re

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser
QUESTION = "Was steht auf dem Tisch? 桌子上有什么 😀 ماذا على الطاولة"


@pytest.fixture
def asked(studio, open_page):
    """A page with a picture and one answered question, its share panel open."""

    def start(**options):
        page = open_page(studio.address, **options)
        page.locator("body[data-ready]").wait_for()
        buffer = io.BytesIO()
        Image.linear_gradient("L").resize((640, 420)).convert("RGB").save(buffer, "PNG")
        file = {"name": "picture.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        page.set_input_files("#chat-picture input[type=file]", file)
        page.locator("#chat-picture img[src*='images/']").wait_for()
        page.locator("#question textarea").fill(QUESTION)
        page.locator("#question textarea").press("Enter")
        page.locator("#right-column .actions").wait_for()
        page.locator("#share-comparison").click()
        page.locator("#share canvas").wait_for()
        return page

    return start


def test_the_picture_holds_the_comparison_and_a_link_shows_it_until_it_is_withdrawn(asked, open_page, tmp_path):
    page = asked()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    assert download.value.suggested_filename == "comparison.png"
    download.value.save_as(tmp_path / "comparison.png")
    drawn = np.asarray(Image.open(tmp_path / "comparison.png").convert("RGB"))
    assert drawn.shape[1] == 1800
    picture = drawn[66:600, 66:800]
    assert len(np.unique(picture[..., 0])) > 100, "the picture itself is in it"
    assert (drawn == (15, 23, 42)).all(-1).sum() > 2000, "and text"

    publish = page.get_by_role("button", name="Make a public link")
    assert publish.is_disabled()
    page.locator("#share-agree").check()
    publish.click()
    link = page.locator("#share li.new a")
    link.wait_for()
    address = link.get_attribute("href")
    assert re.search(r"/shared/[\w-]{22}$", address)
    guest = open_page(address)
    assert guest.locator("h1").inner_text() == QUESTION
    assert guest.locator("section").count() == 2
    assert guest.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 640
    page.get_by_role("button", name="Withdraw").click()
    link.wait_for(state="detached")
    assert guest.request.get(address).status == 404
    assert guest.request.get(f"{address}/picture").status == 404
    page.locator("#share-agree").check()
    publish.click()
    link.wait_for()
    page.get_by_role("button", name="New conversation", exact=True).click()
    page.get_by_text("No question yet.").first.wait_for()
    page.locator("#share-comparison").click()
    page.locator("#share [role=alert]").get_by_text("no comparison to share").wait_for()
    page.get_by_role("button", name="Withdraw").click()
    page.locator("#share li").wait_for(state="detached")
    page.locator("#share").get_by_role("button", name="Close").click()
    page.locator("#share .act").first.wait_for(state="detached")
