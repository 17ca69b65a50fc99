"""The files a Space needs, and nothing else.

python spaces/deploy.py --dry-run         lists them: where they lie here, where they go there
python spaces/deploy.py --folder FOLDER   lays them out, ready for `git push` to a Space
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A Space wants its card and requirements at the top, in place of the project's own.
AT_THE_TOP = {
    "README.md": "spaces/README.md",
    "requirements.txt": "spaces/requirements.txt",
    "app.py": "app.py",
    "LICENSE": "LICENSE",
}


def list_files(root: Path = ROOT) -> dict[str, Path]:
    """Target path in the Space to source path here: the four files at the top and the package without its leavings."""
    files = {target: root / source for target, source in AT_THE_TOP.items()}
    for path in sorted((root / "rlhfv").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".pyi"):
            files[path.relative_to(root).as_posix()] = path
    return files


def lay_out(folder: Path, root: Path = ROOT) -> None:
    """Copies the files into an empty `folder`."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        sys.exit(f"'{folder}' is not an empty folder. What is in it would stay among the Space's files. Name another.")
    for target, source in list_files(root).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--dry-run", action="store_true", help="only list the files")
    choice.add_argument("--folder", type=Path, help="an empty folder to lay them out in")
    arguments = parser.parse_args()
    if arguments.folder:
        lay_out(arguments.folder)
        return
    total = 0
    for target, source in list_files().items():
        size = source.stat().st_size
        total += size
        print(f"{size:>10,}  {source.relative_to(ROOT).as_posix():<60} {target}")
    print(f"{total:>10,}  bytes in all")


if __name__ == "__main__":
    main()
