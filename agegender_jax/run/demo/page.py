"""The web page of the demo, in Gradio, without analytics, fonts or scripts from other servers, or stored pictures."""

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
import gradio

from agegender_jax.errors import ConfigError
from agegender_jax.report import photo_predictions

TITLE = "Age and gender of faces"
ABOUT = f"""# {TITLE}
Choose a photo or take one. It is processed on the machine that serves this page, and not stored."""
NOTHING = "The prediction appears here."
EXPIRED = "The upload has expired; choose the photo again."
FONTS = ["system-ui", "sans-serif"]
CHOOSE = "Drop a photo here,\nor click to choose one"
CSS = """
footer { display: none !important; }
.gradio-container { width: 100% !important; max-width: 1100px !important; margin: 0 auto; }
.source-selection { height: 52px !important; }
.source-selection button { width: 44px !important; height: 44px !important; }
.source-selection button svg { width: 24px !important; height: 24px !important; margin: auto; }
"""
WAITING = 16  # photos in the queue; more are refused
EXPIRE_AFTER = 300  # seconds after which an upload without a prediction is deleted
REMEMBERED = 60  # seconds in memory of an upload that has been read, which others may have made too


@contextlib.contextmanager
def served(predict: Callable[[bytes], str], host: str, port: int, max_mb: int) -> Iterator[str]:
    """Serve the page while entered; yield its address.

    Each upload is in a temporary folder until its result is returned.

    Args:
      predict: returns HTML for the bytes of a picture file.

    Raises:
      ConfigError: the address cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="agegender-demo-") as folder, _environment(folder):
        page = build(predict, Path(folder))
        try:
            _, address, _ = page.launch(
                server_name=_in_address(host),
                server_port=port,
                max_file_size=max_mb * 10**6,
                theme=gradio.themes.Default(font=FONTS, font_mono=["monospace"]),
                css=CSS,
                footer_links=[],
                run_history=False,  # browsers would keep photos and predictions
                share=False,
                inbrowser=False,
                inline=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise ConfigError(
                "the demo cannot listen on this address",
                f"--host={host} --port={port}",
                "name another --port, or a --host",
            ) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def build(predict: Callable[[bytes], str], folder: Path) -> gradio.Blocks:
    """Return the page.

    Args:
      folder: the folder of uploads.
    """

    uploads = Uploads(folder)

    def respond(upload: dict[str, Any] | None) -> tuple[str, Any]:
        if upload is None:
            return photo_predictions.message(NOTHING), gradio.skip()
        try:
            return predict(uploads.take(upload.get("path"))), gradio.update(value=None)
        except FileNotFoundError:
            return photo_predictions.message(EXPIRED), gradio.update(value=None)

    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(EXPIRE_AFTER, EXPIRE_AFTER)) as page:
        gradio.Markdown(ABOUT)
        with gradio.Row():
            with gradio.Column(scale=2, min_width=300):
                photo = gradio.Image(
                    label="Photo", sources=["upload", "webcam"], type="filepath", height=300, placeholder=CHOOSE
                )
                photo.async_move_resource_to_block_cache = _only_files(photo.async_move_resource_to_block_cache)
            with gradio.Column(scale=3, min_width=300):
                output = gradio.HTML(photo_predictions.message(NOTHING))
        photo.input(
            respond,
            photo,
            [output, photo],
            preprocess=False,  # Gradio's own reports a file that is no picture as an internal error
            api_visibility="private",
            show_progress_on=output,
        )
    return page.queue(max_size=WAITING)


def _in_address(host: str) -> str:
    """Return a host as addresses have it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _only_files(move: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
    """Return Gradio's function that makes a resource a local file, for which a URL stays a URL and is not fetched."""

    async def moved(resource: str) -> Any:
        return resource if "://" in resource or resource.startswith("//") else await move(resource)

    return moved


class Uploads:
    """The uploads in a folder, which are deleted when they are read.

    Gradio gives equal pictures of several visitors the same path, so the last WAITING pictures stay in memory for
    REMEMBERED seconds.
    """

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        self._read: dict[Path, bytes] = {}

    def take(self, name: Any) -> bytes:
        """Return the content of an upload, and delete it.

        Raises:
          FileNotFoundError: there is no such file in the folder of uploads.
        """
        path = Path(str(name)).resolve()
        if path in self._read and not path.exists():
            return self._read[path]
        if self._folder not in path.parents or not path.is_file():
            raise FileNotFoundError(path)
        try:
            content = self._read[path] = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
            if path.parent != self._folder:
                shutil.rmtree(path.parent, ignore_errors=True)
        while len(self._read) > WAITING:
            self._read.pop(next(iter(self._read)))
        forget = threading.Timer(REMEMBERED, self._read.pop, (path, None))
        forget.daemon = True
        forget.start()
        return content


@contextlib.contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Make those settings of Gradio that have no argument: the folder of uploads, and no proxy for its own server."""
    settings = {"GRADIO_TEMP_DIR": folder, "NO_PROXY": "*", "no_proxy": "*"}
    earlier = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
