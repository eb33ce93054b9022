"""Every notebook runs from a clean kernel, the first from the repository's root too, and shows what it promises."""

from __future__ import annotations

import json
import warnings

import pytest

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 300_000
SECONDS = 120


@pytest.fixture
def jupyter(monkeypatch, tmp_path):
    """nbclient and nbformat, with none of the user's settings."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    pytest.importorskip("ipykernel")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of Jupyter's own imports
        nbclient = pytest.importorskip("nbclient")
        nbformat = pytest.importorskip("nbformat")
    return nbclient, nbformat


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:zmq.*", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("path", "folder"),
    [(p, "notebooks") for p in NOTEBOOKS] + [(NOTEBOOKS[0], ".")],
    ids=lambda p: getattr(p, "stem", p),
)
def test_notebooks_run(path, folder, jupyter):
    nbclient, nbformat = jupyter
    notebook = nbformat.read(path, as_version=4)
    committed = [kinds(cell) for cell in code_cells(notebook)]
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(ROOT / folder)}}
    )
    client.execute()
    ran = [kinds(cell) for cell in code_cells(notebook)]
    assert not any("error" in found for found in ran)
    assert any("image/png" in found for found in ran), "the figure was not drawn"
    assert ran == committed, "run it and commit what it shows"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell) -> set[str]:
    """What a cell shows: MIME types, `stdout`, `error`; warnings on standard error count as an error."""
    found: set[str] = set()
    for output in cell.outputs:
        if output.output_type == "stream":
            found.add("error" if output.name == "stderr" else output.name)
        elif output.output_type == "error":
            found.add("error")
        else:
            found.update(kind for kind in output.data if kind in ("image/png", "text/html"))
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_notebooks_are_small_and_of_no_machine(path):
    assert path.stat().st_size < MOST_BYTES
    text = path.read_text("utf-8")
    assert str(ROOT) not in text
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}


def test_there_is_a_first_look():
    assert NOTEBOOKS
