"""The 90 GPT-4 answers of LLaVA-Bench about 30 pictures of COCO, with what is in the pictures."""

import json

from rlhfv.evaluation.coco_annotations import image_id, read_lines


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def answers_and_truth(benchmarks, category):
    """The answers of a category ("detail", "conv", "complex") by question id, and the classes in their pictures."""
    folder = benchmarks / "llava_bench_coco"
    pictures = read_lines(folder / "caps_boxes_coco2014_val_80.jsonl")
    images = {str(row["question_id"]): image_id(row["image"]) for row in read_rows(folder / "qa90_questions.jsonl")}
    rows = read_rows(folder / "qa90_gpt4_answer.jsonl")
    answers = {str(row["question_id"]): row["text"] for row in rows if row["category"] == category}
    return answers, {id: pictures[images[id]].truth for id in answers}


def invented_words(score, answers):
    """Item id → the wrong words of its answer, for the items that have any."""
    return {
        id: [answers[id][fault.start : fault.end] for fault in faults]
        for id, faults in zip(score.ids, score.faults, strict=True)
        if faults
    }
