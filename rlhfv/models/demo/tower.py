"""Stage one of the build: a CLIP tower learns to see what stands in each cell.

From captions alone a tower of this size stays blind for hours; asked directly it sees within minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel, CLIPVisionConfig

from rlhfv.models.demo.objects import CLASS_NAMES
from rlhfv.models.demo.plan import (
    GRID,
    PATCH,
    PICTURE_SIDE,
    Log,
    Plan,
    choose,
    mark_of,
    rate_at,
    save_checkpoint,
    use_bfloat16,
)
from rlhfv.models.demo.scenes import SCENE_TYPES, Scene, draw_scene, render

EMPTY = len(CLASS_NAMES)
CELL_OF_PATCH = torch.tensor([(row // 2) * 3 + column // 2 for row in range(GRID) for column in range(GRID)])


def vision_config(plan: Plan) -> CLIPVisionConfig:
    """The tower's shape."""
    return CLIPVisionConfig(
        hidden_size=plan.tower_hidden,
        intermediate_size=plan.tower_hidden * 4,
        num_hidden_layers=plan.tower_layers,
        num_attention_heads=plan.tower_heads,
        image_size=PICTURE_SIDE,
        patch_size=PATCH,
    )


def picture_array(scene: Scene) -> numpy.ndarray:
    """The picture as the tower's processor resizes it: uint8, 3×144×144."""
    small = render(scene).resize((PICTURE_SIDE, PICTURE_SIDE), 3)  # 3: bicubic, as in preprocessor_config.json
    return numpy.asarray(small).transpose(2, 0, 1)


def to_pixels(pictures: numpy.ndarray) -> torch.Tensor:
    """uint8 pictures → float pixels in -1..1, as the processor normalises them."""
    return torch.from_numpy(pictures).float().div_(127.5).sub_(1.0)


def labels_of(scene: Scene) -> numpy.ndarray:
    """int64, 19 numbers: class of each cell, count of each cell, scene type."""
    labels = numpy.zeros(19, dtype=numpy.int64)
    labels[:9] = EMPTY
    for placed in scene.objects:
        labels[placed.cell] = CLASS_NAMES.index(placed.name)
        labels[9 + placed.cell] = placed.count
    labels[18] = SCENE_TYPES.index(scene.scene_type)
    return labels


class Sight(nn.Module):
    """The tower with the questions it is trained on; the questions are thrown away afterwards."""

    def __init__(self, plan: Plan):
        super().__init__()
        self.tower = AutoModel.from_config(vision_config(plan))
        self.norm = nn.LayerNorm(plan.tower_hidden)
        self.name = nn.Linear(plan.tower_hidden, EMPTY + 1)
        self.count = nn.Linear(plan.tower_hidden, 4)
        self.place = nn.Linear(plan.tower_hidden, 9)
        self.kind = nn.Linear(plan.tower_hidden, len(SCENE_TYPES))

    def forward(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the share of cells named right."""
        patches = self.norm(self.tower(pixels).last_hidden_state[:, 1:])
        rows = patches.unflatten(1, (3, 2, 3, 2))
        cells = rows.mean(dim=(2, 4)).flatten(1, 2)
        names, counts, scene_types = labels[:, :9], labels[:, 9:18], labels[:, 18]
        guesses = self.name(cells)
        loss = cross_entropy(guesses.flatten(0, 1).float(), names.flatten())
        loss = loss + 0.5 * cross_entropy(self.count(cells).flatten(0, 1).float(), counts.flatten())
        loss = loss + 0.2 * cross_entropy(self.kind(patches.mean(1)).float(), scene_types)
        # Each patch alone must know its cell and what stands there: the language model reads patches, not cells.
        per_patch = names[:, CELL_OF_PATCH].flatten()
        loss = loss + 0.3 * cross_entropy(self.name(patches).flatten(0, 1).float(), per_patch)
        places = CELL_OF_PATCH.expand(len(labels), -1).flatten()
        loss = loss + 0.1 * cross_entropy(self.place(patches).flatten(0, 1).float(), places)
        return loss, (guesses.argmax(-1) == names).float().mean()


def mark_of_tower(plan: Plan, seed: int) -> str:
    """Changes with whatever the tower learns from. Work files carry it, so a changed scene starts a new tower."""
    scenes = [draw_scene("base", number) for number in range(100)]
    pictures = [picture_array(scene).sum(dtype=int).item() for scene in scenes[:20]]
    return mark_of(seed, plan.part("tower"), [scene.to_dict() for scene in scenes], pictures)


def draw_pictures(work_dir: Path, mark: str, scenes: int, log: Log) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Pictures and labels of the first base scenes; kept in the work folder, drawn once."""
    pictures_path, labels_path = work_dir / f"pictures_{mark}.npy", work_dir / f"labels_{mark}.npy"
    if not labels_path.exists():
        shape = (scenes, 3, PICTURE_SIDE, PICTURE_SIDE)
        pictures = numpy.lib.format.open_memmap(pictures_path, mode="w+", dtype=numpy.uint8, shape=shape)
        labels = numpy.zeros((scenes, 19), dtype=numpy.int64)
        for seed in range(scenes):
            scene = draw_scene("base", seed)
            pictures[seed], labels[seed] = picture_array(scene), labels_of(scene)
            if seed % 8_000 == 7_999:
                log.write("pictures", drawn=seed + 1, of=scenes)
        pictures.flush()
        numpy.save(labels_path, labels)
    return numpy.load(pictures_path, mmap_mode="r"), numpy.load(labels_path)


def train_tower(work_dir: Path, plan: Plan, seed: int, mark: str, log: Log) -> dict[str, torch.Tensor]:
    """The trained tower's state. Goes on from the last checkpoint in the work folder."""
    path = work_dir / f"tower_{mark}.pt"
    pictures, labels = draw_pictures(work_dir, mark, plan.tower_scenes, log)
    torch.manual_seed(seed)
    sight = Sight(plan)
    optimizer = torch.optim.AdamW(sight.parameters(), lr=plan.tower_rate, weight_decay=0.05, betas=(0.9, 0.98))
    start = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        start = saved["step"]
        sight.load_state_dict(saved["sight"])
        optimizer.load_state_dict(saved["optimizer"])
        log.write("tower resumed", step=start)
    recent_loss = recent_right = None
    for step in range(start, plan.tower_steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.tower_rate * rate_at(step, plan.tower_steps)
        chosen = sorted(choose(seed, step, plan.tower_scenes, plan.tower_batch))
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16()):
            loss, right = sight(to_pixels(pictures[chosen]), torch.from_numpy(labels[chosen]))
        loss.backward()
        nn.utils.clip_grad_norm_(sight.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent_loss = loss.item() if recent_loss is None else 0.95 * recent_loss + 0.05 * loss.item()
        recent_right = right.item() if recent_right is None else 0.95 * recent_right + 0.05 * right.item()
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.tower_steps:
            save_checkpoint(path, step=step + 1, sight=sight.state_dict(), optimizer=optimizer.state_dict())
            log.write("tower", step=step + 1, loss=round(recent_loss, 4), cells_right=round(recent_right, 4))
    return sight.tower.state_dict()
