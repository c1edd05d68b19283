"""Safe construction of the parts that a file describes, from plain values only.

A checkpoint describes its encoder, a training run its catalogue, an index its foreground. Such a
file may come from a stranger, so neither Hydra nor OmegaConf sees the description. The class must
be listed for its place in ``dedup.config.targets``. Arguments must be the constructor's, of its
types and within the limits of the command line. No text is resolved.
"""

from __future__ import annotations

import importlib
import inspect
import math
import reprlib
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from dedup.config.limits import wrong_in
from dedup.config.renames import renewed
from dedup.config.targets import ADVICE, FILES, TARGET, is_special, within
from dedup.errors import ArtifactError, CorruptError, DedupError
from dedup.runtime.shortages import is_shortage

DEPTH = 8
"""Levels of nesting that a description may have."""

MAX_INT = 2**63
"""Bound of whole numbers, which are smaller."""

MAX_MESSAGE = 1000
"""Characters that describe a fault in a message."""

MAX_SHOWN = 80
"""Characters of a file's text that a message shows."""


@dataclass(frozen=True)
class Record:
    """A file that describes parts.

    Args:
        file: path, for messages.
        advice: remedy for a refused value, for messages.
    """

    file: str | Path
    advice: str

    def text(self, value: Any, key: str) -> str:
        """Check that a value is a text that may be a path or a name, and return it.

        Raises:
            CorruptError: the value is no such text.
        """
        if type(value) is not str or not value:
            raise self.broken(key, f"is {shown(value)}, not a text")
        self._check_text(value, key)
        return value

    def part(self, described: Any, place: str, key: str, named: str = TARGET) -> Any:
        """Build the part that the file describes.

        Args:
            described: the class under ``named``, and the constructor's arguments.
            place: the part's place, a key of ``targets.FILES``.
            key: dotted key in the file, for messages.
            named: key of the class, ``_target_`` or ``class``.

        Raises:
            CorruptError: the description has other than plain values.
            ArtifactError: the class or an argument is not allowed in this place.
        """
        if not isinstance(described, Mapping):
            raise self.broken(key, f"is {shown(described)}, not a description of a part")
        self._check_plain(described, key, named)
        return self._built(renewed(described), place, key, named)

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Name the file and the key in errors about a path that the file names.

        Args:
            key: dotted key of the path in the file.

        Raises:
            ArtifactError: the path cannot be used or read.
            CorruptError: the file at the path is not what was written.
        """
        try:
            yield
        except DedupError as error:
            if str(self.file) in str(error):
                raise
            fault = self.broken if isinstance(error, CorruptError) else self.refused
            raise fault(key, f"cannot be used ({error})") from error
        except OSError as error:
            if is_shortage(error) and not isinstance(error, PermissionError):
                raise
            raise self.refused(key, f"cannot be read ({error.strerror})") from error
        except (RuntimeError, ValueError) as error:  # links in a circle, or a text that is no path
            raise self.refused(key, f"cannot be read ({error})") from error

    def refused(self, key: str, what: str) -> ArtifactError:
        """Make the error for a value that may not stand in the file."""
        return ArtifactError(self._message(key, what))

    def broken(self, key: str, what: str) -> CorruptError:
        """Make the error for a value that this package cannot have written."""
        return CorruptError(self._message(key, what))

    def _message(self, key: str, what: str) -> str:
        fault = _printable(f"{key} {what}")
        return f"{self.file}: {fault[:MAX_MESSAGE]}: {self.advice}"

    def _built(self, described: Mapping[str, Any], place: str, key: str, named: str) -> Any:
        settings = dict(described)
        name = settings.pop(named, None)
        if name not in FILES[place]:
            raise self.refused(
                f"{key}.{named}", f"names {shown(name)}, and may name {', '.join(FILES[place])} "
                f"alone ({ADVICE})"
            )  # fmt: skip
        kind = load(name)
        parameters = inspect.signature(kind, eval_str=True).parameters
        if unknown := sorted(settings.keys() - parameters.keys()):
            raise self.refused(key, f"has {shown(unknown)}, which {name} does not take")
        for argument, value in settings.items():
            at, wanted = f"{key}.{argument}", parameters[argument].annotation
            if inner := within(place, argument):
                settings[argument] = self._inside(value, wanted, inner, at, named)
            elif not fits(value, wanted):
                raise self.refused(at, f"is {shown(value)}, not {_called(wanted)}")
        if wrong := wrong_in(place, settings):
            raise self.refused(key, f"is out of range ({'; '.join(wrong)})")
        try:
            return kind(**settings)
        except DedupError as error:
            raise self.refused(key, f"cannot be used ({error})") from error
        except Exception as error:
            if is_shortage(error) and not isinstance(error, RuntimeError):  # as of absurd sizes
                raise
            raise self.refused(key, f"cannot be built ({error})") from error

    def _inside(self, value: Any, wanted: Any, place: str, key: str, named: str) -> Any:
        """Build a part inside of a part, or a list of parts if the constructor takes one."""
        if get_origin(wanted) is Sequence and isinstance(value, list):
            inner = get_args(wanted)[0]
            return [
                self._inside(part, inner, place, f"{key}.{number}", named)
                for number, part in enumerate(value)
            ]
        if get_origin(wanted) is Sequence or not isinstance(value, Mapping):
            raise self.broken(key, f"is {shown(value)}, not a description of a part")
        return self._built(value, place, key, named)

    def _check_plain(self, value: Any, key: str, named: str, depth: int = 0) -> None:
        """Check that a value holds plain JSON values only, without interpolations.

        Raises:
            CorruptError: it holds another type, or exceeds a limit.
            ArtifactError: a key or a text would be called or resolved.
        """
        if depth > DEPTH:
            raise self.broken(key, f"has more than {DEPTH} levels")
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self._check_text(name, key)
                if is_special(name) and name != named:
                    raise self.refused(
                        key, f"has the key {shown(name)}, which only a config may have"
                    )
                self._check_plain(inner, f"{key}.{name}", named, depth + 1)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                self._check_plain(inner, f"{key}.{number}", named, depth + 1)
        elif type(value) is str:
            self._check_text(value, key)
        elif type(value) is float and not math.isfinite(value):
            raise self.broken(key, f"is {value}, not a finite number")
        elif type(value) is int and abs(value) >= MAX_INT:
            raise self.broken(key, "is a whole number beyond 64 bits")
        elif type(value) not in (int, float, bool, types.NoneType):
            raise self.broken(key, f"is a {type(value).__name__}, not a plain value")

    def _check_text(self, value: Any, key: str) -> None:
        if type(value) is not str:
            raise self.broken(key, f"has {shown(value)} instead of a text")
        if "${" in value:
            raise self.refused(key, f"is {shown(value)}, but a file may have no interpolations")
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.broken(key, f"is {shown(value)}, which is no valid Unicode text")


def load(name: str) -> Any:
    """Import an object by its dotted name.

    Raises:
        ImportError: the module, or the name in it, does not exist.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"{module} has no {attribute} here") from error


def fits(value: Any, wanted: Any) -> bool:
    """Tell whether a plain value has the type of a constructor's argument."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(fits(value, kind) for kind in inside)
    if origin is Literal:
        return type(value) is str and value in inside
    if origin is Sequence:
        return isinstance(value, list) and all(fits(item, inside[0]) for item in value)
    return type(value) in ((int, float) if wanted is float else (wanted,))


def shown(value: Any) -> str:
    """Shorten and escape a file's value for a message."""
    return _SHORT.repr(value)


def _printable(text: str) -> str:
    """Escape the control characters of a text."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _called(wanted: Any) -> str:
    """Name a type for messages."""
    named = wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)
    return named.replace("collections.abc.", "").replace("typing.", "")


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = MAX_SHOWN
