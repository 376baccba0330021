"""A headless Chromium, controlled over a pipe (Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium to open the report with: apt install chromium"
START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PROBE = """({
  inner: innerWidth, document: document.documentElement.scrollWidth,
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  ground: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
  images: [...document.images].map(i => i.naturalWidth), alts: [...document.images].map(i => i.alt),
  scales: [...document.images].map(i => i.width / i.naturalWidth),
  captions: [...document.querySelectorAll('table')].map(t => t.caption ? t.caption.textContent : ''),
  links: [...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.getAttribute('href'))),
})"""


def find() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One page of a Chromium with a profile in `folder` and additional `flags`; a context manager."""

    def __init__(self, program: str, folder: Path, *flags: str):
        to_child, from_child = os.pipe(), os.pipe()
        child = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (to_child[0], from_child[1])]
        start = [sys.executable, "-c", START, *map(str, child), program, *FLAGS, *flags, f"--user-data-dir={folder}"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(start, pass_fds=child, stdin=quiet, stdout=quiet, stderr=quiet)
        for fd in (*child, to_child[0], from_child[1]):
            os.close(fd)
        self._out, self._in = os.fdopen(to_child[1], "wb", 0), os.fdopen(from_child[0], "rb")
        self._sent, self._rest, self.events = 0, b"", []
        self._session = None

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait()
        self._out.close()
        self._in.close()

    def call(self, method: str, **params) -> dict:
        """Return the result of one command; append the events received meanwhile to `events`."""
        self._sent += 1
        request = {"id": self._sent, "method": method, "params": params}
        request |= {"sessionId": self._session} if self._session else {}
        self._out.write(json.dumps(request).encode() + b"\0")
        while (message := self._next()).get("id") != self._sent:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, url: str, width: int, height: int, dark: bool) -> dict:
        """Load a page at a size and in a colour scheme; return the value of PROBE."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        return self.call("Runtime.evaluate", expression=PROBE, returnByValue=True)["result"]["value"]

    def screenshot(self, height: int) -> bytes:
        """Return a PNG of the top `height` pixels of the page at its full width."""
        size = self.call(
            "Runtime.evaluate", expression="[innerWidth, document.documentElement.scrollHeight]", returnByValue=True
        )
        width, whole = size["result"]["value"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(whole, height), "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def complaints(self) -> list[str]:
        """Return console errors and warnings and failed requests since the page was opened."""
        texts = []
        for event in self.events:
            method, params = event["method"], event.get("params", {})
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                texts.append(params["entry"]["text"])
            if method in ("Runtime.exceptionThrown", "Network.loadingFailed"):
                texts.append(json.dumps(params)[:300])
            if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                texts.append(json.dumps(params["args"])[:300])
        return texts

    def requests(self) -> list[str]:
        """Return the requested URLs except data URIs since the page was opened."""
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith("data:")]

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            more = self._in.read1(1 << 20)
            assert more, "Chromium exited"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
