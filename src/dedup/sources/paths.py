"""Check addresses of images: of the web or of object storage, or paths below a folder."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from urllib.parse import unquote, urljoin, urlsplit

from dedup.download.buckets import is_bucket, read_place
from dedup.errors import ConfigError, FetchError
from dedup.sources.addresses import is_web_host, split_addresses

MAX_ADDRESS = 8192
"""The longest address that is accepted, in characters."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PLAIN = re.compile(r"https?://[A-Za-z0-9-][A-Za-z0-9.-]*/[!-~]*")
_WEB = re.compile(r"https?:(?://([^/?#]*))?", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")


class ImageFolder:
    """Folder that relative addresses start from and that no address may leave.

    Args:
        path: folder of images, which may be a symbolic link itself; or its address in object
            storage.
        base_url: http(s) address that relative addresses start from instead; "" for none.

    Raises:
        ConfigError: ``base_url`` is no http(s) address.
    """

    def __init__(self, path: str, base_url: str = "") -> None:
        self.path = path
        self.base_url = _as_base(base_url) if base_url else ""
        self._scheme = urlsplit(self.base_url).scheme or "https"
        self._parents: dict[str, str] = {}

    @cached_property
    def root(self) -> str:
        """Absolute path of the folder, without symbolic links."""
        return os.path.realpath(self.path)

    def split(self, cells: Iterable[str]) -> tuple[list[str], str]:
        """Split a record's cells into addresses, see ``split_addresses``.

        A file whose name is a whole cell, signs included, is one address.
        """
        addresses: list[str] = []
        reasons: set[str] = set()
        for cell in cells:
            some, reason = split_addresses(cell)
            name = cell.strip()
            if some != [name] and not self._is_remote and self._is_file(name):
                some, reason = [name], ""
            addresses += some
            reasons.add(reason)
        return addresses, "" if addresses else max(reasons - {"no_url"}, default="no_url")

    def locate(self, address: str) -> tuple[str, str]:
        """Check and resolve the address of an image.

        Args:
            address: http(s) address, address of object storage, ``//host/path``, ``host/path`` or
                path, stripped. A host without a scheme means https, or the scheme of
                ``base_url``; a path whose folder exists stays a path.

        Returns:
            ``(place, "")``, where place is the address as given or an absolute path without
            symbolic links; or ``("", reason)``, where reason is ``bad_url``, ``scheme``
            or ``outside_folder``. The image itself may still be missing.
        """
        if len(address) <= MAX_ADDRESS and _PLAIN.fullmatch(address):  # nearly all, and fast
            return address, ""
        address = self._with_scheme(address)
        web = _WEB.match(address)
        if not web and _SCHEME.match(address) and not is_bucket(address):
            return "", "scheme"
        if len(address) > MAX_ADDRESS or _UNSAFE.search(address):
            return "", "bad_url"
        if is_bucket(address):
            return _in_bucket(address)
        if not web and self.base_url:
            address = _joined(self.base_url, address)
            web = _WEB.match(address)
        if web:
            return (address, "") if _is_host(web[1]) else ("", "bad_url")
        if is_bucket(self.path):
            return self._below_bucket(address)
        place = self.below(self._literal_or_decoded(address))
        return (place, "") if place else ("", "outside_folder")

    @property
    def _is_remote(self) -> bool:
        """Whether relative addresses start from an address."""
        return bool(self.base_url) or is_bucket(self.path)

    def _below_bucket(self, path: str) -> tuple[str, str]:
        """Resolve a path that starts from a folder in object storage, which it may not leave."""
        real = posixpath.normpath(path)
        if real.startswith("/") or real.split("/")[0] in ("..", "."):
            return "", "outside_folder"
        return _in_bucket(f"{self.path}/{real}")

    def _with_scheme(self, address: str) -> str:
        """Put the scheme before an address that begins with a web host."""
        if address.startswith("//"):
            return f"{self._scheme}:{address}" if _names_host(address[2:]) else address
        if not is_web_host(address) or len(address) > MAX_ADDRESS:
            return address
        folder = address.partition("/")[0]
        if not self._is_remote and os.path.lexists(self._absolute(folder)):
            return address
        return f"{self._scheme}://{address}"

    def _is_file(self, name: str) -> bool:
        """Whether a file of the folder has this name, a whole cell."""
        is_path = name and not _SCHEME.match(name) and not _UNSAFE.search(name)
        return bool(is_path) and len(name) <= MAX_ADDRESS and os.path.lexists(self._absolute(name))

    def below(self, path: str) -> str | None:
        """Resolve a path; ``None`` if it does not lie below the folder.

        Args:
            path: path that is absolute or relative to the folder, without NUL.
        """
        head, tail = os.path.split(self._absolute(path))
        if head not in self._parents:
            self._parents[head] = os.path.realpath(head)
        real = f"{self._parents[head].rstrip('/')}/{tail}"
        # pathlib's is_symlink takes four times as long, and raises on names that are too long.
        if tail in ("", ".", "..") or os.path.islink(real):  # noqa: PTH114
            real = os.path.realpath(real)
        return real if real.startswith(self.root.rstrip("/") + "/") else None

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.root}/{path}"

    def _literal_or_decoded(self, address: str) -> str:
        """Decode %20 and the like in ``address`` if only a file of the decoded name exists."""
        if "%" not in address or os.path.lexists(self._absolute(address)):
            return address
        decoded = unquote(address)
        return decoded if os.path.lexists(self._absolute(decoded)) else address


def _in_bucket(address: str) -> tuple[str, str]:
    """Check an address of object storage, and write its scheme in lower case."""
    try:
        scheme = read_place(address).scheme
    except FetchError as error:
        return "", error.reason
    return scheme + address[len(scheme) :], ""


@lru_cache(maxsize=4096)
def _is_host(netloc: str | None) -> bool:
    """Whether the part of an address between ``//`` and the path names a host."""
    if not netloc or "\\" in netloc or netloc.split() != [netloc]:
        return False
    try:
        parts = urlsplit(f"//{netloc}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _names_host(rest: str) -> bool:
    """Whether the text after ``//`` begins with a host of the web, and not of a local network."""
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    name = netloc.rpartition("@")[2]
    return ("." in name.strip(".") or ":" in name) and _is_host(netloc)


def _as_base(base_url: str) -> str:
    """Check the address that relative addresses start from; it names a folder.

    Raises:
        ConfigError: it is no http(s) address.
    """
    web = _WEB.match(base_url)
    if not web or not _is_host(web[1]) or _UNSAFE.search(base_url):
        raise ConfigError(
            f"source.base_url={base_url!r} is no http(s) address: write it as in "
            "source.base_url=https://shop.example/media/"
        )
    path = re.split("[?#]", base_url, maxsplit=1)[0]
    return path if path.endswith("/") else f"{path}/"


def _joined(base_url: str, address: str) -> str:
    """Resolve a relative address; one that cannot be resolved stays as it is, and is refused."""
    try:
        return urljoin(base_url, address)
    except ValueError:
        return "http:"
