"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

#: A busy machine fails no property test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

SHARED = "ANALYZER_SHARED"


def shared_folder() -> Path | None:
    """The conformance data (public captures and cases that the project does not ship), None where there is none."""
    named = os.environ.get(SHARED)
    return Path(named) if named and Path(named).is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the conformance data; without it the test is skipped."""
    folder = shared_folder()
    if folder is None:
        pytest.skip(f"needs the conformance data: {SHARED} names no folder")
    return folder
