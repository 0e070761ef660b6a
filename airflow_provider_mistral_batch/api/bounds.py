"""How long an answer may take and how much of it is unpacked: enforced below ``requests``, where its bytes arrive."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import time
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter

#: Bytes of a file that have as long as a whole call.
PROGRESS_BYTES = 1 << 18

#: Bytes of a line that frames a body; http.client bounds the lines of a head in the same way.
_LINE_BYTES = 1 << 16

#: Lines in a row, such as those of a head or after the last chunk. http.client takes 100 lines for each of many heads.
_LINES = 1000

#: How zlib is told what packs a body, for what we accept and its old name.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

#: What we say we can read. `requests` would add what packages happen to be installed, which unpack without bounds.
ACCEPTED_ENCODINGS = "gzip, deflate"


class AnswerTooSlow(OSError):
    """The server kept sending or taking bytes, but too few of them."""


class BadFraming(OSError):
    """The bytes around a body are not HTTP's."""


class Patience:
    """
    How long one call waits for the server in all. The time-out between two bytes knows no end of a trickle.

    Only time in which we wait counts: whoever reads a stream may take breaks.

    :param seconds: Seconds for the call, or for each :data:`PROGRESS_BYTES` of a stream.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        #: Whether progress renews the time: for the content of files, whose size is no fault of the server.
        self.is_stream = False
        self._spent = 0.0
        self._moved = 0

    def left(self) -> float:
        """
        Seconds that are left.

        :raises AnswerTooSlow: When there are none.
        """
        left = self.seconds - self._spent
        if left <= 0:
            raise self.too_slow()
        return left

    def waited(self, seconds: float, moved: int) -> None:
        """
        Note a wait.

        :param seconds: How long it was.
        :param moved: Bytes that came or went meanwhile.
        """
        self._spent += seconds
        self._moved += moved
        if self.is_stream and self._moved >= PROGRESS_BYTES and self._spent <= self.seconds:
            self.renew()

    def renew(self) -> None:
        """Begin anew, after progress."""
        self._spent, self._moved = 0.0, 0

    def too_slow(self) -> AnswerTooSlow:
        """The error when no time is left."""
        part = f"{PROGRESS_BYTES:,} bytes of the file" if self.is_stream else "the call"
        return AnswerTooSlow(f"{part} took more than {self.seconds:g} s")


_patience: ContextVar[Patience | None] = ContextVar("_patience", default=None)


@contextlib.contextmanager
def waiting_with(patience: Patience) -> Iterator[None]:
    """
    Have the answers to calls that are sent meanwhile bounded, the reading of their bodies included.

    :param patience: How long they may take together.
    """
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)


class BoundedAdapter(HTTPAdapter):
    """Connections whose answers are read with the patience of the call, through any proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        _bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of connections through a proxy."""
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            _bound(manager)
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request. The body of a redirect is never read: `requests` would read it as a whole."""
        response = super().send(*args, **kwargs)
        if response.is_redirect:
            response.raw.close()
        return response


def _bound(manager: Any) -> None:
    """Have all connections of a pool manager read their answers as ours; there is no other way in."""
    manager.pool_classes_by_scheme = {
        scheme: type(
            pool.__name__,
            (pool,),
            {"ConnectionCls": type("Connection", (pool.ConnectionCls,), {"response_class": _Response})},
        )
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }


class _Response(http.client.HTTPResponse):
    """An answer, its head included, and a proxy's answer to CONNECT."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        patience = _patience.get()
        if patience is not None:
            fp: Any = self.fp
            self.fp = _Reader(_Socket(fp.detach(), sock, patience))


class _Socket(io.RawIOBase):
    """Reads from a socket, for no longer than the call's patience lasts."""

    def __init__(self, raw: Any, sock: socket.socket, patience: Patience) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = patience

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int | None:
        left = self._patience.left()
        usual = self._sock.gettimeout()
        is_last_wait = usual is None or left < usual
        if is_last_wait:
            self._sock.settimeout(left)
        began = time.monotonic()
        count: int | None = 0
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            if not is_last_wait:
                raise
            raise self._patience.too_slow() from None
        finally:
            self._patience.waited(time.monotonic() - began, count or 0)
            if is_last_wait:
                with contextlib.suppress(OSError):
                    self._sock.settimeout(usual)
        return count


class _Reader(io.BufferedReader):
    """Refuses what a broken or hostile frame of a body has us read: endless lines, negative lengths."""

    _lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines += 1
        if self._lines > _LINES:
            raise BadFraming(f"more than {_LINES} lines without content came one after the other")
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(_LINE_BYTES + 1)
        if len(line) > _LINE_BYTES:
            raise BadFraming(f"a line between the chunks of the body has more than {_LINE_BYTES} bytes")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise BadFraming("a chunk of the body has a negative size")
        # The line end after each chunk is no content.
        if size > 2:
            self._lines = 0
        return super().read(size)


def unpacked(response: requests.Response, piece_bytes: int) -> Iterator[bytes]:
    """
    Read an answer's body, unpacked piece by piece: a few bytes can unpack to a thousand times as many.

    :param response: The answer.
    :param piece_bytes: Most bytes of a piece.
    :raises BadFraming: When it is packed in a way that nobody asked for, or breaks off.
    :raises zlib.error: When it is not packed as it says.
    """
    packing = response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    chunks = response.raw.stream(piece_bytes, decode_content=False)
    if packing == "identity":
        yield from chunks
        return
    if packing not in _WINDOW_BITS:
        raise BadFraming(
            f"its Content-Encoding is {packing!r:.100}, and only {ACCEPTED_ENCODINGS} was asked for"
        )
    unpacker = None
    is_over = False
    for packed in chunks:
        rest, has_more = packed, True
        while has_more:
            if unpacker is None:
                if is_over and packing == "deflate":
                    raise BadFraming("more bytes follow the end of what is packed in it")
                # What gzip packs may have several parts, one after the other.
                unpacker = zlib.decompressobj(_window_bits(packing, rest))
            piece = unpacker.decompress(rest, piece_bytes)
            if piece:
                yield piece
            if unpacker.eof:
                rest, unpacker, is_over = unpacker.unused_data, None, True
                has_more = bool(rest)
            else:
                rest = unpacker.unconsumed_tail
                has_more = bool(rest) or len(piece) == piece_bytes
    if unpacker is not None:
        raise BadFraming("what is packed in it breaks off")


def _window_bits(packing: str, start: bytes) -> int:
    """What zlib needs to know. Some servers leave out the head of ``deflate``, which has 8 in its low four bits."""
    return -15 if packing == "deflate" and start[0] & 0x0F != 8 else _WINDOW_BITS[packing]
