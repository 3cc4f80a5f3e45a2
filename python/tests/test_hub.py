"""Models by name. Tests of the command cover downloads, the cache and refusals
(crates/medst-cli/tests/hub).
"""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import medst
from conftest import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {name: (ROOT / "models" / "phantom" / name).read_bytes() for name in ("config.json", "model.safetensors", "vocab.txt")}


class Hub(BaseHTTPRequestHandler):
    """A hub with the shipped model."""

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def answer(self, send: bool) -> None:
        listed = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}).encode()
        answers = {f"/me/phantom/resolve/{COMMIT}/{name}": body for name, body in FILES.items()}
        body = {"/api/models/me/phantom/revision/main": listed, **answers}.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{sha256(body or b"").hexdigest()}"')
        self.end_headers()
        if send:
            self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_loaded_by_its_name(hub, monkeypatch):
    calls = []
    model = medst.load("hf://me/phantom", device="cpu", progress=lambda *all: calls.append(all))
    built_in = medst.load("phantom", device="cpu")
    sentence = ["there is edema"]
    assert model.embed_prompts(sentence).equal(built_in.embed_prompts(sentence))
    assert any("hf://me/phantom" in what for what, _, _ in calls)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert medst.load(f"hf://me/phantom@{COMMIT}", device="cpu").checksum == model.checksum


def test_what_no_hub_has_is_refused(hub, monkeypatch):
    with pytest.raises(medst.InputError, match="expected hf://OWNER/NAME"):
        medst.load("hf://phantom")
    with pytest.raises(medst.DataError, match="no such model"):
        medst.load("hf://me/absent")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(medst.DataError, match="HF_HUB_OFFLINE is set"):
        medst.load("hf://me/phantom")
