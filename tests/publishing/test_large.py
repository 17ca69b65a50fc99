"""5,000 pairs on the Hub, then 50 more: what goes over the wire, over real Xet; and 20,000 in the store."""

import io
import os
import time
from dataclasses import replace

import pytest
from PIL import Image

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.published import SHARD_ROWS, Remote
from tests.publishing.conftest import REPO

pytestmark = pytest.mark.slow
PAIRS, MORE, MANY = 5_000, 50, 20_000


def picture() -> bytes:
    """A JPEG of noise, about 9 kB."""
    buffer = io.BytesIO()
    Image.frombytes("L", (96, 96), os.urandom(96 * 96)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.mark.parametrize("transport", ["xet"], indirect=True)
def test_fifty_more(hub, bench, push, transport):
    def add(numbers) -> int:
        size, pairs = 0, []
        for number in numbers:
            image = bench.shelf.intake(picture())
            size += image.bytes
            pairs.append(bench.pair(number, prompt=Prompt("What is on the table?", (image.name,))))
        bench.store.add_pairs(pairs)
        return size

    first = add(range(PAIRS))
    began = time.monotonic()
    push(bench)
    seconds, sent = time.monotonic() - began, hub.xet_bytes
    body = hub.received_bytes
    new = add(range(PAIRS, PAIRS + MORE))
    began = time.monotonic()
    push(bench)
    wire, requests = hub.xet_bytes - sent, hub.received_bytes - body
    shard = len(hub.file(REPO, f"data/train-{PAIRS // SHARD_ROWS:05}.parquet"))
    print(
        f"\n{PAIRS:,} pairs with {first / 1e6:.1f} MB of pictures: {sent / 1e6:.1f} MB sent in {seconds:.0f} s. "
        f"{MORE} more with {new / 1e6:.3f} MB: {wire / 1e6:.3f} MB sent and {requests / 1e3:.0f} kB of requests in "
        f"{time.monotonic() - began:.1f} s; their shard has {shard / 1e6:.3f} MB"
    )
    assert wire < new + 200_000

    old = bench.store.pair("pair-17")
    bench.store.add_pairs([bench.pair(17, colour="green", prompt=old.prompt)])
    sent = hub.xet_bytes
    push(bench)
    print(f"one edit: {(hub.xet_bytes - sent) / 1e3:.0f} kB sent")
    assert hub.xet_bytes - sent < len(hub.file(REPO, "data/train-00000.parquet")) / 3  # the chunks that changed


def test_what_waits_is_known_at_once_among_many(bench):
    pair = bench.pair(1)
    bench.store.add_pairs(replace(pair, id=f"p{number:06}") for number in range(MANY))
    began = time.monotonic()
    batch = bench.published.freeze(REPO, lambda name: 5_000)
    frozen = time.monotonic() - began
    assert len(batch.changes) == MANY and len(batch.shards) == MANY // SHARD_ROWS
    bench.published.take_lease(REPO, "me", 600)
    bench.published.record(REPO, "me", Remote("h"), batch.changes)
    bench.add(2, 3)
    began = time.monotonic()
    assert bench.published.waiting(REPO).added == 2
    waiting = time.monotonic() - began
    began = time.monotonic()
    assert len(bench.published.freeze(REPO, lambda name: 5_000).shards) == 1
    small = time.monotonic() - began
    print(f"\n{MANY:,} pairs: frozen in {frozen:.1f} s; then what waits in {waiting:.2f} s, two more in {small:.2f} s")
    assert waiting < 2 and small < 2
