"""Models by name: bundled, local, and from a loopback server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest

from vivace.core.errors import CheckpointError
from vivace.formats.hub import resolve_model

SOURCES = Path(__file__).parents[2] / "src"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEEDED = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b'{"eos_token_id": 2}',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"bos_token": "<s>"}',
    "chat_template.jinja": b"hello",
    "model.safetensors.index.json": (
        b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "last.safetensors",'
        b' "c": "last.safetensors"}}'
    ),
    "model-00001-of-00002.safetensors": b"first" * 1000,
    "last.safetensors": b"second" * 1000,
}
DUPLICATES = {
    "README.md": b"# words",
    ".gitattributes": b"",
    "pytorch_model.bin": b"x" * 100,
    "consolidated.safetensors": b"x" * 100,
    "model-00002-of-00002.safetensors": b"x" * 100,
    "model-q4.gguf": b"x" * 100,
    "tokenizer.model": b"x" * 100,
    "onnx/model.onnx": b"x" * 100,
    "original/consolidated.00.pth": b"x" * 100,
}
REPOSITORIES = {
    "maker/whole": NEEDED | DUPLICATES,
    "maker/old": {"config.json": b"{}", "pytorch_model.bin": b"x", "tokenizer.json": b"{}"},
    "maker/sentencepiece": {
        "config.json": b"{}",
        "model.safetensors": b"x",
        "tokenizer.model": b"x",
    },
}


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that huggingface_hub uses; counts what it hands out."""

    protocol_version = "HTTP/1.1"
    fetched: list[str]
    tokens: set[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.tokens.add(self.headers.get("Authorization", ""))
        parts = urlparse(self.path).path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name == "maker/gated":
            self._send(403, b"", {"X-Error-Code": "GatedRepo"}, with_body)
        elif name not in REPOSITORIES:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        elif parts[0] == "api":
            self._answer_api(name, parts[4], with_body)
        else:
            self._answer_file(name, "/".join(parts[4:]), with_body)

    def _answer_api(self, name: str, what: str, with_body: bool) -> None:
        files = REPOSITORIES[name]
        if what == "tree":
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": etag(data)}
                for path, data in files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {}, with_body)
            return
        siblings = [{"rfilename": path} for path in files]
        info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
        self._send(200, json.dumps(info).encode(), {}, with_body)

    def _answer_file(self, name: str, path: str, with_body: bool) -> None:
        data = REPOSITORIES[name][path]
        if with_body:
            self.fetched.append(path)
        headers = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": COMMIT}
        self._send(200, data, headers, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep standard error for what is tested."""


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serving() -> Iterator[tuple[str, type[Hub]]]:
    class FreshHub(Hub):
        fetched: list[str] = []  # noqa: RUF012 - this server's own
        tokens: set[str] = set()  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), FreshHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", FreshHub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PROGRAM = """
import sys
from vivace.core.errors import CheckpointError
from vivace.formats.hub import resolve_model
try:
    print(resolve_model(sys.argv[1], lambda line: print("notice:", line, file=sys.stderr)))
except CheckpointError as error:
    print("error:", error)
"""


def resolve(model: str, home: Path, endpoint: str, **environment: str) -> tuple[str, str]:
    """Standard output and error of a fresh process that resolves `model`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    fresh = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, model],
        env=kept | fresh | {"PYTHONPATH": str(SOURCES)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.strip(), result.stderr


def test_fetches_only_what_is_needed_then_works_offline(tmp_path: Path) -> None:
    with serving() as (endpoint, hub):
        folder, progress = resolve("maker/whole", tmp_path, endpoint, HF_TOKEN="hf_secret")
        assert sorted(hub.fetched) == sorted(NEEDED)
        assert hub.tokens == {"Bearer hf_secret"}
        for name, data in NEEDED.items():
            assert (Path(folder) / name).read_bytes() == data
        assert "notice: " in progress
        assert "Fetching 6 files" in progress
        assert "Fetching 2 files" in progress

        assert resolve("maker/whole", tmp_path, endpoint)[0] == folder
        assert len(hub.fetched) == len(NEEDED)
    assert resolve("maker/whole", tmp_path, endpoint, HF_HUB_OFFLINE="1")[0] == folder
    assert resolve("maker/whole", tmp_path, endpoint)[0] == folder


def test_what_cannot_be_fetched_says_why(tmp_path: Path) -> None:
    with serving() as (endpoint, _):
        assert "no such model" in resolve("maker/nothing", tmp_path, endpoint)[0]
        assert "is gated" in resolve("maker/gated", tmp_path, endpoint)[0]
        assert "no model.safetensors" in resolve("maker/old", tmp_path, endpoint)[0]
        folder = resolve("maker/sentencepiece", tmp_path, endpoint)[0]
        assert (Path(folder) / "tokenizer.model").exists()
    offline, _ = resolve("maker/other", tmp_path, endpoint, HF_HUB_OFFLINE="1")
    assert offline.startswith("error: maker/other is not whole")
    assert "HF_HUB_OFFLINE is set" in offline
    assert f"{endpoint} cannot be reached" in resolve("maker/other", tmp_path, endpoint)[0]


@pytest.mark.tiny
def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path)) == tmp_path


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.gguf", "no file"),
        ("./nothing", "no folder"),
        ("/no/such/folder", "no folder"),
        ("a/b/c", "no folder"),
        ("", "no folder"),
    ],
)
def test_what_is_no_model_is_refused(name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        resolve_model(name)


@pytest.mark.tiny
def test_a_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_model(str(path))
