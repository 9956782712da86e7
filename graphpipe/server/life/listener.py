"""The address of a server: HOST:PORT, [IPv6]:PORT or unix:PATH, bound once, or fd:N, bound by whoever started it.

Binding reserves the address; callers are refused until the server listens, which it does when it has something to say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from graphpipe.errors import GraphPipeError

__all__ = ["BindError", "bind", "reach_of", "url_of"]


class _UnixListener(socket.socket):
    """A Unix socket that takes its file along when it is closed by the process that bound it."""

    _path = ""
    _file: tuple[int, int, int] | None = None

    def bind(self, path: str) -> None:  # type: ignore[override]
        super().bind(path)
        self._path, self._file = path, _identity(path)

    def detach(self) -> int:
        # uvloop closes what it listens on in this way.
        self._remove_file()
        return super().detach()

    def close(self) -> None:
        self._remove_file()
        super().close()

    def _remove_file(self) -> None:
        mine, self._file = self._file, None
        with contextlib.suppress(OSError):
            if mine is not None and _identity(self._path) == mine:  # not that of a server which came later
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int, int]:
    # Numbers of files are used again; the time of their making tells them apart.
    file = os.stat(path)
    return file.st_dev, file.st_ino, file.st_mtime_ns


class BindError(GraphPipeError):
    """The address cannot be listened on; the message says why."""


def bind(listen: str) -> socket.socket:
    """A socket bound to ``listen``, not listening yet. Port 0 picks a free one.

    Raises BindError, with one line that says why.
    """
    try:
        if listen.startswith("fd:"):
            return _inherited(listen)
        return _bind_unix(listen[len("unix:") :]) if listen.startswith("unix:") else _bind_tcp(listen)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BindError(
                f"{listen} is already in use; stop the other server or choose another with --listen"
            ) from None
        raise BindError(f"cannot listen on {listen}: {error.strerror or error}") from None


def _bind_tcp(listen: str) -> socket.socket:
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdigit() or int(port) > 65535 or (":" in host and not bracketed):
        raise BindError(f"cannot listen on {listen!r}: expected HOST:PORT, [IPv6]:PORT or unix:PATH")
    host = host.strip("[]") or "0.0.0.0"
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restarted server takes its port over from connections that linger; a running one still holds it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _inherited(listen: str) -> socket.socket:
    """A socket that is here already, as systemd hands over the first of a unit as 3. Its file is not ours to remove."""
    number = listen[len("fd:") :]
    if not number.isdigit() or not 3 <= int(number) < 1 << 20:
        raise BindError(
            f"cannot listen on {listen!r}: expected fd:N, of 3 or more, as systemd counts the sockets of a unit"
        )
    try:
        listener = socket.socket(fileno=int(number))
    except OSError as error:
        raise BindError(
            f"cannot listen on {listen}: descriptor {number} is no socket ({error.strerror}); "
            "whoever starts the server has to hand it over, as systemd does with a .socket unit"
        ) from None
    if listener.type != socket.SOCK_STREAM or listener.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        listener.detach()  # it is somebody else's
        raise BindError(f"cannot listen on {listen}: descriptor {number} is no stream socket (ListenStream=)")
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener


def _bind_unix(path: str) -> socket.socket:
    if not path:
        raise BindError("cannot listen on 'unix:': expected unix:PATH")
    listener = _UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more; anything else stays and makes bind fail."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    # Of another type, so that one which is bound says so, even if it does not listen yet, and is not bothered.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """The URL of what listens there. One for all addresses of the machine has 0.0.0.0 in it, or [::], as it was given."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if listener.family == socket.AF_INET6 else address[0]
    return f"{'https' if tls else 'http'}://{host}:{address[1]}"


def reach_of(listener: socket.socket) -> str:
    """Who may call, in words, where that is whoever reaches this machine; else empty."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX or address[0] not in ("0.0.0.0", "::"):
        return ""
    return (
        f"anybody who reaches this machine may call: {address[0]} is all of its addresses; "
        f"--listen 127.0.0.1:{address[1]} is for this machine alone"
    )
