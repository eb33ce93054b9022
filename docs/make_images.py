"""The pictures of the README, out of the shipped cases: `python docs/make_images.py`. A test says when they are out of date."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.text import Text
from PIL import Image, PngImagePlugin

import analyzer
from analyzer.plot import timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
#: Enough for a screen of twice the usual density.
DPI = 120


def figures() -> dict[str, Figure]:
    """Every picture by its file's name."""
    return {"frozen-keepalive.png": timeline(analyzer.read(ROOT / "captures" / "frozen-keepalive"), "F1", width=10)}


def digest(figure: Figure) -> str:
    """What a picture says and what it is made of, whichever matplotlib draws it."""
    said = sorted(f"{t.get_text()}@{t.get_position()[0]:.2f},{t.get_position()[1]:.2f}" for t in figure.findobj(Text))
    made = sorted(str(a.get_gid()) for a in figure.findobj() if a.get_gid())
    return hashlib.sha256("\n".join([*said, *made]).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """The digest that a written picture carries."""
    with Image.open(path) as image:
        return str(image.info.get("Digest", ""))


def write(figure: Figure, path: Path) -> None:
    """In 128 colours, with its digest."""
    drawn, notes = io.BytesIO(), PngImagePlugin.PngInfo()
    figure.savefig(drawn, format="png", dpi=DPI)
    notes.add_text("Digest", digest(figure))
    Image.open(drawn).convert("RGB").quantize(128).save(path, format="PNG", optimize=True, pnginfo=notes)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, figure in figures().items():
        write(figure, IMAGES / name)
        print(f"{IMAGES / name}: {(IMAGES / name).stat().st_size / 1000:.0f} kB")
