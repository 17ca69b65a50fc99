"""Which folders are no disk but a bucket of the Hub that is mounted as one."""

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_REMOTE = ("fuse", "nfs")


def is_bucket_mount(folder: Path) -> bool:
    """Whether `folder` lies in a mounted bucket: what the Hub's own program mounts, which calls itself hf-mount, and
    in a Space whatever is mounted over the network. Files there are whole when they are closed, and are written once;
    there are no locks among machines.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # no such list on this system, and no such mount
        return False
    folder, found, depth = Path(folder).resolve(), False, -1
    for line in lines:
        source, place, kind, *_ = line.split(" ")
        place = Path(place.encode().decode("unicode_escape"))
        if folder.is_relative_to(place) and len(place.parts) >= depth:
            depth = len(place.parts)
            in_space = os.environ.get("SYSTEM") == "spaces" and kind.startswith(_REMOTE)
            found = "hf-mount" in source or "hf-mount" in kind or in_space
    return found
