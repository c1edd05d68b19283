"""List the images in a folder by their content, and count the files that are left out."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dedup.errors import ConfigError
from dedup.runtime.nouns import counted
from dedup.sources.image_formats import HEAD, IMAGE_SUFFIXES, image_format

EVERY_FILE = "**/*"
"""Pattern of all files below a folder."""
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
"""Names, in lower case, of files and folders that systems make beside those of people. Names that
begin with a dot are hidden too."""
MAX_NAMES = 6
"""Most names that are counted apart for each reason."""

_IMAGE_NAME = re.compile(
    rf".*(?:{'|'.join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)})(?:\?.*)?",
    re.IGNORECASE | re.DOTALL,
)
_NOUNS = {
    "no image": ("file that is no image", "files that are no images"),
    "empty": ("empty file", "empty files"),
    "unreadable": ("file that cannot be read", "files that cannot be read"),
    "unreadable folder": ("folder that cannot be read", "folders that cannot be read"),
    "hidden": ("hidden or system file or folder", "hidden or system files and folders"),
    "linked folder": ("link to a folder", "links to folders"),
    "broken link": ("broken link", "broken links"),
    "outside": ("link out of the folder", "links out of the folder"),
    "special": ("pipe, socket or device", "pipes, sockets or devices"),
}
"""Reasons to leave a file out, in words."""


@dataclass
class LeftOut:
    """Files that were left out, by reason and by suffix or name.

    ``str`` lists them in words: ``3 files that are no images (.txt 2, .pdf 1), 1 empty file``.
    """

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, reason: str, name: str = "") -> None:
        """Count a file; ``name`` tells it from others that have the same reason."""
        self.counts[reason][name] += 1

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return ", ".join(
            counted(names.total(), *_NOUNS[reason]) + _listed(names)
            for reason in _NOUNS
            if (names := self.counts.get(reason))
        )


def has_image_name(name: str) -> bool:
    """Tell whether a name ends as those of images do, also before a query: ``1.jpg?v=2``."""
    return _IMAGE_NAME.fullmatch(name) is not None


def list_images(root: Path, pattern: str) -> tuple[list[str], LeftOut]:
    """List the images below a folder: files with an image's name, and files with its content.

    A file with an image's name is listed whatever is in it, and a broken link too: their rows fail
    with a reason. Of other files the first bytes are read. Hidden files are left out, unless the
    pattern has a part that begins with a dot.

    Returns:
        Paths relative to ``root``, with ``/``; and what was left out of the files that match.

    Raises:
        ConfigError: the pattern cannot be used.
    """
    left_out = LeftOut()
    real_root = f"{os.path.realpath(root).rstrip('/')}/"
    takes_hidden = any(re.match(r"\.[^.]", part) for part in pattern.split("/"))
    images = []
    found = _walk(root, left_out) if pattern == EVERY_FILE else _match(root, pattern)
    for path in found:
        hidden = None if takes_hidden else _hidden_part(path)
        reason = "hidden" if hidden else _reason(f"{root}/{path}", real_root)
        if reason == "":
            images.append(path)
        elif reason is not None:
            left_out.add(reason, hidden or (_suffix(path) if reason == "no image" else ""))
    return images, left_out


def _walk(root: Path, left_out: LeftOut) -> Iterator[str]:
    """Yield all files below a folder, links too; hidden folders are yielded and not entered."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            left_out.add("unreadable folder")
            continue
        for name, is_folder in found:
            if is_folder and not _hidden_part(name):
                waiting.append(f"{folder}{name}/")
            else:
                yield f"{folder}{name}"


def _match(root: Path, pattern: str) -> Iterator[str]:
    """Yield the paths below a folder that match a pattern, each once.

    Raises:
        ConfigError: the pattern cannot be used.
    """
    try:
        for path in {*root.glob(pattern)}:
            yield path.relative_to(root).as_posix()
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"source.pattern={pattern!r} cannot be used ({error}): "
            "set a pattern below the folder, such as **/*"
        ) from error


def _hidden_part(path: str) -> str:
    """Return the first part of a relative path that is hidden, or ``""``."""
    for part in path.split("/"):
        if (part.startswith(".") and part not in (".", "..")) or part.lower() in SYSTEM_FILES:
            return part
    return ""


def _reason(path: str, real_root: str) -> str | None:
    """Return why a path is left out, ``""`` for an image, ``None`` for a folder."""
    is_named = has_image_name(path.rpartition("/")[2])
    try:
        info = os.lstat(path)
        is_link = stat.S_ISLNK(info.st_mode)
        if is_link:
            info = os.stat(path)  # noqa: PTH116 - pathlib takes several times as long
    except OSError:
        return "" if is_named else "broken link"
    if stat.S_ISDIR(info.st_mode):
        return "linked folder" if is_link else None
    if not stat.S_ISREG(info.st_mode):
        return "special"
    if is_named:
        return ""
    if is_link and not os.path.realpath(path).startswith(real_root):
        return "outside"
    return _reason_of_content(path)


def _reason_of_content(path: str) -> str:
    """Return why a regular file is left out by its first bytes, ``""`` for an image."""
    try:
        # O_NONBLOCK, in case a pipe has taken its place meanwhile.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            head = os.read(opened, HEAD)
        finally:
            os.close(opened)
    except OSError:
        return "unreadable"
    if not head:
        return "empty"
    return "" if image_format(head) else "no image"


def _suffix(path: str) -> str:
    """Return the suffix of a file in lower case, for a message."""
    return Path(path).suffix.lower() or "without a suffix"


def _listed(names: Counter[str]) -> str:
    """Format the counts of names, the most frequent first."""
    if [*names] == [""]:
        return ""
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count:,}" for name, count in ordered[:MAX_NAMES]]
    n_others = names.total() - sum(count for _, count in ordered[:MAX_NAMES])
    return f" ({', '.join([*shown, *[f'others {n_others:,}'] * bool(n_others)])})"
