"""A small HTTP server that speaks the hub's protocol: listing, resolve with HEAD.

Not a test: test_hub.py and test_contest.py use it.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "beef"


class Hub:
    """Files of one dataset repository; those larger than `lfs_from` bytes are listed as LFS files with a SHA-256."""

    def __init__(self, repo: str, files: dict[str, bytes], lfs_from: int = 100) -> None:
        self.repo, self.files, self.lfs_from = repo, files, lfs_from
        self.served: list[str] = []  # the path of every GET of content

    def listing(self) -> dict[str, object]:
        siblings = []
        for path, content in self.files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": blob}
            if len(content) > self.lfs_from:
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": self.repo, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False, "tags": []}


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The endpoint's address, while it lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            prefix = f"/datasets/{hub.repo}/resolve/"
            name = path.removeprefix(prefix).partition("/")[2]
            if path.startswith(f"/api/datasets/{hub.repo}"):
                self._send(200, json.dumps(hub.listing()).encode(), body, {"Content-Type": "application/json"})
            elif path.startswith(prefix) and name in hub.files:
                self._content(name, hub.files[name], body)
            else:
                self._send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

        def _content(self, name: str, content: bytes, body: bool) -> None:
            if body:
                hub.served.append(name)
            etag = hashlib.sha256(hub.files[name]).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))}
            self._send(200, content, body, headers)

        def _send(self, code: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
            self.send_response(code)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
