"""Run a command with the loopback interface up: `python -I loopback.py COMMAND ...`, as root of its own network.

`unshare --net` leaves it down, and ranks meet at 127.0.0.1; nothing else can be reached there. Runs as a file in the
isolated interpreter, so it imports the standard library alone.
"""

import fcntl
import os
import socket
import struct
import sys

SET_FLAGS, UP = 0x8914, 1  # of Linux's netdevice(7)


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SET_FLAGS, struct.pack("16sh22x", b"lo", UP))


if __name__ == "__main__":
    raise_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])
