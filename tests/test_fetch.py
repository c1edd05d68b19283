"""Files that are odd and a local server that misbehaves: bytes come back, or one reason."""

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from dedup import __version__
from dedup.errors import FetchError
from dedup.fetch import fetch, is_http, version

PICTURE = bytes(range(256)) * 4


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers ``/NAME`` and ``/NAME/...`` with the method ``answer_NAME``."""

    released = threading.Event()

    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0].partition("/")[0]
        getattr(self, f"answer_{name}")()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_picture(self) -> None:
        self.send(PICTURE, Content_Length=str(len(PICTURE)))

    def answer_unsized(self) -> None:
        self.send(PICTURE)

    def answer_wrongly_typed(self) -> None:
        self.send(PICTURE, Content_Type="text/html", Content_Length=str(len(PICTURE)))

    def answer_echo(self) -> None:
        self.send(self.path.encode())

    def answer_agent(self) -> None:
        self.send(self.headers["User-Agent"].encode())

    def answer_status(self) -> None:
        self.send(b"", int(self.path.rpartition("/")[2]))

    def answer_empty(self) -> None:
        self.send(b"", Content_Length="0")

    def answer_short(self) -> None:
        self.send(PICTURE, Content_Length=str(len(PICTURE) + 1))

    def answer_short_chunk(self) -> None:
        self.send(b"ff\r\n" + PICTURE[:9], Transfer_Encoding="chunked")

    def answer_chunks(self) -> None:
        self.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", Transfer_Encoding="chunked")

    def answer_huge(self) -> None:
        self.send(PICTURE, Content_Length="10000000000")

    def answer_to(self) -> None:
        self.send(b"", 302, Location=unquote(self.path.partition("?")[2]))

    def answer_loop(self) -> None:
        self.send(b"", 302, Location=self.path)

    def answer_silence(self) -> None:
        self.released.wait(10)

    def answer_stall(self) -> None:
        self.send(PICTURE[:5], Content_Length=str(len(PICTURE)))
        self.released.wait(10)

    def answer_nonsense(self) -> None:
        self.wfile.write(b"this is not HTTP\r\n\r\n")

    def answer_nothing(self) -> None:
        """Close the connection without a byte."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of one server for all tests here."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Misbehaving.released.set()
    server.shutdown()
    server.server_close()


def reason(address: str, timeout: float = 5.0, max_bytes: int = 10_000) -> str:
    """Why an address fails."""
    with pytest.raises(FetchError) as caught:
        fetch(address, timeout, max_bytes)
    assert caught.value.detail
    return caught.value.reason


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "name", ["1.jpg", "två blå byxor.jpg", "100 %25 cotton?#.jpg", "a\nb", "裤"]
)
def test_files_are_read_whole_whatever_their_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PICTURE)
    assert fetch(str(tmp_path / name)) == PICTURE


def test_bad_files_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert reason(str(tmp_path / "missing.jpg")) == "not_found"
    assert reason(str(tmp_path / "missing" / "1.jpg")) == "not_found"
    assert reason(str(tmp_path / "empty.jpg" / "1.jpg")) == "not_found"
    assert reason(str(tmp_path / "dangling.jpg")) == "not_found"
    assert reason(f"{tmp_path}/a\0b.jpg") == "not_found"
    assert reason(str(tmp_path)) == "not_a_file"
    assert reason(str(tmp_path / "pipe")) == "not_a_file"
    assert reason(str(tmp_path / ("x" * 300))) == "unreadable"
    assert reason(str(tmp_path / "empty.jpg")) == "empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "1.jpg"
    file.write_bytes(PICTURE)
    file.chmod(0)
    assert reason(str(file)) == "unreadable"


def test_a_file_may_have_the_largest_size_and_no_byte_more(tmp_path: Path) -> None:
    file = tmp_path / "1.jpg"
    file.write_bytes(PICTURE)
    assert fetch(str(file), max_bytes=len(PICTURE)) == PICTURE
    assert reason(str(file), max_bytes=len(PICTURE) - 1) == "too_large"


@pytest.mark.parametrize("name", ["picture", "unsized", "wrongly_typed"])
def test_http_bodies_are_read_whole(site: str, name: str) -> None:
    assert fetch(f"{site}/{name}") == PICTURE


def test_chunks_are_joined(site: str) -> None:
    assert fetch(f"{site}/chunks") == b"abcde"


def test_the_server_is_told_who_asks(site: str) -> None:
    assert fetch(f"{site}/agent").decode() == f"dedup-catalogue/{__version__}"


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("a b.jpg", "a%20b.jpg"),
        ("blå.jpg", "bl%C3%A5.jpg"),
        ("a%20b%C3%A5.jpg", "a%20b%C3%A5.jpg"),
        ("x_{@width}.jpg?q={@quality}", "x_%7B@width%7D.jpg?q=%7B@quality%7D"),
        ("1.jpg?name=grå byxa&size=a/b", "1.jpg?name=gr%C3%A5%20byxa&size=a/b"),
        ("1.jpg#part", "1.jpg"),
    ],
)
def test_blanks_and_letters_outside_ascii_are_quoted_once(site: str, asked: str, sent: str) -> None:
    assert fetch(f"{site}/echo/{asked}").decode() == f"/echo/{sent}"


@pytest.mark.parametrize("status", [204, 206, 304, 400, 403, 404, 410, 429, 500, 503])
def test_every_status_but_200_is_the_reason(site: str, status: int) -> None:
    assert reason(f"{site}/status/{status}") == f"http_{status}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("empty", "empty"),
        ("short", "truncated"),
        ("short_chunk", "truncated"),
        ("huge", "truncated"),
        ("nonsense", "bad_answer"),
        ("nothing", "connection"),
        ("loop", "http_302"),
    ],
)
def test_bad_answers_have_a_reason(site: str, name: str, expected: str) -> None:
    assert reason(f"{site}/{name}") == expected


def test_a_body_may_have_the_largest_size_and_no_byte_more(site: str) -> None:
    for name in ("picture", "unsized"):
        assert fetch(f"{site}/{name}", max_bytes=len(PICTURE)) == PICTURE
        assert reason(f"{site}/{name}", max_bytes=len(PICTURE) - 1) == "too_large"
    assert reason(f"{site}/huge", max_bytes=len(PICTURE) - 1) == "too_large"


@pytest.mark.parametrize("name", ["silence", "stall"])
def test_a_server_that_says_nothing_more_is_a_timeout(site: str, name: str) -> None:
    assert reason(f"{site}/{name}", timeout=0.1) == "timeout"


def test_redirects_lead_to_other_pictures(site: str) -> None:
    assert fetch(f"{site}/to?{site}/picture") == PICTURE
    assert fetch(f"{site}/to?/picture") == PICTURE
    assert fetch(f"{site}/to?/to?/picture") == PICTURE
    assert fetch(f"{site}/to?/echo/a b") == b"/echo/a%20b"


def test_redirects_to_anything_else_are_refused(site: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(PICTURE)
    assert reason(f"{site}/to?file://{secret}") == "http_302"
    assert reason(f"{site}/to?ftp://127.0.0.1:{closed_port()}/1.jpg") == "bad_url"
    assert reason(f"{site}/to?data:image/png;base64,AAAA") == "http_302"
    assert reason(f"{site}/to?/status/404") == "http_404"


def test_no_server_there_is_a_connection_that_failed() -> None:
    assert reason(f"http://127.0.0.1:{closed_port()}/1.jpg") == "connection"


def test_https_from_a_server_without_it_is_a_tls_failure(site: str) -> None:
    assert reason(site.replace("http:", "https:") + "/picture") == "tls"


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http:///1.jpg",
        "http://127.0.0.1:port/",
        "http://[::1",
        "http://a b/",
        "http://a..b/",
        "http://å..se/",
        "http://" + "å" * 80 + ".se/",
    ],
)
def test_addresses_that_cannot_be_have_a_reason(address: str) -> None:
    assert reason(address) == "bad_url"


def test_only_http_and_https_go_over_the_network() -> None:
    assert all(map(is_http, ["http://a/b", "https://a/b", "HTTP://a/b"]))
    assert not any(map(is_http, ["", "/a/http://b", "a.jpg", "ftp://a/b", "file:///a", "http:/a"]))


def test_a_changed_file_has_another_version(tmp_path: Path) -> None:
    file = tmp_path / "1.jpg"
    seen = [version(str(file))]
    file.write_bytes(b"one")
    seen.append(version(str(file)))
    file.write_bytes(b"other")
    seen.append(version(str(file)))
    os.utime(file, ns=(0, 1))
    seen.append(version(str(file)))
    assert seen[0] == "missing"
    assert len(set(seen)) == len(seen)
    assert version(str(file)) == seen[-1]


def test_an_address_has_no_version_and_an_odd_path_one() -> None:
    assert version("https://shop.example/1.jpg") == ""
    assert version("a\0b") == version("x" * 300) == "missing"
