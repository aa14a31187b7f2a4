"""One connection of the emulated machine's, carried to a port of this host: QEMU starts this with the connection as its input."""

import socket
import sys
import threading


def carry(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


near = socket.socket(fileno=0)
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
back = threading.Thread(target=carry, args=(far, near))
back.start()
carry(near, far)
back.join()
