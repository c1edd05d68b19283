"""Conditional requests: the headers that tell whether an image has changed (RFC 9110, 8.8 and 13).

A server is untrusted, and so is a store that validators were kept in. Only what has the form of an
``ETag`` or of a date is sent back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

ETAG = r'(?:W/)?"[!#-~]{0,254}"'
"""Pattern of an ``ETag``, weak or strong. Never ``*``, which would fit any image."""
DATE = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
"""Pattern of a ``Last-Modified``."""
SETTLED = 60.0
"""Seconds that an image must be older than the answer that shows it: its date is in whole seconds,
and a second change within one of them would not be seen."""


@dataclass(frozen=True)
class Validators:
    """What a server sent with an image to recognise it by.

    Attributes:
        etag: the header ``ETag``; "" for none that can be used.
        last_modified: the header ``Last-Modified``, likewise.
        place: digest of the address that sent them, after redirects; "" for none.
    """

    etag: str = ""
    last_modified: str = ""
    place: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str], url: str) -> Validators:
        """Take the validators from the headers of an answer.

        Args:
            headers: of the answer.
            url: address that it came from.
        """
        etag, date = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
        return cls(
            etag if re.fullmatch(ETAG, etag) else "",
            date if _is_settled(date, headers.get("Date", "")) else "",
            place_of(url),
        )

    def conditions(self, url: str) -> dict[str, str]:
        """Return the headers of a request for the image if it changed; none for another address.

        A redirect that leads elsewhere today shows another image, whose validators may be equal.
        """
        if self.place != place_of(url):
            return {}
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}

    def renewed(self, headers: Mapping[str, str], url: str) -> Validators:
        """Return the validators after an answer 304, which may bring newer ones."""
        now = Validators.of(headers, url)
        return replace(
            self,
            etag=now.etag or self.etag,
            last_modified=now.last_modified or self.last_modified,
        )


UNKNOWN = Validators()
"""No validators: such an image is fetched anew."""


@dataclass(frozen=True)
class Answer:
    """Answer to a request for an image.

    Attributes:
        image: the bytes; ``None`` if the server says that the image is unchanged.
        validators: for the next request.
    """

    image: bytes | None
    validators: Validators


def place_of(url: str) -> str:
    """Return 16 hex digits that stand for an address, whose query may hold secrets."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _is_settled(date: str, answered: str) -> bool:
    """Tell whether a ``Last-Modified`` names one state of an image, by the server's own clock."""
    if not re.fullmatch(DATE, date):
        return False
    try:
        age = parsedate_to_datetime(answered) - parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return False
    return age.total_seconds() >= SETTLED
