"""What requests to the demo's server can do, without a browser: uploads at the same time, URLs, hosts."""

import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
MAX_MB = 1


@pytest.fixture
def page(tmp_path, monkeypatch):
    from agegender_jax.run.demo import page

    monkeypatch.setattr(page.tempfile, "tempdir", str(tmp_path))
    return page


def free_port(host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind((host, 0))
        return free.getsockname()[1]


class Client:
    """A visitor of the page."""

    def __init__(self, address, session):
        self.api, self.session = f"{address}gradio_api", session
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def upload(self, content):
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body, headers = head + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
        with self.opener.open(urllib.request.Request(f"{self.api}/upload", body, headers), timeout=30) as answer:
            return json.load(answer)[0]

    def ask(self, path):
        """Send a path to the queue, as the page does after an upload."""
        data = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}], "fn_index": 0}
        body = json.dumps(data | {"session_hash": self.session}).encode()
        headers = {"Content-Type": "application/json"}
        self.opener.open(urllib.request.Request(f"{self.api}/queue/join", body, headers), timeout=30).close()

    def answer(self):
        """Return the HTML of the result."""
        with self.opener.open(f"{self.api}/queue/data?session_hash={self.session}", timeout=60) as events:
            for line in events:
                if b"process_completed" in line:
                    return json.loads(line.removeprefix(b"data:"))["output"]["data"][0]
        raise AssertionError("no result")


def test_visitors_who_send_the_same_photo_all_get_a_prediction(page, tmp_path):
    """Gradio gives their uploads the same path."""
    answered, may_go_on = [], threading.Event()

    def predict(content):
        may_go_on.wait(30)
        return f"<p>{content.decode()}</p>"

    with page.served(predict, "127.0.0.1", free_port(), MAX_MB) as address:
        clients = [Client(address, f"visitor{i}") for i in range(3)]
        paths = [client.upload(b"same") for client in clients]
        assert len(set(paths)) == 1
        for client, path in zip(clients, paths, strict=True):
            client.ask(path)
        readers = [threading.Thread(target=lambda c=client: answered.append(c.answer())) for client in clients]
        for reader in readers:
            reader.start()
        may_go_on.set()
        for reader in readers:
            reader.join(60)
        assert answered == ["<p>same</p>"] * 3
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not list(tmp_path.iterdir())


def test_what_was_read_is_soon_forgotten(page, tmp_path, monkeypatch):
    timers = []

    def timer(seconds, function, arguments):
        timers.append((seconds, function, arguments))
        return threading.Thread()

    monkeypatch.setattr(page.threading, "Timer", timer)
    uploads, upload = page.Uploads(tmp_path), tmp_path / "hash" / "a.png"
    upload.parent.mkdir()
    upload.write_bytes(b"photo")
    assert uploads.take(str(upload)) == uploads.take(str(upload)) == b"photo" and not upload.parent.exists()
    ((seconds, forget, arguments),) = timers
    forget(*arguments)
    with pytest.raises(FileNotFoundError):
        uploads.take(str(upload))
    assert seconds == page.REMEMBERED
    for i in range(page.WAITING + 5):
        (tmp_path / f"{i}.png").write_bytes(b"photo")
        uploads.take(str(tmp_path / f"{i}.png"))
    assert len(uploads._read) == page.WAITING


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/a.png", "//127.0.0.1:{}/a.png"])
def test_a_url_is_not_fetched(url, page, monkeypatch):
    predicted = []
    import gradio.processing_utils

    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(1)

        async def fetch(url, *args, **options):  # without Gradio's check that the address is public
            with socket.create_connection(other.getsockname()):
                raise OSError("fetched")

        monkeypatch.setattr(gradio.processing_utils, "async_ssrf_protected_get", fetch)
        with page.served(predicted.append, "127.0.0.1", free_port(), MAX_MB) as address:
            client = Client(address, "visitor")
            client.ask(url.format(other.getsockname()[1]))
            try:
                answer = client.answer()
            except (KeyError, TypeError, urllib.error.HTTPError):
                answer = page.EXPIRED  # Gradio refuses a path outside of the uploads
        with pytest.raises(TimeoutError):
            other.accept()
    assert page.EXPIRED in answer and not predicted


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_ipv6(page, host):
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with page.served(lambda content: content.decode(), host, port, MAX_MB) as address:
        client = Client(address, "visitor")
        client.ask(client.upload(b"photo"))
        assert address.startswith("http://[::1]:") and client.answer() == "photo"
