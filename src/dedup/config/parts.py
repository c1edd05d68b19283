"""Parts that a file describes: of what somebody passed on, plain values alone are taken.

A checkpoint describes its encoder, a training run its catalogue, an index its foreground. Neither
Hydra nor OmegaConf ever sees such a description: the class is one of an exact list for that very
place, see ``dedup.config.targets``, its arguments are those of its constructor, of their types and
within the limits of the command line, and no text in it is resolved.
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
"""So many levels a description may have."""

MOST = 2**63
"""Whole numbers are smaller."""

MAX_SAID = 1000
"""Characters that a message has for what is wrong."""

SHOWN = 80
"""Characters of a file's text that a message shows."""


@dataclass(frozen=True)
class Record:
    """A file that describes parts.

    Args:
        file: its path, for messages.
        advice: what to do where something in it is refused.
    """

    file: str | Path
    advice: str

    def text(self, value: Any, key: str) -> str:
        """A text that may be a path or a name.

        Raises:
            CorruptError: it is none.
        """
        if type(value) is not str or not value:
            raise self.broken(key, f"is {shown(value)}, not a text")
        self._check_text(value, key)
        return value

    def part(self, said: Any, place: str, key: str, named: str = TARGET) -> Any:
        """The part that is described.

        Args:
            said: its class under ``named``, and its constructor's arguments.
            place: where it will stand, one of ``allowed.FILES``.
            key: where in the file it stands, for messages.
            named: ``_target_`` or ``class``.

        Raises:
            CorruptError: it is no description in plain values.
            ArtifactError: its class or an argument is not one that may stand there.
        """
        if not isinstance(said, Mapping):
            raise self.broken(key, f"is {shown(said)}, not a description of a part")
        self._check_plain(said, key, named)
        return self._built(renewed(said), place, key, named)

    @contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Say of what goes wrong with a path in the file that it stands there.

        Raises:
            ArtifactError: what is there cannot be used, or not be looked at.
            CorruptError: it is not what was written.
        """
        try:
            yield
        except DedupError as error:
            if str(self.file) in str(error):
                raise
            say = self.broken if isinstance(error, CorruptError) else self.refused
            raise say(key, f"cannot be used ({error})") from error
        except OSError as error:
            if is_shortage(error) and not isinstance(error, PermissionError):
                raise
            raise self.refused(key, f"cannot be looked at ({error.strerror})") from error
        except (RuntimeError, ValueError) as error:  # links in a circle, and no text for a path
            raise self.refused(key, f"cannot be looked at ({error})") from error

    def refused(self, key: str, what: str) -> ArtifactError:
        """That something in the file is not taken."""
        return ArtifactError(self._said(key, what))

    def broken(self, key: str, what: str) -> CorruptError:
        """That something in the file cannot have been written by this package."""
        return CorruptError(self._said(key, what))

    def _said(self, key: str, what: str) -> str:
        said = _printable(f"{key} {what}")
        return f"{self.file}: {said[:MAX_SAID]}: {self.advice}"

    def _built(self, said: Mapping[str, Any], place: str, key: str, named: str) -> Any:
        settings = dict(said)
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
        """A part of a part, or a list of them where that is wanted."""
        if get_origin(wanted) is Sequence and isinstance(value, list):
            inner = get_args(wanted)[0]
            return [
                self._inside(one, inner, place, f"{key}.{number}", named)
                for number, one in enumerate(value)
            ]
        if get_origin(wanted) is Sequence or not isinstance(value, Mapping):
            raise self.broken(key, f"is {shown(value)}, not a description of a part")
        return self._built(value, place, key, named)

    def _check_plain(self, value: Any, key: str, named: str, depth: int = 0) -> None:
        """Make sure that there are plain JSON values alone, and nothing that asks to be resolved.

        Raises:
            CorruptError: there is something else.
            ArtifactError: a key or a text asks for something to be called or resolved.
        """
        if depth > DEPTH:
            raise self.broken(key, f"has more than {DEPTH} levels")
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self._check_text(name, key)
                if is_special(name) and name != named:
                    raise self.refused(key, f"has {shown(name)}, which no file may have")
                self._check_plain(inner, f"{key}.{name}", named, depth + 1)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                self._check_plain(inner, f"{key}.{number}", named, depth + 1)
        elif type(value) is str:
            self._check_text(value, key)
        elif type(value) is float and not math.isfinite(value):
            raise self.broken(key, f"is {value}, not a finite number")
        elif type(value) is int and abs(value) >= MOST:
            raise self.broken(key, "is a number without end")
        elif type(value) not in (int, float, bool, types.NoneType):
            raise self.broken(key, f"is a {type(value).__name__}, not a plain value")

    def _check_text(self, value: Any, key: str) -> None:
        if type(value) is not str:
            raise self.broken(key, f"has {shown(value)} in the place of a text")
        if "${" in value:
            raise self.refused(key, f"is {shown(value)}, and nothing in a file is resolved")
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.broken(key, f"is {shown(value)}, which is no text")


def load(name: str) -> Any:
    """What has a dotted name.

    Raises:
        ImportError: there is nothing of that name here.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ImportError(f"{module} has no {attribute} here") from error


def fits(value: Any, wanted: Any) -> bool:
    """Whether a plain value is of the type that a constructor asks for."""
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is Literal:
        return type(value) is str and value in inside
    if origin is Sequence:
        return isinstance(value, list) and all(fits(one, inside[0]) for one in value)
    return type(value) in ((int, float) if wanted is float else (wanted,))


def shown(value: Any) -> str:
    """A file's value for a message: short, and without what would steer a terminal."""
    return _SHORT.repr(value)


def _printable(text: str) -> str:
    """Text whose control characters are written out."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _called(wanted: Any) -> str:
    """A type as messages name it."""
    named = wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)
    return named.replace("collections.abc.", "").replace("typing.", "")


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = SHOWN
