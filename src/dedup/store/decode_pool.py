"""Decode images in child processes, so that a crash, a hang or a memory bomb costs its own row.

A child imports the decoder and nothing else, so it starts in 0.2 s and takes some 30 MB. It
inherits neither open files nor the environment with its secrets. Each child belongs to one thread
of the parent, so the image that killed it is always known. There is no shared lock or queue that
a dying child could leave broken.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from PIL import Image

from dedup.errors import DecodeError, DedupError, ImageError
from dedup.runtime.parallel import n_threads
from dedup.runtime.shortages import explain_shortage
from dedup.store.decode import Decoded, contrast, decode, resizer
from dedup.store.local_files import read_file

ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""Environment variables that a child inherits."""
TUNED = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
    # Images exceed malloc's usual threshold: without these, each image's memory would go back to
    # the system and be mapped again page by page.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""Environment variables set for a child: one thread, and memory kept for the next image."""
START = "import sys; from dedup.store.decode_pool import serve; serve(int(sys.argv[1]))"
PR_SET_PDEATHSIG = 1
"""Option of Linux's ``prctl``: signal sent to a child when the thread that started it ends."""
ATTEMPTS = 2
"""Attempts for an image. A child may die late, of the image before; only an image that kills a
second, new child is to blame."""


@dataclass(frozen=True)
class Reading:
    """Result of reading one image.

    Attributes:
        sha256_bytes: digest of the file's bytes, in hexadecimal.
        sha256_pixels: digest of the 3 x 200 x 100 pixels.
        contrast: contrast of the pixels, see ``decode.contrast``.
        image: pixels, preview and size of the original.
    """

    sha256_bytes: str
    sha256_pixels: str
    contrast: float
    image: Decoded


Read = Callable[[bytes | str, str, int], Reading]


def read(source: bytes | str, reader: str, max_bytes: int) -> Reading:
    """Decode an image in this process.

    Args:
        source: bytes of the image, or path of its file.
        reader: method of resizing, see ``decode``.
        max_bytes: largest file in bytes.

    Raises:
        FetchError: the file cannot be read, see ``local_files.read_file``.
        DecodeError: see ``decode``; its ``sha256_bytes`` is the digest of the bytes.
        ConfigError: unknown reader.
    """
    data = read_file(source, max_bytes) if isinstance(source, str) else source
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = decode(data, reader)
    except DecodeError as error:
        error.sha256_bytes = digest
        raise
    pixels = hashlib.sha256(image.pixels.tobytes()).hexdigest()
    return Reading(digest, pixels, contrast(image.pixels), image)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings sent to a child when it starts.

    Attributes:
        read: function to call for each image, pickled by its module and name.
        reader: method of resizing, see ``decode``.
        max_bytes: largest file in bytes.
        timeout: seconds for one image.
        memory: bytes for one image, beyond the child's memory at its start.
    """

    read: Read
    reader: str
    max_bytes: int
    timeout: float
    memory: int


class Decoders:
    """Pool of child processes that decode images; use it as a context manager.

    Closing it stops at once: images under way or waiting end as ``CancelledError``.

    Args:
        reader: method of resizing, see ``decode``.
        workers: most children at once; ``None`` for one on each core.
        timeout: seconds for one image, after which its child is killed. A child's start is not
            counted.
        memory: bytes of address space that a child may take for one image (Linux). The default
            is enough for a JPEG or PNG of 50 million pixels; for 12 million with ``skimage``.
        max_bytes: largest file in bytes.
        read: function of a module to call for each image.
    """

    def __init__(
        self,
        reader: str = "pillow",
        workers: int | None = None,
        timeout: float = 20.0,
        memory: int = 2**30,
        max_bytes: int = 20 * 2**20,
        read: Read = read,
    ) -> None:
        self.settings = WorkerSettings(read, reader, max_bytes, timeout, memory)
        self.workers = workers
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Decoders:
        """Prepare the pool; a child starts when there is work for it.

        Raises:
            ConfigError: unknown reader.
        """
        resizer(self.settings.reader)
        self._closed = False
        self._starts: list[threading.Barrier] = []
        self._children: set[_Child] = set()
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(self.workers or n_threads(), "decoder")
        return self

    def __exit__(self, *error: object) -> None:
        assert self._threads is not None
        with self._lock:
            self._closed = True
            for starts in self._starts:
                starts.abort()
            for child in self._children:
                child.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in tuple(self._children):
            self._bury(child)

    def begin(self, n: int) -> None:
        """Start up to ``n`` children before there is work for them.

        A child that fails to start is started again for the first image, whose error tells why.
        """
        assert self._threads is not None
        n = min(n, self.workers or n_threads())
        starts = threading.Barrier(max(n, 1))
        self._starts.append(starts)
        for _ in range(n):
            self._threads.submit(self._begin, starts)

    def submit(self, source: bytes | str) -> Future[Reading]:
        """Decode an image, given as its bytes or as the path of its file.

        Returns:
            A future of the reading, or of an error of ``read``. A ``DecodeError`` may also be
            ``decoder_crash``, ``decoder_timeout`` or ``decoder_oom``; its ``sha256_bytes`` is ""
            for a file, whose bytes only the child had. A ``DedupError`` if no child starts.
        """
        if self._threads is None:
            raise RuntimeError("enter Decoders with `with` before use")
        return self._threads.submit(self._reading, source)

    def _begin(self, starts: threading.Barrier) -> None:
        """Start the child of this thread, once the other threads are about to start theirs.

        Without the wait, a thread that is quick takes the turn of another, and has a child already.
        """
        with suppress(threading.BrokenBarrierError):
            starts.wait()
            self._child()

    def _reading(self, source: bytes | str) -> Reading:
        answer = self._answer(source)
        if isinstance(answer, Reading):
            return answer
        if isinstance(source, bytes):
            answer.sha256_bytes = hashlib.sha256(source).hexdigest()
        try:
            raise answer
        finally:
            del answer, source  # else the error holds its frame, which holds the bytes

    def _answer(self, source: bytes | str) -> Reading | ImageError:
        for attempt in range(1, ATTEMPTS + 1):
            child = self._child()
            answer = child.ask(source)
            if answer is not None:
                return answer
            failure = self._bury(child)
            if self._closed:
                raise CancelledError
            if attempt == ATTEMPTS and not child.is_ready:
                is_memory = failure.reason == "decoder_oom"
                cause = MemoryError() if is_memory else RuntimeError(failure.detail)
                raise explain_shortage(cause, "the reading of images") or DedupError(
                    f"a process that decodes images did not start: {failure.detail}"
                )
            if failure.reason == "decoder_timeout":
                break
        return failure

    def _child(self) -> _Child:
        """Return the child of this thread, after starting a new one if it has none alive."""
        child: _Child | None = getattr(self._own, "child", None)
        if child is not None and child.process.poll() is None:
            return child
        if child is not None:
            self._bury(child)
        with self._lock:
            if self._closed:
                raise CancelledError
            child = _Child(self.settings)
            try:
                child.begin()
            except OSError as error:
                raise explain_shortage(error, "a process to decode images") or DedupError(
                    f"cannot start a process to decode images: {error}"
                ) from error
            self._children.add(child)
        self._own.child = child
        return child

    def _bury(self, child: _Child) -> DecodeError:
        """Release the resources of a child that is dead or dying, and return why it died."""
        with self._lock:
            self._children.discard(child)
        self._own.child = None
        return child.end()


class _Child:
    """A child process, as its parent controls it.

    Args:
        settings: settings to send when it starts.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.is_ready = False

    def begin(self) -> None:
        """Start the process, without waiting until it is ready.

        Raises:
            OSError: the system refuses to start it.
        """
        with ExitStack() as undo:
            self.stderr = undo.enter_context(tempfile.TemporaryFile())
            self.connection, child_end = Pipe()
            undo.enter_context(self.connection)
            with child_end:
                handle = child_end.fileno()
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-c", START, str(handle)],
                    env=_environment(), pass_fds=[handle], start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.stderr,
                )  # fmt: skip
            undo.pop_all()

    def ask(self, source: bytes | str) -> Reading | ImageError | None:
        """Send an image, and return its reading or error; ``None`` if the process died."""
        try:
            if not self.is_ready:
                self.connection.send(self.settings)
                self.is_ready = self.connection.recv()
            self.connection.send(source)
            answer: Reading | ImageError = self.connection.recv()
        except (EOFError, OSError):
            return None
        return answer

    def end(self) -> DecodeError:
        """Wait until the process has ended, release its resources, and explain why it ended."""
        self.connection.close()
        code = self.process.wait()
        with self.stderr:
            self.stderr.seek(max(0, self.stderr.seek(0, os.SEEK_END) - 4096))
            lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        last_line = lines[-1] if lines else "it left no message"
        if code == -signal.SIGALRM:
            return DecodeError("decoder_timeout", f"took more than {self.settings.timeout:g} s")
        if code == -signal.SIGKILL:
            return DecodeError("decoder_oom", "killed, probably since memory ran out")
        if last_line.startswith("MemoryError"):
            return _out_of_memory(self.settings)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DecodeError("decoder_crash", f"{name}: {last_line}")


def serve(handle: int) -> None:
    """Run a child: decode images until the parent closes the connection.

    Args:
        handle: handle of an open ``Connection`` that brings the settings, then the images.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _end_with_parent()
    with Connection(handle) as connection:
        settings: WorkerSettings = connection.recv()
        resizer(settings.reader)(Image.new("RGB", (1, 1)))  # imports before the clock starts
        _limit_memory(settings.memory)
        connection.send(True)
        while True:
            try:
                source = connection.recv()
            except EOFError:
                return
            try:
                connection.send(_read_timed(settings, source))
            except MemoryError:
                connection.send(_out_of_memory(settings))


def _end_with_parent() -> None:
    """Ask Linux to kill this process with its parent; elsewhere it ends after its image."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_timed(settings: WorkerSettings, source: bytes | str) -> Reading | ImageError:
    """Read an image under an alarm, which ends the process even inside C code."""
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    try:
        return settings.read(source, settings.reader, settings.max_bytes)
    except ImageError as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(memory: int) -> None:
    """Limit the address space to its present size and ``memory`` bytes more; no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + memory
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    if hard_limit != resource.RLIM_INFINITY:
        limit = min(limit, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _out_of_memory(settings: WorkerSettings) -> DecodeError:
    return DecodeError("decoder_oom", f"takes more than {settings.memory / 2**20:.0f} MiB")


def _environment() -> dict[str, str]:
    """Build the environment of a child: the module path, and no secrets."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return kept | {"PYTHONPATH": path} | TUNED
