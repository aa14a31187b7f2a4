"""Remote consoles as a browser has them: a WebSocket over TLS, and behind it a serial line, or a screen that speaks RFB 3.8."""

import base64
import os
import re
import socket
import ssl
import struct
import time
import urllib.parse

from cloud import Failure, expect

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


class Refused(Failure):
    """The server did not upgrade; `status` is what it answered."""

    def __init__(self, url, status):
        super().__init__(f"no WebSocket at {url}: status {status}")
        self.status = status


class WebSocket:
    """RFC 6455, the client's side, of binary messages only."""

    def __init__(self, url, authority, seconds=30):
        parts = urllib.parse.urlsplit(url)
        expect("a console is reached by TLS", parts.scheme == "wss", url)
        plain = socket.create_connection((parts.hostname, parts.port or 443), timeout=seconds)
        self.stream = ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname=parts.hostname)
        host = parts.netloc
        lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", f"Origin: https://{host}",
                 f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: binary"]  # fmt: skip
        self.stream.sendall("\r\n".join([*lines, "", ""]).encode())
        self.raw, self.data = b"", b""
        while b"\r\n\r\n" not in self.raw:
            self.raw += self.more() or b""
        head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        status = int(head.split()[1])
        if status != 101:
            self.stream.close()
            raise Refused(parts._replace(query="").geturl(), status)

    def more(self):
        read = self.stream.recv(1 << 16)
        if not read:
            raise Failure("the console closed the connection")
        return read

    def take(self, count):
        while len(self.raw) < count:
            self.raw += self.more()
        taken, self.raw = self.raw[:count], self.raw[count:]
        return taken

    def frame(self):
        """One frame: its kind and what it carries."""
        first, length = self.take(2)
        expect("a server does not mask", length < 128, length)
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        return first & 15, self.take(length)

    def receive(self, seconds):
        """More bytes of the console; none if it says nothing for so long."""
        self.stream.settimeout(max(seconds, 0.01))
        try:
            kind, said = self.frame()
        except TimeoutError:
            return b""
        if kind == CLOSE:
            raise Failure("the console closed the connection")
        if kind == PING:
            self.write(PONG, said)
            return b""
        return said

    def read(self, count, seconds):
        deadline = time.monotonic() + seconds
        while len(self.data) < count:
            if time.monotonic() > deadline:
                raise Failure(f"the console said {len(self.data)} of {count} bytes within {seconds} s")
            self.data += self.receive(deadline - time.monotonic())
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def write(self, kind, data):
        mask = os.urandom(4)
        length = bytes([128 | len(data)]) if len(data) < 126 else bytes([128 | 126]) + struct.pack(">H", len(data))
        self.stream.settimeout(30)
        self.stream.sendall(bytes([128 | kind]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def send(self, data):
        self.write(BINARY, data)

    def close(self):
        self.stream.close()


class Serial:
    """A serial line with somebody who types."""

    def __init__(self, url, authority):
        self.socket = WebSocket(url, authority)
        self.seen = ""

    def until(self, pattern, seconds, again=None):
        """What was said until a text came that `pattern` finds. A line that was taken for somebody else's is sent `again`."""
        deadline, repeat = time.monotonic() + seconds, time.monotonic() + 5
        while not (found := re.search(pattern, self.seen)):
            if time.monotonic() > deadline:
                raise Failure(f"the serial line does not say /{pattern}/ within {seconds} s, but {self.seen[-600:]!r}")
            if again is not None and time.monotonic() > repeat:
                self.socket.send(again)
                repeat = time.monotonic() + 5
            self.seen += self.socket.receive(1).decode(errors="replace")
        said, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return said

    def type(self, line):
        self.socket.send(line.encode() + b"\r")

    def log_in(self, user, password, seconds=60):
        self.socket.send(b"\r")
        self.until("login: ", seconds, again=b"\r")
        self.type(user)
        self.until("Password: ", seconds)
        self.type(password)
        self.until(r"[$#] ", seconds)

    def answer(self, command, seconds=30):
        """What a command says in the shell that is there."""
        # In two words on the command line, so that its echo is not taken for the answer.
        self.type(f"echo be''gin; {command}; echo en''d")
        return re.search(r"begin\r?\n(.*?)end", self.until(r"begin\r?\n[^\0]*?end", seconds), re.DOTALL).group(1).strip()

    def close(self):
        self.socket.close()


class Screen:
    """RFC 6143 with nothing but raw rectangles: looks at a screen and types."""

    def __init__(self, url, authority):
        # The address is of a page; noVNC takes the way to the WebSocket from its query.
        parts = urllib.parse.urlsplit(url)
        (path,) = urllib.parse.parse_qs(parts.query)["path"]
        self.socket = WebSocket(f"wss://{parts.netloc}/{path}", authority)
        version = self.socket.read(12, 30)
        expect("it speaks RFB", re.fullmatch(rb"RFB 003\.00\d\n", version), version)
        self.socket.send(b"RFB 003.008\n")
        (count,) = self.socket.read(1, 30)
        types = self.socket.read(count, 30)
        expect("the token was the password: RFB wants none", 1 in types, types)
        self.socket.send(b"\x01")
        expect("it lets us in", self.socket.read(4, 30) == bytes(4))
        self.socket.send(b"\x01")
        self.width, self.height = struct.unpack(">HH", self.socket.read(4, 30))
        self.pixel_bytes = self.socket.read(16, 30)[0] // 8
        (length,) = struct.unpack(">I", self.socket.read(4, 30))
        self.name = self.socket.read(length, 30).decode(errors="replace")
        self.socket.send(struct.pack(">BxHi", 2, 1, 0))

    def look(self, incremental=False, seconds=60):
        """The rectangles of one update, as (x, y, width, height, pixels); without `incremental` the whole screen."""
        self.socket.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))
        while True:
            (kind,) = self.socket.read(1, seconds)
            if kind == 0:
                break
            if kind == 3:
                (length,) = struct.unpack(">3xI", self.socket.read(7, seconds))
                self.socket.read(length, seconds)
            elif kind != 2:
                raise Failure(f"the screen sent a message of kind {kind}")
        (count,) = struct.unpack(">xH", self.socket.read(3, seconds))
        found = []
        for _ in range(count):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.socket.read(12, seconds))
            expect("rectangles are raw, as asked for", encoding == 0, encoding)
            found.append((x, y, width, height, self.socket.read(width * height * self.pixel_bytes, seconds)))
        return found

    def type(self, text):
        for letter in text:
            for down in (1, 0):
                self.socket.send(struct.pack(">BBxxI", 4, down, 0xFF0D if letter == "\n" else ord(letter)))

    def close(self):
        self.socket.close()
