"""What can go wrong, as one tree.

::

    DedupError                 a run stops; the message says what, where and what to do next
    ├── ConfigError            a setting is wrong                                  exit code 2
    ├── SourceError            the catalogue cannot be read                        exit code 2
    ├── ArtifactError          a store, index or checkpoint is missing or misfits  exit code 2
    │   └── CorruptError       its bytes are not what was written                  exit code 4
    ├── LockedError            another run writes into the same store              exit code 5
    ├── StalledError           the disk is full, or no host answers any more       exit code 6
    ├── NonFiniteLossError     training diverged                                   exit code 7
    ├── StoppedError           training was stopped: Ctrl-C, SIGTERM         exit code 130, 143
    ├── LostProcessError       one of several processes ended before its time      exit code 8
    └── ImageError             one image failed: never stops a run, becomes a row's status
        ├── FetchError         its bytes could not be had
        └── DecodeError        its bytes are not a readable image
"""


class DedupError(Exception):
    """A failure whose message is written for the person who ran the command."""

    exit_code = 2


class ConfigError(DedupError):
    """A setting has a value that cannot work."""


class SourceError(DedupError):
    """The catalogue cannot be read at all. A bad row is not an error, but a row with a status."""


class ArtifactError(DedupError):
    """A store, index or checkpoint is missing, or does not belong with what it is used with."""


class CorruptError(ArtifactError):
    """An artefact's bytes are not what was written."""

    exit_code = 4


class LockedError(DedupError):
    """Another run writes into the same store."""

    exit_code = 5


class StalledError(DedupError):
    """No progress can be made: the disk is full, or no host answers any more."""

    exit_code = 6


class NonFiniteLossError(DedupError):
    """The training loss became NaN or infinite."""

    exit_code = 7


class StoppedError(DedupError):
    """Training was stopped by a signal; what it had learnt is kept.

    Args:
        message: says how to go on.
        signal: its number; the exit code is 128 more.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class LostProcessError(DedupError):
    """One of several processes ended before its time, and could not say why."""

    exit_code = 8


class ImageError(DedupError):
    """One image cannot be used.

    Args:
        reason: one word for tables and filters, such as ``http_404`` or ``truncated``.
        detail: a sentence for a person.

    Attributes:
        sha256_bytes: of the image's file; "" where its bytes could not be had.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.sha256_bytes = ""


class FetchError(ImageError):
    """An image's bytes could not be had from its address."""


class DecodeError(ImageError):
    """An image's bytes are not an image that can be read."""
