"""A name service by hand, and a network of its own in which the system really asks it.

``setup(folder)`` is the beginning of a command that runs in there: every address of the world is
this machine, no packet leaves it, and ``/etc/resolv.conf`` names the server that ``naming`` starts.
"""

import shutil
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

KINDS = {"A": 1, "CNAME": 5, "AAAA": 28}
SERVFAIL, NXDOMAIN, CUT = 2, 3, -1
MAX_BY_UDP = 512


class Record(NamedTuple):
    """One line of an answer."""

    kind: str
    value: str
    owner: str = ""  # the name that was asked for


Answer = Sequence[Record] | int | bytes | None
"""Records; or a code of failure; or any bytes after the number of the question; or silence. ``CUT``
sends the asker on to TCP, and is silent there."""
Zone = Mapping[str, Callable[[str, int], Answer]]
"""What is answered for a name: by the kind that is asked for, and how often it was, from 1."""


def addresses(*values: str) -> Callable[[str, int], Answer]:
    """Always these addresses, whichever are of the kind that is asked for."""
    records = [Record("AAAA" if ":" in value else "A", value) for value in values]
    return lambda kind, _: [record for record in records if record.kind == kind]


def encoded(name: str) -> bytes:
    """A name as messages hold it."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def data(record: Record) -> bytes:
    """What a record says, as messages hold it."""
    return encoded(record.value) if record.kind == "CNAME" else ip_address(record.value).packed


class NameServer:
    """Answers by UDP and TCP.

    Args:
        zone: other names do not exist.

    Attributes:
        asked: how often each name was, by its kind.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: Counter[tuple[str, str]] = Counter()

    def reply(self, message: bytes, most: int) -> bytes | None:
        """The answer to a question, cut where it is longer than ``most`` bytes."""
        labels, place = [], 12
        while size := message[place]:
            labels.append(message[place + 1 : place + 1 + size].decode("latin-1"))
            place += 1 + size
        name, (number,) = ".".join(labels).lower(), struct.unpack_from(">H", message, place + 1)
        kind = {value: key for key, value in KINDS.items()}.get(number, "")
        question = message[12 : place + 5]
        if most == MAX_BY_UDP:
            self.asked[name, kind] += 1
        answer = self.zone.get(name, lambda *_: NXDOMAIN)(kind, self.asked[name, kind])
        if answer is None or (answer == CUT and most != MAX_BY_UDP):
            return None
        if isinstance(answer, bytes):
            return message[:2] + answer
        code, records = (max(0, answer), []) if isinstance(answer, int) else (0, answer)
        body = b"".join(
            (encoded(record.owner) if record.owner else b"\xc0\x0c")
            + struct.pack(">HHIH", KINDS[record.kind], 1, 0, len(data(record)))
            + data(record)
            for record in records
        )
        is_cut = answer == CUT or 12 + len(question) + len(body) > most
        flags = 0x8180 | code | (0x0200 if is_cut else 0)
        head = struct.pack(">HHHHH", flags, 1, 0 if is_cut else len(records), 0, 0)
        return message[:2] + head + question + (b"" if is_cut else body)

    def serve_udp(self, line: socket.socket) -> None:
        """Answer datagrams until the socket is closed."""
        with suppress(OSError):
            while True:
                message, sender = line.recvfrom(4096)
                if reply := self.reply(message, MAX_BY_UDP):
                    line.sendto(reply, sender)

    def serve_tcp(self, door: socket.socket) -> None:
        """Answer one question of each connection until the socket is closed."""
        with suppress(OSError):
            while True:
                line, _ = door.accept()
                threading.Thread(target=self._serve_one, args=(line,), daemon=True).start()

    def _serve_one(self, line: socket.socket) -> None:
        with line, suppress(OSError), line.makefile("rb") as file:
            while size := file.read(2):
                message = file.read(int.from_bytes(size, "big"))
                reply = self.reply(message, 65_535)
                if reply is None:
                    threading.Event().wait()  # silent, and the connection stands
                else:
                    line.sendall(struct.pack(">H", len(reply)) + reply)


@contextmanager
def naming(zone: Zone, host: str = "127.0.0.1", port: int = 53) -> Iterator[NameServer]:
    """A name server in threads of its own, until the end of the ``with`` block."""
    server = NameServer(zone)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server((host, port), backlog=1024) as tcp,
    ):
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        udp.bind((host, port))
        threading.Thread(target=server.serve_udp, args=(udp,), daemon=True).start()
        threading.Thread(target=server.serve_tcp, args=(tcp,), daemon=True).start()
        yield server


NETWORK = """
ip link set lo up
ip addr add 9.9.9.9/32 dev lo
ip -6 addr add 2600::1/128 dev lo nodad
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
shift
exec "$@"
"""


def setup(folder: Path) -> list[str]:
    """What a command begins with that is to run in a network of its own.

    Args:
        folder: where the files of its name service are kept.

    Returns:
        Nothing, where this machine gives nobody such a network.
    """
    if not (shutil.which("unshare") and shutil.which("ip")):
        return []
    resolv = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
    (folder / "resolv.conf").write_text(resolv, encoding="ascii")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n", encoding="ascii")
    command = ["unshare", "-rnm", "sh", "-ec", NETWORK, "sh", str(folder)]
    done = subprocess.run([*command, "true"], capture_output=True)
    return [] if done.returncode else command


PUBLIC, PUBLIC6 = "9.9.9.8", "2600::2"
INSIDE_OR_NONE = "blocked_address or dns"
"""Systems differ in whether half an answer is one."""


def rebound(*then: str) -> Callable[[str, int], Answer]:
    """A public address the first time, and others from then on."""
    first, others = addresses(PUBLIC), addresses(*then)
    return lambda kind, number: (first if number == 1 else others)(kind, number)


def alias(of: str, *values: str) -> Callable[[str, int], Answer]:
    """Another name, and the addresses of that."""

    def answer(kind: str, number: int) -> Answer:
        found = addresses(*values)(kind, number)
        assert isinstance(found, list)
        return [Record("CNAME", of), *(record._replace(owner=of) for record in found)]

    return answer


def split(**answers: Answer) -> Callable[[str, int], Answer]:
    """An answer for each kind."""
    return lambda kind, _: answers.get(kind, [])


def many(last: str, n: int = 4000) -> Callable[[str, int], Answer]:
    """Thousands of public addresses, and one more."""
    return addresses(*(f"9.9.{16 + i // 250}.{i % 250 + 1}" for i in range(n - 1)), last)


ATTACKS: dict[str, tuple[Callable[[str, int], Answer], str]] = {
    "public.test": (addresses(PUBLIC, PUBLIC6), "ok"),
    "private.test": (addresses("10.0.0.1"), "blocked_address"),
    "metadata.test": (addresses("169.254.169.254"), "blocked_address"),
    "zero.test": (addresses("0.0.0.0"), "blocked_address"),
    "mixed.test": (addresses(PUBLIC, "192.168.0.1"), "blocked_address"),
    "mixed6.test": (addresses(PUBLIC, "::1"), "blocked_address"),
    "inner.test": (addresses("127.0.0.1", PUBLIC6), "blocked_address"),
    "mapped.test": (addresses("::ffff:127.0.0.1"), "blocked_address"),
    "compatible.test": (addresses("::7f00:1"), "blocked_address"),
    "nat64.test": (addresses("64:ff9b::7f00:1"), "blocked_address"),
    "nat64-metadata.test": (addresses("64:ff9b::a9fe:a9fe"), "blocked_address"),
    "nat64-public.test": (addresses("64:ff9b::808:808"), "ok"),
    "six-to-four.test": (addresses("2002:7f00:1::"), "blocked_address"),
    "local6.test": (addresses("fd00:ec2::254"), "blocked_address"),
    "alias.test": (alias("localhost", "127.0.0.1", "::1"), "blocked_address"),
    "alias-inside.test": (alias("db.internal", "10.1.2.3"), "blocked_address"),
    "alias-public.test": (alias("shop.test", PUBLIC), "ok"),
    "many.test": (many("9.9.31.1"), "ok"),
    "many-mixed.test": (many("127.0.0.1"), "blocked_address"),
    "loop.test": (alias("loop.test"), "dns"),
    "nothing.test": (split(), "dns"),
    "silent.test": (split(A=None, AAAA=None), "dns"),
    "silent-a.test": (split(A=None, AAAA=[Record("AAAA", "::1")]), INSIDE_OR_NONE),
    "silent-aaaa.test": (split(A=[Record("A", "10.0.0.1")], AAAA=None), INSIDE_OR_NONE),
    "broken-aaaa.test": (split(A=[Record("A", "10.0.0.1")], AAAA=SERVFAIL), INSIDE_OR_NONE),
    "broken.test": (split(A=SERVFAIL, AAAA=SERVFAIL), "dns"),
    "garbage.test": (split(A=b"\xff" * 99, AAAA=b"\xff" * 99), "dns"),
    "absent.test": (split(A=NXDOMAIN, AAAA=NXDOMAIN), "dns"),
}
"""What each name is answered, and the words that may be said of an image there."""
REBOUND = {
    "rebound.test": rebound("127.0.0.1"),
    "rebound6.test": rebound("::1"),
    "rebound-metadata.test": rebound("169.254.169.254"),
    "rebound-mapped.test": rebound("::ffff:10.0.0.1"),
}
"""Names that are public when they are asked for first, and never again."""
