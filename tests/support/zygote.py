"""Run Python programs in processes forked from one that has imported everything.

A program that only imports torch to run a command spends seconds on that. This process spends
them once and forks, so that each program has a process of its own all the same: its own working
folder, environment, signal handlers, exit code and end. What differs from a process that starts
anew: modules are imported already, and every program has the same seed of hashes.
"""

import atexit
import gc
import importlib
import importlib.util
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).parents[2]
AT_START = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "LD_PRELOAD", "ARROW_", "MALLOC_")
"""Variables that a process or a library reads when it starts: another value takes a new one."""
LIBRARIES = [
    *("torch", "torch.distributed", "pytorch_lightning", "torch.utils.tensorboard", "tensorboard"),
    *("pandas", "pyarrow", "pyarrow.parquet", "sklearn.cluster", "scipy.sparse.csgraph"),
    *("skimage.color", "cv2", "PIL.Image", "PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
    *("hydra", "omegaconf", "aiohttp", "jinja2", "rich.progress", "safetensors.torch"),
]
ONE_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
"""A process is forked with the thread that forks alone; Arrow's allocator and OpenBLAS would have
others."""


class Zygote:
    """A process to fork from, started when it is first needed."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket

    def run(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        timeout: float = 300,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, with what it prints captured and no input.

        Args:
            arguments: what would follow ``python``: a file, ``-m`` and a module, or ``-c`` and
                code, then the program's own arguments.
            cwd: its working folder.
            environment: all of its environment.
            timeout: seconds until it is killed.

        Raises:
            subprocess.TimeoutExpired: it was.
        """
        self._start()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = self._forked(arguments, cwd, environment, timeout, out, err)
            out.seek(0)
            err.seek(0)
            said, complained = out.read().decode(), err.read().decode()
        return subprocess.CompletedProcess(list(arguments), code, said, complained)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a program with this environment may be forked from here."""
        read = {
            name
            for name in {*environment, *self._environment}
            if environment.get(name) != self._environment.get(name)
            if name.startswith(AT_START)
        }
        return sys.platform == "linux" and not read

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._socket.close()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        if self._process is not None:
            return
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.zygote", str(other.fileno())],
                cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()],
                env={**self._environment, **ONE_THREAD},
            )  # fmt: skip
        atexit.register(self.close)

    def _forked(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        timeout: float,
        out: IO[bytes],
        err: IO[bytes],
    ) -> int:
        request = json.dumps([list(arguments), str(cwd), dict(environment)]).encode()
        head = len(request).to_bytes(4, "big")
        socket.send_fds(self._socket, [head], [out.fileno(), err.fileno()])
        self._socket.sendall(request)
        pid = self._number()
        self._socket.settimeout(timeout)
        try:
            return self._number()
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._socket.settimeout(None)
            self._number()
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        finally:
            self._socket.settimeout(None)

    def _number(self) -> int:
        data = self._socket.recv(8, socket.MSG_WAITALL)
        assert len(data) == 8, "the process that programs are forked from has ended"
        return int.from_bytes(data, "big", signed=True)


ZYGOTE = Zygote()


def main() -> None:
    """Be that process; in each child of it, run the requested program."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    while True:
        head, fds, _, _ = socket.recv_fds(connection, 4, 2)
        if not head:
            return
        data = connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
        pid = os.fork()
        if pid == 0:
            connection.close()
            break
        for fd in fds:
            os.close(fd)
        connection.sendall(pid.to_bytes(8, "big", signed=True))
        _, status = os.waitpid(pid, 0)
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
    _end(_ended(fds, *json.loads(data)))


def _import_all() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    import dedup

    for module in pkgutil.walk_packages(dedup.__path__, "dedup."):
        spec = importlib.util.find_spec(module.name)
        assert spec is not None
        assert spec.origin is not None
        if "__main__" not in Path(spec.origin).read_text("utf-8"):  # python -m wants those anew
            importlib.import_module(module.name)
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    assert n_threads == 1, "a process of several threads cannot be forked from"
    gc.collect()
    gc.freeze()  # the children need not copy what they do not change


def _ended(fds: Sequence[int], arguments: list[str], cwd: str, environment: dict[str, str]) -> int:
    """Be the program until it ends; its exit code."""
    try:
        _become(fds, arguments, cwd, environment)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - as Python does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """End as Python does, but for the memory: to take that apart costs more than most programs."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(
    fds: Sequence[int], arguments: list[str], cwd: str, environment: dict[str, str]
) -> None:
    """Be the program."""
    import numpy as np
    import torch

    for number, fd in enumerate(fds, start=1):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    np.random.seed()  # otherwise all would draw the same; the module random sees to itself
    torch.seed()
    sys.orig_argv = [sys.executable, *arguments]
    kind, *rest = arguments
    if kind == "-m":
        sys.path[0] = cwd
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.path[0] = str(Path(kind).resolve().parent)
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
