"""JPEGs that take their decoder minutes: real progressive ones, one scan of which is repeated."""

import io

from PIL import Image


def scans(data: bytes) -> list[tuple[int, int]]:
    """Where the scans of a JPEG start, at their markers, and end."""
    found, at = [], 2
    while data[at + 1] != 0xD9:
        start, is_scan = at, data[at + 1] == 0xDA
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while is_scan and not (data[at] == 0xFF and data[at + 1] != 0):
            at += 1
        if is_scan:
            found.append((start, at))
    return found


def many_scans(n: int, size: tuple[int, int] = (2000, 2000)) -> bytes:
    """A progressive JPEG of one colour whose last scan stands there n times more."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start, end = scans(data)[-1]
    return data[:end] + n * data[start:end] + data[end:]
