"""The pictures of the README are those that the code draws today."""

from __future__ import annotations

import runpy

from tests.helpers import ROOT


def test_the_pictures_are_current_and_small():
    made = runpy.run_path(str(ROOT / "docs" / "make_images.py"))
    pictures = made["figures"]()
    assert {p.name for p in made["IMAGES"].iterdir()} == set(pictures)
    for name, figure in pictures.items():
        path = made["IMAGES"] / name
        assert made["digest_of"](path) == made["digest"](figure), f"{name} is out of date: python docs/make_images.py"
        assert path.stat().st_size < 100_000
        assert f"docs/images/{name}" in (ROOT / "README.md").read_text()
