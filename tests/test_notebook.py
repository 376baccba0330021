"""docs/predict.ipynb: its cells run, as a program and in a Jupyter kernel."""

import json

import programs
import pytest
import small_weights

from agegender_jax import weights

PATH = programs.ROOT / "docs" / "predict.ipynb"
USE = "import pathlib\n\nfrom agegender_jax import weights\n\nweights.FOLDER = pathlib.Path({!r})"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_weights.write(tmp_path_factory.mktemp("weights"))


def cells():
    return json.loads(PATH.read_text())["cells"]


def test_the_cells_run_one_after_the_other(small, monkeypatch, capsys):
    monkeypatch.setattr(weights, "FOLDER", small)
    names = {}
    for cell in cells():
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]).replace("from IPython.display import display", "display = print"), names)
    printed = capsys.readouterr().out
    assert len(names["faces"]) == 3 and printed.count("over 18: ") == 3
    assert "picture 1 unreadable not a JPEG" in printed and "picture 2 ok  [" in printed


def test_it_is_stored_without_outputs():
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells())


@pytest.mark.slow
def test_it_runs_in_a_kernel(small, tmp_path):
    import nbclient
    import nbformat

    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(USE.format(str(small))))
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(programs.ROOT)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
