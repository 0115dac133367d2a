"""Downloads: verified, resumed, from mirrors, and what is said without a network. The server is one of our own."""

import contextlib
import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinyfoa_np import data
from tinyfoa_np.data import download, mnist
from tinyfoa_np.data.published import Files
from tinyfoa_np.errors import BadRequest, CheckFailed

pytest.importorskip("pooch", reason="pooch, which writes downloads, is not installed")

CONTENT = bytes(range(256)) * 3000
OTHER = b"first line\nsecond\n" * 50


class Server:
    """What a publisher has; how many bytes it sends before it hangs up, and whether it knows ranges."""

    def __init__(self):
        self.content = {}
        self.hang_up_after = None
        self.ranges = True
        self.asked = []

    def handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted, span = self.path.lstrip("/"), self.headers.get("Range")
                server.asked.append((wanted, span))
                if wanted not in server.content:
                    self.send_error(404)
                    return
                whole = server.content[wanted]
                start = int(span.split("=")[1].rstrip("-")) if span and server.ranges else 0
                if start >= len(whole) > 0:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(whole) - start))
                self.end_headers()
                sent, server.hang_up_after = server.hang_up_after, None
                with contextlib.suppress(OSError):
                    self.wfile.write(whole[start:][:sent])

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def home(home, monkeypatch):
    """Nothing of this computer's data in sight, and no proxy on the way to them."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PATIENCE", (20, 20))  # a busy computer may take a while
    return home


@pytest.fixture
def server():
    made = Server()
    running = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.url = f"http://127.0.0.1:{running.server_port}/"
    yield made
    running.shutdown()
    running.server_close()
    thread.join(10)


@pytest.fixture
def files(server):
    server.content = {"a.bin": CONTENT, "b.txt": OTHER}
    digests = {"a.bin": hashlib.md5(CONTENT).hexdigest(), "b.txt": hashlib.md5(OTHER).hexdigest()}
    return Files("Samples", ("samples",), digests, server.url, 1 << 20)


def test_what_is_missing_is_fetched_and_what_is_there_kept(home, server, files):
    seen = []
    folder = download.fetch(files, on_progress=lambda *count: seen.append(count))
    assert folder == home / "cache" / "tinyfoa-np" / "samples"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == server.content
    assert seen[-1] == (len(OTHER), len(OTHER), "fetching b.txt") and (len(CONTENT),) * 2 in [s[:2] for s in seen]
    assert all(ok for _, ok, _ in files.verify(None))
    server.asked.clear()
    download.fetch(files)
    assert server.asked == []
    (folder / "b.txt").write_bytes(OTHER[:-1])
    download.fetch(files)
    assert [name for name, _ in server.asked] == ["b.txt"] and (folder / "b.txt").read_bytes() == OTHER


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_was(home, server, files, ranges):
    server.hang_up_after = 500_000
    with pytest.raises(BadRequest, match="cannot be fetched") as error:
        download.fetch(files)
    assert "\n" not in str(error.value)
    folder = home / "cache" / "tinyfoa-np" / "samples"
    assert [path.name for path in folder.iterdir()] == ["a.bin.part"]
    there = (folder / "a.bin.part").stat().st_size
    assert 0 < there <= 500_000
    server.ranges = ranges
    download.fetch(files)
    assert ("a.bin", f"bytes={there}-") in server.asked
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "b.txt"]
    assert (folder / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"something else"])
def test_whatever_an_earlier_download_left(home, server, files, left):
    folder = home / "cache" / "tinyfoa-np" / "samples"
    folder.mkdir(parents=True)
    (folder / "a.bin.part").write_bytes(left)
    try:
        download.fetch(files)
    except CheckFailed:  # what was appended to something else is let go of
        download.fetch(files)
    assert (folder / "a.bin").read_bytes() == CONTENT and not (folder / "a.bin.part").exists()


@pytest.mark.parametrize("wrong", [b"", b"<html>moved</html>", CONTENT[:-1] + b"?", bytes(1 << 21)])
def test_altered_files_never_arrive(home, server, files, wrong):
    server.content["a.bin"] = wrong
    with pytest.raises(CheckFailed, match="published") as error:
        download.fetch(files)
    assert "\n" not in str(error.value) and "a.bin" in str(error.value)
    folder = home / "cache" / "tinyfoa-np" / "samples"
    assert not list(folder.iterdir())
    (folder / "a.bin").write_bytes(b"from somewhere else")
    with pytest.raises(CheckFailed):
        download.fetch(files)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a.bin", b"from somewhere else")]


def test_mirrors_are_asked_in_turn(home, server, files):
    dead = "http://127.0.0.1:9/"  # nobody listens there
    folder = download.fetch(files, mirrors=(dead, server.url + "missing/", server.url))
    assert (folder / "a.bin").read_bytes() == CONTENT
    asked = [name for name, _ in server.asked]
    assert asked == ["missing/a.bin", "a.bin", "missing/b.txt", "b.txt"]


def test_without_a_network_one_line_says_what_to_do(home, monkeypatch):
    dead = "http://127.0.0.1:9/"
    files = Files("Samples", ("samples",), {"a.bin": "?"}, dead, 100, mirrors=(dead,))
    with pytest.raises(BadRequest, match=f"no address answers for a.bin .* fetch it elsewhere from {dead}") as error:
        download.fetch(files)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_directory_that_cannot_be_made(home, files):
    (home / "cache").write_text("in the way")
    with pytest.raises(BadRequest, match="cannot be written"):
        download.fetch(files)


def test_data_sets_know_what_to_fetch(home, server, monkeypatch):
    for name in data.names():
        if name != "digits":
            fetched = data._source(name)[0].fetched
            assert len(fetched.mirrors) >= 1 and all(url.endswith("/") for url in (fetched.url, *fetched.mirrors))
    content = {f"{name}.gz": gzip.compress(name.encode()) for name in mnist.DIGESTS}
    server.content = content
    digests = {name: hashlib.md5(name.encode()).hexdigest() for name in mnist.DIGESTS}
    one = mnist.SETS["mnist"]
    files = Files("MNIST", ("mnist",), digests, server.url, 100, compressed=True)
    monkeypatch.setattr(one, "layouts", [files])
    (home / "there").mkdir()
    assert data.fetch("mnist", home / "there") == str(home / "there" / "mnist")
    assert all(ok for _, ok, _ in data.verify("mnist", home / "there"))
    with pytest.raises(BadRequest, match="not a download"):
        data.fetch("digits")


def test_without_pooch_the_extra_is_named(home, files, monkeypatch):
    monkeypatch.setattr(download.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r'pip install "tinyfoa-np\[fetch\]"'):
        download.fetch(files)


def test_every_byte_of_a_broken_connection_is_kept(home, server, files):
    server.hang_up_after = 123_457
    with pytest.raises(BadRequest, match="cannot be fetched"):
        download.fetch(files)
    assert (home / "cache/tinyfoa-np/samples/a.bin.part").read_bytes() == CONTENT[:123_457]


@pytest.mark.parametrize("size", [10, 700_000, len(CONTENT), 900_000, 1_000_000, 3_000_000])
def test_a_partial_file_of_something_else_is_no_obstacle(home, server, files, size):
    """It is deleted, and the first server that has the file is enough."""
    folder = home / "cache" / "tinyfoa-np" / "samples"
    folder.mkdir(parents=True)
    (folder / "a.bin.part").write_bytes(b"x" * size)
    download.fetch(files)
    assert (folder / "a.bin").read_bytes() == CONTENT and not (folder / "a.bin.part").exists()
