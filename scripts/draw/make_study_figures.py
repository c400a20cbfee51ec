"""Makes the pictures of docs/why-hidden-layers.md from the project's own examples.

    python scripts/draw/make_study_figures.py [STUDY...] [--work FOLDER]

Runs `nst-jax study` at 128 px into FOLDER (renders/studies), where what is done is kept, and
writes each contact sheet as a small JPEG into docs/images.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONTENT = "examples/contents/lighthouse.jpg"
STYLE = "examples/styles/flow.jpg"
STUDIES = {
    "layers": [CONTENT, STYLE],
    "pixels": [CONTENT, STYLE],
    "reconstruct": [CONTENT, STYLE],
    "neurons": ["examples/contents", "examples/styles", "--count", "2", "--patches", "5"],
}
LONGEST_PX = 1000


def run_study(name: str, folder: Path) -> None:
    """Runs a study; a second time it renders nothing that is there."""
    command = [sys.executable, "-m", "nst_jax.cli.main", "study", name, *STUDIES[name]]
    subprocess.run([*command, "--output-dir", str(folder)], cwd=ROOT, check=True)


def save_figure(name: str, folder: Path) -> None:
    """Saves a contact sheet small enough for a page."""
    with Image.open(folder / "contact_sheet.png") as sheet:
        small = sheet.convert("RGB")
    small.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    path = ROOT / "docs" / "images" / f"study_{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    small.save(path, quality=66, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--work", type=Path, default=Path("renders/studies"))
    given = parser.parse_args()
    for name in given.studies or STUDIES:
        folder = given.work.resolve() / name
        run_study(name, folder)
        save_figure(name, folder)


if __name__ == "__main__":
    main()
