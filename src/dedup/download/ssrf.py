"""Guard against server-side request forgery: connections go to public addresses alone.

Addresses of images are untrusted, and may point at private networks. A host's name proves
nothing, so the IP address is checked each time a socket is about to connect.
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
"""Most addresses of a name to try. A name may resolve to thousands of strangers' machines, and one
row must not contact them all."""

SPECIAL: dict[Network, str] = {
    ip_network(network): kind
    for network, kind in {
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
        # https://www.iana.org/assignments/iana-ipv6-special-registry; addresses outside
        # 2000::/3 are not public anyway, and are listed for their names
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
"""Networks that are not public, each with its use, for messages."""

METADATA = frozenset(
    map(ip_address, ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254"])
)
"""Metadata services of clouds, which hand out credentials. Only a setting of the one address, not
of a network around it, allows one."""

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
"""Ports from 1024 on of services that serve no images."""

_GLOBAL = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NETLOC = re.compile(r"(\[(?P<ip>[^]]+)]|(?P<name>[^][:@\\]+))(:(?P<port>[0-9]{0,5}))?")
_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")


class Link(NamedTuple):
    """A parsed http(s) address.

    Attributes:
        url: the address quoted by RFC 3986, without a fragment.
        scheme: ``http`` or ``https``.
        host: name in ASCII, or plain IP address.
        port: port number; 80 or 443 where the address names none.
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
    """Parse an address, and quote its special characters.

    Raises:
        FetchError: ``scheme``, for a scheme other than http and https; ``port``, for the port of
            another service; ``bad_url``.
    """
    scheme = _SCHEME.match(address)
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise FetchError("scheme", "only http and https addresses are fetched")
    if not scheme or len(address) > MAX_ADDRESS or _CONTROL.search(address):
        raise FetchError("bad_url", "not an http(s) address, too long, or with control characters")
    try:
        return _read_link(address)
    except ValueError as error:
        raise FetchError("bad_url", "not an address of a host and a path") from error


def _read_link(address: str) -> Link:
    parts = urllib.parse.urlsplit(address)
    place, host, port = _read_place(parts.scheme, parts.netloc)
    query = f"?{_quoted(parts.query, '/?')}" if parts.query else ""
    url = f"{parts.scheme}://{place}{_quoted(parts.path, '/') or '/'}{query}"
    return Link(url, parts.scheme, host, port)


@lru_cache(maxsize=4096)
def _read_place(scheme: str, netloc: str) -> tuple[str, str, int]:
    """Split host and port; return both as in an address, the host, the port, or ``ValueError``."""
    match = _NETLOC.fullmatch(netloc)
    if not match:
        raise ValueError("no host, or a user's name before it")
    host, standard = _read_host(match["name"] or match["ip"]), {"http": 80, "https": 443}[scheme]
    port = int(match["port"] or standard)
    if port > 65535:
        raise ValueError("no port")
    if (port < 1024 and port not in (80, 443)) or port in BAD_PORTS:
        raise FetchError("port", f"{port} is the port of another service")
    place = f"[{host}]" if ":" in host else host
    return (place if port == standard else f"{place}:{port}"), host, port


def _read_host(name: str) -> str:
    """Normalise a host, so that every library reads it alike; ``ValueError`` if it is none."""
    if ":" in name:
        if "%" in name:
            raise ValueError("an address of one network interface")
        return IPv6Address(name).compressed
    host = name.lower() if name.isascii() else URL.build(scheme="http", host=name).raw_host or ""
    if not _NAME.fullmatch(host):
        raise ValueError("not a host's name")
    # The system reads 127.1, 0x7f000001 and 017700000001 as addresses, so the check must as well.
    if _NUMBER.fullmatch(host):
        try:
            return str(IPv4Address(socket.inet_aton(host.removesuffix("."))))
        except OSError as error:
            raise ValueError("not an IPv4 address") from error
    return host


def _quoted(text: str, safe: str) -> str:
    """Quote the characters that a path or query may not hold; quoted ones stay."""
    text = _LONE_PERCENT.sub("%25", text)
    return urllib.parse.quote(text, safe + "%:@!$&'()*+,;=~-._", errors="surrogateescape")


def read_networks(networks: Iterable[str]) -> tuple[Network, ...]:
    """Parse networks in CIDR notation, such as ``10.0.0.0/8``.

    Raises:
        ConfigError: an entry is not a network.
    """
    try:
        return tuple(ip_network(str(network)) for network in networks)
    except ValueError as error:
        raise ConfigError(f"fetch.allow_networks: {error}. Write it like 10.0.0.0/8") from error


@dataclass(frozen=True)
class Guard:
    """Firewall for outgoing connections: public addresses alone.

    Args:
        allowed: further networks that may be reached.
    """

    allowed: tuple[Network, ...] = ()

    def check(self, address: str) -> None:
        """Refuse an IP address that is not public.

        Raises:
            FetchError: ``blocked_address``.
        """
        kind = self._blocked_kind(ip_address(address.partition("%")[0]))
        if kind:
            raise FetchError(
                "blocked_address",
                f"{address} is not a public address: {kind} (see fetch.allow_networks)",
            )

    def check_link(self, link: Link) -> None:
        """Refuse a link whose host is a blocked IP address or a metadata service.

        Raises:
            FetchError: ``blocked_address``.
        """
        if link.host.rstrip(".") in METADATA_NAMES:
            raise FetchError("blocked_address", f"{link.host} is a cloud's metadata service")
        if ":" in link.host or _NUMBER.fullmatch(link.host):
            self.check(link.host)

    def socket(self, info: AddrInfoType) -> socket.socket:
        """Create the socket of one connection, after the last and decisive check.

        Args:
            info: address, as ``socket.getaddrinfo`` gives it.

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

    def _blocked_kind(self, ip: IPv4Address | IPv6Address) -> str:
        """Name the use of a blocked address; "" for an address that may be reached."""
        if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip in _NAT64):
            return self._blocked_kind(IPv4Address(int(ip) & 0xFFFFFFFF))
        matches = [network for network in self.allowed if ip in network]
        if ip in METADATA:
            is_named = any(network.num_addresses == 1 for network in matches)
            return "" if is_named else "a cloud's metadata service"
        if matches:
            return ""
        kind = next((kind for network, kind in SPECIAL.items() if ip in network), "")
        return kind or ("reserved" if ip.version == 6 and ip not in _GLOBAL else "")


@dataclass(frozen=True)
class GuardedResolver(AbstractResolver):
    """DNS resolver that refuses a name if any of its addresses is blocked.

    Args:
        guard: check of each address.
        inner: resolver that looks names up.
    """

    guard: Guard
    inner: AbstractResolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a host; IPv4 alone where it has any, so that one attempt is enough.

        Raises:
            FetchError: ``blocked_address``.
            OSError: the name has no address.
        """
        results = await self.inner.resolve(host, port, family)
        for result in results:
            self.guard.check(result["host"])
        chosen = [result for result in results if ":" not in result["host"]] or results
        return chosen[:MAX_ADDRESSES]

    async def close(self) -> None:
        """Close the inner resolver."""
        await self.inner.close()


class SystemResolver(AbstractResolver):
    """The system's DNS resolver, run in daemon threads that a stopping process leaves behind.

    Args:
        max_lookups: most look-ups at once. A look-up cannot be cancelled, so those that hang after
            their caller gave up are counted too.
    """

    def __init__(self, max_lookups: int) -> None:
        self._free = threading.Semaphore(max_lookups)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a host.

        Raises:
            OSError: the name has no address, or no name server answers.
        """
        if not self._free.acquire(blocking=False):
            raise socket.gaierror(socket.EAI_AGAIN, "too many DNS look-ups are waiting")
        answer: concurrent.futures.Future[Sequence[str]] = concurrent.futures.Future()
        answer.set_running_or_notify_cancel()
        try:
            args = (answer, host, family)
            threading.Thread(target=self._look_up, args=args, daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            raise socket.gaierror(socket.EAI_AGAIN, "no thread for a DNS look-up") from error
        return _results(host, port, await asyncio.wrap_future(answer))

    async def close(self) -> None:
        """Do nothing: no connection is held open."""

    def _look_up(
        self,
        answer: concurrent.futures.Future[Sequence[str]],
        host: str,
        family: socket.AddressFamily,
    ) -> None:
        try:
            infos = socket.getaddrinfo(
                host, None, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        except (OSError, ValueError) as error:
            answer.set_exception(error)
        else:
            answer.set_result([str(address[0]) for *_, address in infos])
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
