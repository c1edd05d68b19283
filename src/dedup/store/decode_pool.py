"""Images decoded in child processes: one that crashes, hangs or eats memory costs its own row.

A child imports what it takes to decode and nothing else, so it starts in 0.2 s and holds some 30
MB; it inherits neither the environment, with what secrets it may hold, nor an open file. Each is
led by one thread, so it is always known which image it had when it died, and there is no lock or
queue that it could leave broken to the others.
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
from contextlib import ExitStack
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
"""All that a child is told of its surroundings."""
TUNED = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
    # Images are too large for malloc's usual heap: their memory would go back to the system, and
    # come from it again page by page, for each.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""One thread for each child, and memory that is kept for the next image."""
START = "import sys; from dedup.store.decode_pool import answer_all; answer_all(int(sys.argv[1]))"
PR_SET_PDEATHSIG = 1
"""Of Linux's ``prctl``: the signal that a process gets when the thread that started it ends."""
ATTEMPTS = 2
"""A child may die late, of the image before. An image that kills a second, new one did it."""


@dataclass(frozen=True)
class Reading:
    """What one image's bytes gave.

    Attributes:
        sha256_bytes: of the bytes, in hexadecimal.
        sha256_pixels: of the 3 x 200 x 100 pixels.
        contrast: of the pixels, see ``decode.contrast``.
        image: the pixels, the detail and the original's size.
    """

    sha256_bytes: str
    sha256_pixels: str
    contrast: float
    image: Decoded


Read = Callable[[bytes | str, str, int], Reading]


def read(source: bytes | str, reader: str, max_bytes: int) -> Reading:
    """Decode an image, here and now.

    Args:
        source: its bytes, or the path of its file.
        reader: how to resize, see ``decode``.
        max_bytes: a larger file fails.

    Raises:
        FetchError: the file cannot be read, see ``places.read_file``.
        DecodeError: see ``decode``; its ``sha256_bytes`` are those of the bytes.
        ConfigError: there is no such reader.
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
class Orders:
    """What a child is told when it starts.

    Attributes:
        read: what it calls for each image; found again by its module and name.
        reader: see ``decode``.
        max_bytes: of a file.
        timeout: seconds for an image.
        memory: bytes for an image, beyond what the child has when it starts.
    """

    read: Read
    reader: str
    max_bytes: int
    timeout: float
    memory: int


class Decoders:
    """Child processes that decode; to be used as a context manager.

    Closing it stops at once: what is running or waiting ends as ``CancelledError``.

    Args:
        reader: how to resize, see ``decode``.
        workers: children at most; ``None`` for one on each core.
        timeout: seconds after which a child is killed. Its start is not counted.
        memory: bytes of address space that a child may take for one image (Linux). The default
            is enough for a JPEG or PNG of 50 million pixels; for 12 million with ``skimage``.
        max_bytes: a larger file fails.
        read: what is called for each image, a function of a module.
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
        self.orders = Orders(read, reader, max_bytes, timeout, memory)
        self.workers = workers
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Decoders:
        """Get ready; a child is started when there is work for it.

        Raises:
            ConfigError: there is no such reader.
        """
        resizer(self.orders.reader)
        self._closed = False
        self._children: set[_Child] = set()
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(self.workers or n_threads(), "decoder")
        return self

    def __exit__(self, *error: object) -> None:
        assert self._threads is not None
        with self._lock:
            self._closed = True
            for child in self._children:
                child.process.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in tuple(self._children):
            self._bury(child)

    def begin(self, n: int) -> None:
        """Start so many children, or as many as there may be, before there is work for them.

        A child that does not start is started again for the first image, which then says why.
        """
        assert self._threads is not None
        for _ in range(min(n, self.workers or n_threads())):
            self._threads.submit(self._child)

    def submit(self, source: bytes | str) -> Future[Reading]:
        """Have an image decoded, given as its bytes or as the path of its file.

        Returns:
            Its reading. Or one of the errors of ``read``; or a ``DecodeError``: ``decoder_crash``,
            ``decoder_timeout`` or ``decoder_oom``, whose ``sha256_bytes`` are "" where only the
            child had the bytes, from a file; or a ``DedupError`` where children do not start.
        """
        if self._threads is None:
            raise RuntimeError("Decoders are to be entered before use")
        return self._threads.submit(self._reading, source)

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
            if attempt == ATTEMPTS and not child.ready:
                memory = failure.reason == "decoder_oom"
                lack = MemoryError() if memory else RuntimeError(failure.detail)
                raise explain_shortage(lack, "the reading of images") or DedupError(
                    f"a process that decodes images did not start: {failure.detail}"
                )
            if failure.reason == "decoder_timeout":
                break
        return failure

    def _child(self) -> _Child:
        """The child of this thread, a new one where it has none that is alive."""
        child: _Child | None = getattr(self._own, "child", None)
        if child is not None and child.process.poll() is None:
            return child
        if child is not None:
            self._bury(child)
        with self._lock:
            if self._closed:
                raise CancelledError
            child = _Child(self.orders)
            try:
                child.begin()
            except OSError as error:
                raise explain_shortage(error, "a process to decode images") or DedupError(
                    f"no process can be started to decode images: {error}"
                ) from error
            self._children.add(child)
        self._own.child = child
        return child

    def _bury(self, child: _Child) -> DecodeError:
        """Release what a child held that is dead or about to be; why it died."""
        with self._lock:
            self._children.discard(child)
        self._own.child = None
        return child.end()


class _Child:
    """One child process, from the side of its parent.

    Args:
        orders: what it is told when it starts.
    """

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.ready = False

    def begin(self) -> None:
        """Start it, and do not wait until it is ready.

        Raises:
            OSError: the system does not let it start.
        """
        with ExitStack() as undo:
            self.said = undo.enter_context(tempfile.TemporaryFile())
            self.line, theirs = Pipe()
            undo.enter_context(self.line)
            with theirs:
                handle = theirs.fileno()
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-c", START, str(handle)],
                    env=_surroundings(), pass_fds=[handle], start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.said,
                )  # fmt: skip
            undo.pop_all()

    def ask(self, source: bytes | str) -> Reading | ImageError | None:
        """What it makes of an image; ``None`` if it died."""
        try:
            if not self.ready:
                self.line.send(self.orders)
                self.ready = self.line.recv()
            self.line.send(source)
            answer: Reading | ImageError = self.line.recv()
        except (EOFError, OSError):
            return None
        return answer

    def end(self) -> DecodeError:
        """Wait until it is gone, release what it held, and say why it went."""
        self.line.close()
        code = self.process.wait()
        with self.said:
            self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - 4096))
            lines = self.said.read().decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else "no last words"
        if code == -signal.SIGALRM:
            return DecodeError("decoder_timeout", f"took more than {self.orders.timeout:g} s")
        if code == -signal.SIGKILL:
            return DecodeError("decoder_oom", "killed, as systems do when memory runs out")
        if said.startswith("MemoryError"):
            return _out_of_memory(self.orders)
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DecodeError("decoder_crash", f"{name}: {said}")


def answer_all(handle: int) -> None:
    """Be a child: decode what comes until nothing more does.

    Args:
        handle: of an open ``Connection``; through it come the orders, then the images.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _end_with_parent()
    with Connection(handle) as line:
        orders: Orders = line.recv()
        resizer(orders.reader)(Image.new("RGB", (1, 1)))  # what it imports is not an image's
        _limit(orders.memory)
        line.send(True)
        while True:
            try:
                source = line.recv()
            except EOFError:
                return
            try:
                line.send(_timed(orders, source))
            except MemoryError:
                line.send(_out_of_memory(orders))


def _end_with_parent() -> None:
    """Be killed with the parent, however that ends; where that cannot be, after the image."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _timed(orders: Orders, source: bytes | str) -> Reading | ImageError:
    """What ``read`` gives or raises; the alarm ends the process, be it in C."""
    signal.setitimer(signal.ITIMER_REAL, orders.timeout)
    try:
        return orders.read(source, orders.reader, orders.max_bytes)
    except ImageError as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(memory: int) -> None:
    """Allow so many bytes more than there are now, and no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + memory
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _out_of_memory(orders: Orders) -> DecodeError:
    return DecodeError("decoder_oom", f"takes more than {orders.memory / 2**20:.0f} MiB")


def _surroundings() -> dict[str, str]:
    """The environment of a child: where modules are, and no secrets."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return kept | {"PYTHONPATH": path} | TUNED
