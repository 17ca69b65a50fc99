"""What `reproduce --model … --data …` needs, made up and small: a LLaVA that was taught twelve sentences, corrections
as RLHF-V publishes them, and a folder with POPE, AMBER, COCO's annotations and Object HalBench.
"""

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from rlhfv.models.processors import load_processor
from tests.models.tiny import build_llava
from tests.publishing.formats.rows import picture, write_parquet

PICTURES = 6
THERE, SAID = ("dog", "cup"), ("dog", "cat")
"""What every picture shows, and what the model says of each: it invents a cat."""
DESCRIBE = "Please describe this image in detail."
ANSWER = "There is a dog and a cat."
PAIRS = 24


def make_benchmarks(root: Path, pictures: int = PICTURES) -> Path:
    """All files of the benchmarks that need no judge, with pictures wider than high."""
    amber, coco, pope = root / "amber", root / "coco", root / "pope"
    for folder in (amber / "query", amber / "image", coco / "annotations", coco / "val2014", pope):
        folder.mkdir(parents=True)
    (root / "object-halbench").mkdir()
    numbers = range(1, pictures + 1)
    names = {number: f"COCO_val2014_{number:012}.jpg" for number in numbers}
    for number in numbers:
        _draw(amber / "image" / f"AMBER_{number}.jpg", number)
        _draw(coco / "val2014" / names[number], number)
    _dump(
        coco / "annotations" / "instances_val2014.json",
        {
            "images": [{"id": number} for number in numbers],
            "categories": [{"id": place, "name": name} for place, name in enumerate(THERE, 1)],
            "annotations": [{"image_id": number, "category_id": place} for number in numbers for place in (1, 2)],
        },
    )
    _dump(
        coco / "annotations" / "captions_val2014.json",
        {
            "images": [{"id": number, "file_name": names[number]} for number in numbers],
            "annotations": [{"image_id": number, "caption": "A dog beside a cup."} for number in numbers],
        },
    )
    _lines(
        root / "object-halbench" / "obj_halbench_300_with_image.jsonl",
        [{"image_id": number, "question": DESCRIBE} for number in numbers],
    )
    for split in ("random", "popular", "adversarial"):
        asked = [(number, name, "yes") for number in numbers for name in THERE]
        asked += [(number, name, "no") for number in numbers for name in ("cat", "car")]
        _lines(
            pope / f"coco_pope_{split}.json",
            [
                {"question_id": place, "image": names[number], "text": _is_there(name), "label": label}
                for place, (number, name, label) in enumerate(asked, 1)
            ],
        )
    keys = [{"id": id, "type": "generative", "truth": list(THERE), "hallu": ["cat"]} for id in numbers]
    asked = {"attribute": [], "existence": [], "relation": []}
    kinds = (
        ("existence", "discriminative-hallucination", "cat", "no"),
        ("attribute", "discriminative-attribute-state", "dog", "yes"),
        ("relation", "relation", "car", "no"),
    )
    for part, kind, name, truth in kinds:
        for number in numbers:
            keys.append({"id": len(keys) + 1, "type": kind, "truth": truth})
            asked[part].append({"id": len(keys), "image": f"AMBER_{number}.jpg", "query": _is_there(name)})
    _dump(amber / "annotations.json", keys)
    _dump(amber / "relation.json", {name: [] for name in ("dog", "cup", "cat", "car")})
    (amber / "safe_words.txt").write_text("shoe\n", encoding="utf-8")
    described = [{"id": id, "image": f"AMBER_{id}.jpg", "query": "Describe this image."} for id in numbers]
    _dump(amber / "query" / "query_generative.json", described)
    for part, rows in asked.items():
        _dump(amber / "query" / f"query_discriminative-{part}.json", rows)
    return root


def make_data(file: Path, count: int = PAIRS) -> Path:
    """Corrections in the seven columns of RLHF-V-Dataset: of what the model says, the cat is a cup."""
    rows = []
    for number in range(count):
        path = f"raw/{number:06}.jpg"
        text = {"question": DESCRIBE, "chosen": ANSWER.replace("cat", "cup"), "rejected": ANSWER}
        rows.append(
            {
                "ds_name": "RLHF-V",
                "image": {"bytes": picture(number), "path": path.rpartition("/")[2]},
                "text": json.dumps(text),
                "origin_dataset": "LCS-558K",
                "origin_split": json.dumps({"model": "tiny", "type": "detailed_description"}),
                "idx": number,
                "image_path": path,
            }
        )
    return write_parquet(rows, file)


def make_model(folder: Path, epochs: int = 40) -> Path:
    """A tiny LLaVA that says "There is a dog and a cat." of every picture and Yes to all but a car."""
    torch.manual_seed(0)
    build_llava(folder, initializer_range=0.05)
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).train()
    processor = load_processor(folder, square=True)
    lessons = [(DESCRIBE, ANSWER), ("Describe this image.", ANSWER)]
    lessons += [(_is_there(name), "No" if name == "car" else "Yes") for name in ("dog", "cup", "cat", "car")]
    batch = [_encode(processor, question, answer) for question, answer in lessons]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for inputs in batch:
            model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(folder)
    return folder


def _encode(processor, question: str, answer: str) -> dict:
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(asked, add_generation_prompt=True)
    image = Image.new("RGB", (60, 40), (90, 140, 200))
    both = [processor(text=[text], images=[image], return_tensors="pt") for text in (prompt, f"{prompt}{answer}</s>")]
    labels = both[1]["input_ids"].clone()
    labels[:, : both[0]["input_ids"].shape[1]] = -100
    return {**both[1], "labels": labels}


def _is_there(name: str) -> str:
    return f"Is there a {name} in the image?"


def _draw(path: Path, seed: int) -> None:
    image = Image.new("RGB", (60, 40), (90, 140, 40 * seed % 256))
    ImageDraw.Draw(image).rectangle((5 + seed, 5, 25, 30), (200, 60, 30))
    image.save(path)


def _dump(path: Path, value) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
