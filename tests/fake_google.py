"""A server that speaks Google Cloud Storage's JSON API, as far as gcsfs and TensorStore use it."""

import base64
import collections
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class FakeGoogle(ThreadingHTTPServer):
    """One bucket called `bucket` (https://cloud.google.com/storage/docs/json_api/v1).

    Attributes:
      objects: contents by name.
      read: the names of all objects whose content was asked for.
      before_write: called with the name and the content of every object before it is there.
      failures: how many of the next uploads are answered by 503.
    """

    daemon_threads = True
    # As many connections at once as TensorStore opens.
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = collections.defaultdict(int)
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.read: list[str] = []
        self.before_write: Callable[[str, bytes], None] = lambda name, content: None
        self.failures = 0
        self.lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """For processes that are to use it."""
        url = f"http://127.0.0.1:{self.server_port}"
        return {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            # Otherwise both look for credentials, one of them in the network.
            "FSSPEC_GS_TOKEN": "anon",
            "NO_GCE_CHECK": "true",
            "GCE_METADATA_ROOT": "127.0.0.1:1",
        }

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up, having read enough, is no error."""

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.objects if name.startswith(prefix))

    def put(self, name: str, content: bytes, only_if_generation: str | None) -> bool:
        """Whether it was taken: the object may have another generation than the one that was to be replaced."""
        self.before_write(name, content)
        with self.lock:
            if only_if_generation not in (None, str(self.generations[name] if name in self.objects else 0)):
                return False
            self.objects[name] = content
            self.generations[name] = max(time.time_ns(), self.generations[name] + 1)
            return True

    def described(self, name: str) -> dict[str, str]:
        content = self.objects[name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": "bucket",
            "generation": str(self.generations[name]),
            "size": str(len(content)),
            "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
        }


@contextlib.contextmanager
def fake_google() -> Iterator[FakeGoogle]:
    """A running server."""
    with FakeGoogle() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # answers of two packets would take 40 ms
    server: FakeGoogle

    def log_message(self, *arguments) -> None:
        pass

    def _dispatch(self) -> None:
        url = urlsplit(self.path)
        self._query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.startswith("/batch/"):
            return self._batch()
        if url.path.startswith("/upload/"):
            return self._upload()
        object_path = re.fullmatch(r"(?:/download)?/storage/v1/b/bucket/o/(.+)", url.path)
        if object_path:
            return self._object(unquote(object_path[1]))
        if url.path == "/storage/v1/b/bucket/o":
            return self._list()
        return self._answer(404)

    do_GET = do_POST = do_PUT = do_DELETE = _dispatch

    def _object(self, name: str) -> None:
        if name not in self.server.objects:
            return self._answer(404)
        if self.command == "DELETE":
            return self._answer(204 if self.server.objects.pop(name, None) is not None else 404)
        if self._query.get("alt") != "media":
            return self._json(self.server.described(name))
        self.server.read.append(name)
        content = self.server.objects[name]
        headers = {"x-goog-generation": str(self.server.generations[name])}
        if self._query.get("ifGenerationNotMatch") == headers["x-goog-generation"]:
            return self._answer(304)
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            return self._answer(200, content, headers)
        start, end = int(part[1]), min(int(part[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            return self._answer(416)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return self._answer(206, content[start : end + 1], headers)

    def _list(self) -> None:
        prefix, delimiter = self._query.get("prefix", ""), self._query.get("delimiter", "")
        found, prefixes = [], set()
        for name in self.server.names(prefix):
            head, separator, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else (name, "", "")
            if separator:
                prefixes.add(prefix + head + separator)
            else:
                found.append(self.server.described(name))
        self._json({"kind": "storage#objects", "items": found, "prefixes": sorted(prefixes)})

    def _upload(self) -> None:
        if self.server.failures:
            self.server.failures -= 1
            return self._answer(503)
        kind, name, number = self._query["uploadType"], self._query.get("name"), self._query.get("upload_id")
        if kind == "media":
            return self._put(name, self._body)
        if kind == "multipart":
            boundary = re.search(r"boundary=\"?([^\";]+)", self.headers["Content-Type"])[1].strip("'").encode()
            _, meta, content, _ = self._body.split(b"--" + boundary)
            described = json.loads(meta.partition(b"\r\n\r\n")[2] or meta.partition(b"\n\n")[2])
            content = content.partition(b"\r\n\r\n" if b"\r\n\r\n" in content else b"\n\n")[2]
            return self._put(name or described["name"], content.removesuffix(b"\n").removesuffix(b"\r"))
        if number is None:
            number = str(len(self.server.uploads))
            self.server.uploads[number] = name or json.loads(self._body)["name"], b""
            return self._answer(
                200, headers={"Location": f"http://{self.headers['Host']}{self.path}&upload_id={number}"}
            )
        name, content = self.server.uploads[number]
        self.server.uploads[number] = name, content + self._body
        if self.headers.get("Content-Range", "/0").endswith("/*"):
            return self._answer(308, headers={"Range": f"bytes=0-{len(content + self._body) - 1}"})
        return self._put(name, content + self._body)

    def _put(self, name: str, content: bytes) -> None:
        if not self.server.put(name, content, self._query.get("ifGenerationMatch")):
            return self._answer(412)
        return self._json(self.server.described(name))

    def _batch(self) -> None:
        """Several deletions at once."""
        names = re.findall(rb"DELETE /storage/v1/b/bucket/o/(\S+?)(?:\?\S*)? HTTP", self._body)
        parts = []
        for name in (unquote(name.decode()) for name in names):
            code = 204 if self.server.objects.pop(name, None) is not None else 404
            parts.append(f"--batch\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {code} Done\r\n\r\n")
        body = "".join(parts) + "--batch--"
        self._answer(200, body.encode(), {"Content-Type": "multipart/mixed; boundary=batch"})

    def _json(self, value: dict) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
