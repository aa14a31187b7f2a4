#!/usr/bin/env python3
"""The control socket of a VM process (src/vmspec/src/protocol.rs), from outside: calls with descriptors, and events.

    control.py DIRECTORY attach SLOT FILE SERIAL     plug this file in as a disk
    control.py DIRECTORY detach SLOT                 ask the guest to let go of it, and wait until it has
    control.py DIRECTORY devices                     what is plugged in

Needs nothing but Python: tests carry this file into the machines that they make.
"""

import array
import json
import os
import socket
import sys
import time


class Failure(Exception):
    pass


class Control:
    """control.sock: calls with descriptors, and the events between the replies."""

    def __init__(self, directory):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(240)
        folder = os.open(directory, os.O_RDONLY)
        self.socket.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        self.buffer, self.next_id, self.events = b"", 0, []
        self.call({"hello": {"newest": 2, "oldest": 1}})
        self.call({"subscribe": {"after": None}})

    def line(self):
        while b"\n" not in self.buffer:
            read = self.socket.recv(65536)
            if not read:
                raise Failure("the control socket closed")
            self.buffer += read
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def call(self, call, descriptors=()):
        self.next_id += 1
        line = json.dumps({"id": self.next_id, "call": call}).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.socket.sendmsg([line], rights)
        while True:
            message = self.line()
            if "event" in message:
                self.events.append(message["event"]["kind"])
                continue
            result = message["reply"]["result"]
            if "Err" in result:
                raise Failure(f"{call} was refused: {result['Err']}")
            return result["Ok"]

    def wait_for(self, kind, deadline=60):
        """An event that has come since the last time this was called."""
        until = time.monotonic() + deadline
        while True:
            while self.events:
                event = self.events.pop(0)
                if event == kind or (isinstance(event, dict) and kind in event):
                    return event
            self.socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                message = self.line()
            except TimeoutError:
                raise Failure(f"no event {kind} within {deadline} s") from None
            finally:
                self.socket.settimeout(240)
            self.events.append(message["event"]["kind"])


def main():
    directory, command, *words = sys.argv[1:]
    control = Control(directory)
    if command == "attach":
        slot, path, serial = words
        disk = {"slot": int(slot), "kind": "volume", "descriptor": 0, "read_only": False, "serial": serial, "size_bytes": os.path.getsize(path)}
        with open(path, "r+b") as file:
            control.call({"attach_disk": {"disk": disk}}, [file.fileno()])
    elif command == "detach":
        control.call({"detach_disk": {"slot": int(words[0])}})
        until = time.monotonic() + 120
        # Not by the event: those of earlier connections are told again.
        while any(disk["slot"] == int(words[0]) for disk in control.call("devices")["devices"]["disks"]):
            if time.monotonic() > until:
                raise Failure(f"the guest keeps the disk in slot {words[0]}")
            time.sleep(0.1)
    elif command == "devices":
        print(json.dumps(control.call("devices")))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        raise SystemExit(f"control: {failure}") from None
