"""Makes the demo model from nothing: `python -m rlhfv.models.demo.build --work-dir FOLDER --output FOLDER`.

Two stages, each with checkpoints in the work folder, so an interrupted build goes on where it was. What is in
`weights/` is what this module made; `build_log.jsonl` beside it tells how.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from rlhfv.errors import InvalidData
from rlhfv.models.demo.language import DETAILED_PROMPT
from rlhfv.models.demo.plan import FULL, Log, Plan, machine
from rlhfv.models.demo.scenes import draw_scene, render, scene_source
from rlhfv.models.demo.speaker import (
    build_model,
    build_processor,
    build_tokenizer,
    cache_features,
    mark_of_language,
    train_speaker,
)
from rlhfv.models.demo.tower import mark_of_tower, train_tower

README = Path(__file__).with_name("weights_readme.md")


def build(
    work_dir: Path,
    output: Path,
    seed: int = 0,
    progress: Callable[[str], None] = print,
    plan: Plan = FULL,
) -> dict:
    """Build the model into `output` and return the figures of the stored file.

    `work_dir` holds checkpoints and cached pictures (about 3 GB) and may be deleted afterwards. Raises InvalidData
    when it lies inside `output`.
    """
    work_dir, output = Path(work_dir), Path(output)
    if work_dir.resolve().is_relative_to(output.resolve()):
        raise InvalidData(
            "The work folder lies inside the output folder.", "The output is replaced at the end.", "Choose another."
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    tower_mark = mark_of_tower(plan, seed)
    language_mark = mark_of_language(plan, seed, tower_mark)
    tower_log = Log(work_dir / f"tower_{tower_mark}.jsonl", progress)
    tower_state = train_tower(work_dir, plan, seed, tower_mark, tower_log)
    log = Log(work_dir / f"speaker_{language_mark}.jsonl", progress)
    log.write("start", seed=seed, plan=asdict(plan), machine=machine())
    torch.manual_seed(seed + 1)
    processor = build_processor(build_tokenizer(plan, seed))
    model = build_model(plan, processor.tokenizer)
    log.write("model", parameters=sum(value.numel() for value in model.parameters()))
    features = cache_features(work_dir, plan, tower_mark, tower_state, model, log)
    train_speaker(work_dir, plan, seed, language_mark, model, processor.tokenizer, features, log)
    store(model, processor, output)
    figures = evaluate(output, plan.test_scenes, work_dir / f"answers_{language_mark}.jsonl")
    log.write("figures", scenes=plan.test_scenes, **figures)
    (output / "build_log.jsonl").write_text(tower_log.path.read_text() + log.path.read_text())
    return figures


def store(model: LlavaForConditionalGeneration, processor, output: Path) -> None:
    """Write model, processor and notice so that any `from_pretrained` loads them; bfloat16 on disk."""
    output.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(output)
    processor.save_pretrained(output)
    # The file is bfloat16 for its size; "float32" here makes from_pretrained compute in the precision in which
    # batched and single rows agree token for token.
    path = output / "config.json"
    config = json.loads(path.read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n")
    shutil.copyfile(README, output / "README.md")


def load(folder: Path) -> tuple[LlavaForConditionalGeneration, object]:
    """The stored model, in float32, and its processor: what anyone's `from_pretrained` gives."""
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    return model, AutoProcessor.from_pretrained(folder)


def ask(model, processor, pictures: list[Image.Image], question: str, **sampling) -> list[str]:
    """One answer to the same question for each picture, greedy unless `sampling` says otherwise."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(images=pictures, text=[prompt] * len(pictures), return_tensors="pt")
    with torch.inference_mode():
        rows = model.generate(**inputs, **sampling)
    return processor.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def evaluate(folder: Path, scenes: int, answers_path: Path | None = None, split: str = "test") -> dict:
    """Greedy detailed descriptions of a split's first scenes, measured against the truth."""
    from rlhfv.models.demo.world import DemoWorld, summarise

    model, processor = load(folder)
    answers = []
    for start in range(0, scenes, 50):
        drawn = [draw_scene(split, seed) for seed in range(start, min(start + 50, scenes))]
        said = ask(model, processor, [render(scene) for scene in drawn], DETAILED_PROMPT)
        answers += [(scene_source(scene), answer) for scene, answer in zip(drawn, said, strict=True)]
    if answers_path:
        answers_path.write_text("".join(json.dumps({"source": a, "answer": b}) + "\n" for a, b in answers))
    return summarise(DemoWorld().measure(answers))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("weights"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    build(options.work_dir, options.output, options.seed, progress=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
