"""A model hub on loopback, as far as its own client needs one: a repository's commit, its list of files, and the files."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "beef"
NAME = "someone/small-base"


class Hub(ThreadingHTTPServer):
    """Serves one folder as the repository NAME; `fetched` are the files that were asked for, in order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.fetched = folder, list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        files = {file.relative_to(self.server.folder).as_posix(): file for file in self.server.folder.rglob("*") if file.is_file()}
        name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
        if path == f"/api/models/{NAME}/revision/main":
            body = json.dumps({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}).encode()
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            body = json.dumps(
                [{"type": "file", "path": file, "size": place.stat().st_size, "oid": etag(place)} for file, place in files.items()]
            ).encode()
        elif name in files:
            body = files[name].read_bytes()
            self.server.fetched += [name] if with_body else []
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag(files[name])}"' if name in files else '""')
        self.end_headers()
        self.wfile.write(body if with_body else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
