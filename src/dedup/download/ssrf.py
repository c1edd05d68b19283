"""Who may be connected to. Addresses of images come from others, and may point at the inside.

Names prove nothing: what is judged is the IP address, each time a socket is about to connect.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dedup.errors import ConfigError, FetchError

Network = IPv4Network | IPv6Network

MAX_ADDRESS = 8192
"""The longest address, in characters."""
MAX_ADDRESSES = 4
"""So many of a name's addresses are connected to. A name may have thousands, of others' machines:
one row would knock at all of their doors."""

SPECIAL: dict[Network, str] = {
    ip_network(network): what
    for network, what in {
        # https://www.iana.org/assignments/iana-ipv4-special-registry
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a provider's customers",
        "127.0.0.0/8": "this machine",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a 6to4 relay",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved or broadcast",
        # https://www.iana.org/assignments/iana-ipv6-special-registry; what lies outside 2000::/3
        # is not public anyway and stands here for its name
        "::/128": "this host",
        "::1/128": "this machine",
        "::/96": "an IPv4 address in IPv6",
        "64:ff9b:1::/48": "an IPv4 address in IPv6",
        "100::/64": "discarded",
        "2001::/23": "reserved for protocols, or a Teredo tunnel",
        "2001:db8::/32": "for documentation",
        "2002::/16": "an IPv4 address in IPv6",
        "3fff::/20": "for documentation",
        "5f00::/16": "for segment routing",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
    }.items()
}
"""Networks that are not public, and what they are, for a person."""

METADATA = frozenset(
    map(ip_address, ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"])
)
"""Where clouds hand out credentials. Only a network of this one address opens it."""

METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog"})

# https://fetch.spec.whatwg.org/#port-blocking, then databases, queues and machines' controls
BAD_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679}
    | {6697, 10080}
    | {1433, 1434, 1521, 2181, 2375, 2376, 2377, 2379, 2380, 3306, 3389, 4369, 4444, 5432, 5433}
    | {5672, 5900, 5901, 5984, 5985, 5986, 6001, 6379, 6380, 6443, 7000, 7001, 7199, 8086, 8500}
    | {8529, 9042, 9092, 9160, 9200, 9300, 9418, 10250, 10255, 10256, 11211, 15672, 25565, 26257}
    | {26379, 27017, 27018, 27019, 28015}
)
"""Ports from 1024 on that no shop shows images at."""

_GLOBAL = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NETLOC = re.compile(r"(\[(?P<ip>[^]]+)]|(?P<name>[^][:@\\]+))(:(?P<port>[0-9]{0,5}))?")
_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


class Link(NamedTuple):
    """An http(s) address that may be asked for.

    Attributes:
        url: quoted as RFC 3986 asks, without a fragment.
        scheme: ``http`` or ``https``.
        host: a name in ASCII, or a plain IP address.
        port: 80 or 443 where the address names none.
    """

    url: str
    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def read_link(address: str) -> Link:
    """Take an address apart, and quote what must be quoted.

    Raises:
        FetchError: ``scheme``, when it is neither http nor https; ``port``, when it is one of
            another service; ``bad_url``.
    """
    scheme = _SCHEME.match(address)
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise FetchError("scheme", "only http and https addresses are fetched")
    if not scheme or len(address) > MAX_ADDRESS or _CONTROL.search(address):
        raise FetchError("bad_url", "no http(s) address, too long, or with control characters")
    try:
        return _read_link(address)
    except ValueError as error:
        raise FetchError("bad_url", "no address of a host and an image there") from error


def _read_link(address: str) -> Link:
    parts = urllib.parse.urlsplit(address)
    place, host, port = _read_place(parts.scheme, parts.netloc)
    query = f"?{_quoted(parts.query, '/?')}" if parts.query else ""
    url = f"{parts.scheme}://{place}{_quoted(parts.path, '/') or '/'}{query}"
    return Link(url, parts.scheme, host, port)


@lru_cache(maxsize=4096)
def _read_place(scheme: str, netloc: str) -> tuple[str, str, int]:
    """Host and port as an address gives them, the host, the port; ``ValueError`` if none."""
    found = _NETLOC.fullmatch(netloc)
    if not found:
        raise ValueError("no host, or a user's name before it")
    host, standard = _read_host(found["name"] or found["ip"]), {"http": 80, "https": 443}[scheme]
    port = int(found["port"] or standard)
    if port > 65535:
        raise ValueError("no port")
    if (port < 1024 and port not in (80, 443)) or port in BAD_PORTS:
        raise FetchError("port", f"{port} is the port of another service")
    place = f"[{host}]" if ":" in host else host
    return (place if port == standard else f"{place}:{port}"), host, port


def _read_host(name: str) -> str:
    """A host in the one way of writing it that everybody reads alike; ``ValueError`` if none."""
    if ":" in name:
        if "%" in name:
            raise ValueError("an address of one network interface")
        return IPv6Address(name).compressed
    host = name.lower() if name.isascii() else URL.build(scheme="http", host=name).raw_host or ""
    if not _NAME.fullmatch(host):
        raise ValueError("not a host's name")
    # The system would read 127.1, 0x7f000001 and 017700000001 as addresses: so do we, before it.
    if _NUMBER.fullmatch(host):
        try:
            return str(IPv4Address(socket.inet_aton(host.removesuffix("."))))
        except OSError as error:
            raise ValueError("not an IPv4 address") from error
    return host


def _quoted(text: str, safe: str) -> str:
    """Quote what a path or query may not hold; what is quoted already stays."""
    text = _LONE_PERCENT.sub("%25", text)
    return urllib.parse.quote(text, safe + "%:@!$&'()*+,;=~-._", errors="surrogateescape")


def read_networks(networks: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, such as ``10.0.0.0/8``.

    Raises:
        ConfigError: one is something else.
    """
    try:
        return tuple(ip_network(str(network)) for network in networks)
    except ValueError as error:
        raise ConfigError(f"fetch.allow_networks: {error}; write it like 10.0.0.0/8") from error


@dataclass(frozen=True)
class Guard:
    """Lets connections out to public addresses alone.

    Args:
        allowed: networks that may be reached besides.
    """

    allowed: tuple[Network, ...] = ()

    def check(self, address: str) -> None:
        """Judge an IP address.

        Raises:
            FetchError: ``blocked_address``.
        """
        what = self._what(ip_address(address.partition("%")[0]))
        if what:
            raise FetchError(
                "blocked_address",
                f"{address} is not a public address: {what} (see fetch.allow_networks)",
            )

    def check_link(self, link: Link) -> None:
        """Judge a link by its host, when that is an IP address or a metadata service's name.

        Raises:
            FetchError: ``blocked_address``.
        """
        if link.host.rstrip(".") in METADATA_NAMES:
            raise FetchError("blocked_address", f"{link.host} is a cloud's metadata service")
        if ":" in link.host or _NUMBER.fullmatch(link.host):
            self.check(link.host)

    def socket(self, info: AddrInfoType) -> socket.socket:
        """A socket for one connection, if it may be made: the last and the deciding look.

        Args:
            info: as ``socket.getaddrinfo`` gives it.

        Raises:
            FetchError: ``blocked_address``.
            ConfigError: this process has no file descriptor left.
        """
        family, kind, protocol, _, address = info
        self.check(address[0])
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise ConfigError(
                "too many open files: lower fetch.connections, or raise the limit (ulimit -n)"
            ) from error

    def _what(self, ip: IPv4Address | IPv6Address) -> str:
        """What an address is that may not be reached; "" when it may."""
        if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip in _NAT64):
            return self._what(IPv4Address(int(ip) & 0xFFFFFFFF))
        opened = [network for network in self.allowed if ip in network]
        if ip in METADATA:
            alone = any(network.num_addresses == 1 for network in opened)
            return "" if alone else "a cloud's metadata service"
        if opened:
            return ""
        what = next((what for network, what in SPECIAL.items() if ip in network), "")
        return what or ("reserved" if ip.version == 6 and ip not in _GLOBAL else "")


@dataclass(frozen=True)
class GuardedResolver(AbstractResolver):
    """Looks names up, and gives no answer when any part of it may not be connected to.

    Args:
        guard: the judge.
        inner: who looks up.
    """

    guard: Guard
    inner: AbstractResolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Some addresses of a host; of IPv4 alone where it has any, so that one try is enough.

        Raises:
            FetchError: ``blocked_address``.
            OSError: the name service has none.
        """
        found = await self.inner.resolve(host, port, family)
        for answer in found:
            self.guard.check(answer["host"])
        chosen = [answer for answer in found if ":" not in answer["host"]] or found
        return chosen[:MAX_ADDRESSES]

    async def close(self) -> None:
        """Close the inner resolver."""
        await self.inner.close()


class SystemResolver(AbstractResolver):
    """The system's name service, asked in threads that nobody waits for at the end.

    Args:
        most: how many look-ups go on at once at most. One cannot be ended, so those that hang and
            that nobody waits for any more are counted too.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: there are none, or nobody answers.
        """
        if not self._free.acquire(blocking=False):
            raise socket.gaierror(socket.EAI_AGAIN, "too many names wait for an answer")
        answer: concurrent.futures.Future[Sequence[str]] = concurrent.futures.Future()
        answer.set_running_or_notify_cancel()
        try:
            asked = threading.Thread(target=self._ask, args=(answer, host, family), daemon=True)
            asked.start()
        except RuntimeError as error:
            self._free.release()
            raise socket.gaierror(socket.EAI_AGAIN, "no thread is left to look it up") from error
        return _results(host, port, await asyncio.wrap_future(answer))

    async def close(self) -> None:
        """Nothing is held open."""

    def _ask(
        self,
        answer: concurrent.futures.Future[Sequence[str]],
        host: str,
        family: socket.AddressFamily,
    ) -> None:
        try:
            found = socket.getaddrinfo(
                host, None, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except (OSError, ValueError) as error:
            answer.set_exception(error)
        else:
            answer.set_result([str(address[0]) for *_, address in found])
        finally:
            self._free.release()


def _results(host: str, port: int, addresses: Sequence[str]) -> list[ResolveResult]:
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(
            hostname=host, host=address, port=port, proto=socket.IPPROTO_TCP, flags=numeric,
            family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        )
        for address in addresses
    ]  # fmt: skip
