"""The demo's page in a browser: upload, camera, photos without a prediction, a phone's width, nothing stored."""

import os
import pathlib
import signal
import subprocess
import time
import urllib.request

import drawn_photos
import programs
import pytest
import small_weights
from browser import MISSING, Browser, find

from agegender_jax.errors import ConfigError
from agegender_jax.prediction.predictor import Predictor
from agegender_jax.run.demo.photo_predictor import PhotoPredictor

gradio = pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find(), reason=MISSING)]

PHONE, DESKTOP = (390, 844), (1280, 900)
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
ADDRESS = ("127.0.0.1", 7863)
MAX_MB = 1
RUN = pathlib.Path(__file__).parent / "data" / "run_0.1.0.tar.gz"
STORED = """(async () => [...Object.keys(localStorage), ...Object.keys(sessionStorage),
  ...(await indexedDB.databases()).map(d => d.name), ...document.cookie.split(";").filter(c => c)])()"""


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def address(uploads, tmp_path_factory):
    """The address of the page, which has its temporary files in `uploads`."""
    from agegender_jax.run.demo import page

    weights = small_weights.write(tmp_path_factory.mktemp("weights"))
    predict_photo = PhotoPredictor(Predictor(weights_dir=weights, batch_size=1), ["grad_cam"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page.tempfile, "tempdir", str(uploads))
        with page.served(predict_photo, *ADDRESS, MAX_MB) as address:
            yield address
        assert os.listdir(uploads) == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    crowd = drawn_photos.background(600, 900)
    for i in range(2):
        crowd = drawn_photos.paste(crowd, drawn_photos.face(2 + i), (250 + 400 * i, 300), 240)
    contents = {
        "crowd.jpg": drawn_photos.encode(crowd, "JPEG", quality=90),
        "empty.png": drawn_photos.encode(drawn_photos.background(300, 400)),
        "text.jpg": b"<html>not a picture</html>",
        "large.png": os.urandom(MAX_MB * 10**6 + 1),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


class Page:
    """The demo in a browser."""

    def __init__(self, browser, address, size):
        self.browser, self.width = browser, size[0]
        browser.open(address, *size, dark=False)
        self.wait("!!document.querySelector('input[type=file]')")

    def value(self, expression):
        try:
            answer = self.browser.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except AssertionError as error:
            if "navigated" in str(error):  # a reload has begun meanwhile
                return None
            raise
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression, seconds=30):
        """Return the value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < end, (expression, self.value("document.body.innerText"))
            time.sleep(0.1)
        return value

    def upload(self, path):
        field = self.browser.call("Runtime.evaluate", expression="document.querySelector('input[type=file]')")
        self.browser.call("DOM.setFileInputFiles", files=[str(path)], objectId=field["result"]["objectId"])

    def click(self, element):
        self.wait(f"(e => e && (e.click(), true))({element})")

    def text(self, part):
        return self.wait(f"document.body.innerText.includes({part!r}) && document.body.innerText")

    def save_screenshot(self, name):
        """Save a screenshot of the page if AGEGENDER_SHOTS names a folder."""
        if folder := os.environ.get("AGEGENDER_SHOTS"):
            (pathlib.Path(folder) / f"{name}{self.width}.png").write_bytes(self.browser.screenshot(2400))


def complaints(browser):
    """Return the complaints of the console, except two that are Gradio's own."""
    return [text for text in browser.complaints() if "Method not implemented" not in text and "ERR_ABORTED" not in text]


@pytest.fixture(scope="module", params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(address, request, tmp_path_factory):
    with Browser(find(), tmp_path_factory.mktemp("profile"), *CAMERA) as browser:
        yield Page(browser, address, request.param)


def test_an_upload_is_processed_without_external_requests(page, address, photos, uploads):
    page.save_screenshot("start")
    page.upload(photos / "crowd.jpg")
    text = page.text("Face 2")
    assert "2 faces" in text and "90 % interval" in text and "Grad-CAM" in text
    page.wait("[...document.images].length == 11 && [...document.images].every(i => i.naturalWidth > 0)")
    time.sleep(0.5)
    page.save_screenshot("answer")
    assert page.value("document.documentElement.scrollWidth") <= page.width
    assert page.value(
        "[...document.querySelectorAll('.photo_predictions *')]"
        ".every(e => e.getBoundingClientRect().right <= innerWidth)"
    )
    assert complaints(page.browser) == []
    assert [url for url in page.browser.requests() if not url.startswith((address, "blob:"))] == []
    assert files_in(uploads) == [] and page.value(STORED) == []
    assert page.value("window.gradio_config.run_history") is False


@pytest.mark.parametrize(
    "name, message", [("empty.png", "No face was found"), ("text.jpg", "This file cannot be used: not a")]
)
def test_a_photo_without_a_prediction_gets_a_message(page, photos, uploads, name, message):
    page.upload(photos / name)
    text = page.text(message)
    page.save_screenshot(name.partition(".")[0])
    assert "Traceback" not in text and "Error" not in text and "Face 1" not in text
    assert page.value("document.documentElement.scrollWidth") <= page.width
    assert files_in(uploads) == []


def test_a_file_that_is_too_large_is_refused(page, photos, uploads):
    page.upload(photos / "large.png")
    page.text("maximum allowed size")
    page.save_screenshot("large")
    assert files_in(uploads) == []
    page.browser.call("Page.reload")
    page.wait("!!document.querySelector('input[type=file]') && !document.body.innerText.includes('maximum allowed')")


def test_a_picture_from_the_camera_gets_predictions(page, uploads):
    page.click("document.querySelector('[aria-label=\"Capture from camera\"]')")
    page.click("[...document.querySelectorAll('button')].find(b => b.innerText.includes('Webcam'))")
    page.wait("[...document.querySelectorAll('video')].some(v => v.videoWidth > 0)")
    page.click("document.querySelector('[aria-label=\"capture photo\"]')")
    page.text("No face was found")  # Chromium's camera shows a pattern
    page.save_screenshot("camera")
    assert files_in(uploads) == []


def test_an_address_in_use_is_an_error(address):
    from agegender_jax.run.demo import page

    with pytest.raises(ConfigError, match="cannot listen"), page.served(lambda content: "", *ADDRESS, MAX_MB):
        pass


def test_paths_outside_of_the_uploads_are_neither_read_nor_deleted(tmp_path):
    from agegender_jax.run.demo import page

    (tmp_path / "uploads").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "uploads" / "link").symlink_to(tmp_path / "secret.txt")
    for name in (tmp_path / "secret.txt", tmp_path / "uploads/../secret.txt", tmp_path / "uploads/link", None, ""):
        with pytest.raises(FileNotFoundError):
            page.Uploads(tmp_path / "uploads").take(name)
    assert (tmp_path / "secret.txt").read_text() == "secret"


def test_the_command_serves_until_ctrl_c(tmp_path):
    programs.unpack(RUN, tmp_path)
    (tmp_path / "temporary").mkdir()
    env = programs.environment() | {"PYTHONPATH": str(programs.ROOT), "TMPDIR": str(tmp_path / "temporary")}
    env |= {"http_proxy": "http://127.0.0.1:9", "GRADIO_SHARE": "True"}
    command = [*programs.command("demo", f"--workdir={tmp_path / 'resnet18-ema'}", "--port=7865")]
    process = subprocess.Popen(command, cwd=programs.ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        shown = b""
        while b"Ctrl-C ends it" not in shown:
            line = process.stdout.readline()
            assert line, shown.decode()
            shown += line
        assert b"the demo is at http://127.0.0.1:7865/" in shown and b"live" not in shown
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"Age and gender" in direct.open("http://127.0.0.1:7865/", timeout=20).read()
        with open("/proc/net/tcp") as sockets:
            assert "0100007F:1EB9 00000000:0000 0A" in sockets.read()  # 127.0.0.1:7865 listens
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0].decode()
        assert process.returncode == 0 and "Traceback" not in rest, rest
    finally:
        process.kill()
    remaining = [path for path in (tmp_path / "temporary").rglob("*") if "agegender-demo" in str(path)]
    assert remaining == []
