"""Programs of ten lines that load exported files; `launch.export` writes them next to the files, and runs them."""

from pathlib import Path


def name(kind: str) -> str:
    """Return the file name of the program for a format: onnx, stablehlo or safetensors."""
    return f"load_{kind}.py"


def content(kind: str) -> str:
    return Path(__file__).with_name(name(kind)).read_text(encoding="utf-8")
