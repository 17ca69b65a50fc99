"""What a machine has for a run, told without loading torch."""

import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import rlhfv
from rlhfv.settings import on_zero_gpu


def describe_machine() -> dict:
    """`gpus` (name and memory of each), `cpus`, `memory` in bytes, and the versions that train."""
    return {
        "gpus": _list_gpus(),
        "cpus": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "rlhfv": rlhfv.__version__,
        "torch": metadata.version("torch"),
    }


def show_machine(about: dict) -> str:
    """ "2 x NVIDIA L4, 24 GB" or "8 CPUs, 32 GB"."""
    gpus = about.get("gpus") or []
    if not gpus:
        return f"{about.get('cpus', '?')} CPUs, {about.get('memory', 0) / 1e9:.0f} GB"
    return "; ".join(f"{gpus.count(gpu)} x {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in dict.fromkeys(gpus))


def show_age(seen: datetime) -> str:
    """ "just now", "5 min ago", "3 h ago", "2 days ago"."""
    minutes = int((datetime.now(UTC) - seen).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"


def count_gpus() -> int:
    """NVIDIA GPUs that a process started now may use, without asking torch, which would cost seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])


def has_gpu() -> bool:
    """Whether there is one of NVIDIA, AMD or WSL, by their device files; none that is lent by the call."""
    if on_zero_gpu():
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists() or Path("/dev/dxg").exists()


def is_accelerate_configured() -> bool:
    """Whether somebody answered `accelerate config` here."""
    cache = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/huggingface"
    return any((Path(cache).expanduser() / "accelerate").glob("default_config.*"))


def machine_name() -> str:
    """How this machine calls itself, as a plain file name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0]).strip("-")[:60] or "worker"


def _list_gpus() -> list[str]:
    """NVIDIA's, by its own tool; another maker's stay unnamed, and trains all the same."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return []
    rows = (
        [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 1] if not done.returncode else []
    )
    return [f"{name.strip()}, {int(size) / 1024:.0f} GB" for name, size in rows if size.strip().isdigit()]
