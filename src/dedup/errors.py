"""The tree of errors, with exit codes.

::

    DedupError                 a run stops; the message has the event, the reason and the remedy
    ├── ConfigError            a setting is wrong                                  exit code 2
    ├── SourceError            the catalogue cannot be read                        exit code 2
    ├── ArtifactError          a store, index or checkpoint is missing or unfit    exit code 2
    │   └── CorruptError       its bytes are not what was written                  exit code 4
    ├── LockedError            another run writes into the same store              exit code 5
    ├── StalledError           the disk is full, or no host answers                exit code 6
    ├── NonFiniteLossError     training diverged                                   exit code 7
    ├── StoppedError           training was stopped: Ctrl-C, SIGTERM         exit code 130, 143
    ├── LostProcessError       one of several processes ended early                exit code 8
    ├── AlarmError             fail_on= names what was found; all files are written   exit code 1
    └── ImageError             one image failed: never stops a run, becomes a row's status
        ├── FetchError         its bytes could not be fetched
        └── DecodeError        its bytes are not a readable image
"""


class DedupError(Exception):
    """A failure whose message is written for the person who ran the command."""

    exit_code = 2


class ConfigError(DedupError):
    """A setting has a value that cannot work."""


class SourceError(DedupError):
    """The catalogue cannot be read. A bad row is no error, but a row with a status."""


class ArtifactError(DedupError):
    """A store, index or checkpoint is missing, or does not fit the others."""


class CorruptError(ArtifactError):
    """An artefact's bytes are not what was written."""

    exit_code = 4


class LockedError(DedupError):
    """Another run writes into the same store."""

    exit_code = 5


class StalledError(DedupError):
    """The run cannot progress: the disk is full, or no host answers."""

    exit_code = 6


class NonFiniteLossError(DedupError):
    """The training loss became NaN or infinite."""

    exit_code = 7


class StoppedError(DedupError):
    """Training was stopped by a signal, and saved its progress.

    Args:
        message: text for the user, with the way to go on.
        signal: number of the signal; the exit code is 128 more.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class LostProcessError(DedupError):
    """One of several processes ended early, without reporting an error."""

    exit_code = 8


class AlarmError(DedupError):
    """A finished run found what it was asked to fail on."""

    exit_code = 1


class ImageError(DedupError):
    """One image cannot be used.

    Args:
        reason: single word for tables and filters, such as ``http_404`` or ``truncated``.
        detail: sentence for people.

    Attributes:
        sha256_bytes: SHA-256 of the image's file; "" if its bytes are unknown.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.sha256_bytes = ""


class FetchError(ImageError):
    """An image's bytes cannot be fetched from its address."""


class DecodeError(ImageError):
    """An image's bytes cannot be decoded as an image."""
