#!/usr/bin/env python3
"""A trainer that does what its first argument says, once it has the rows; of several (a,b,c) one a round. `escape` tries what a trainer must not be able to do, and
counts what it could in the first number of its change."""
import mmap
import os
import signal
import socket
import struct
import sys
import time

import concordat_trainer as node

MODES, TARGETS = sys.argv[1].split(","), sys.argv[2:]


def forbidden(mode):
    yield "socket inet", lambda: socket.socket(socket.AF_INET)
    yield "socket unix", lambda: socket.socket(socket.AF_UNIX)
    yield "socket netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    yield "socketpair", socket.socketpair
    yield "passwd", lambda: open("/etc/passwd", "rb").read()
    yield "proc", lambda: os.listdir("/proc")
    yield "sys", lambda: os.listdir("/sys")
    yield "run", lambda: os.listdir("/run")
    yield "root", lambda: os.listdir("/")
    yield "write", lambda: open("/usr/escape", "w")
    yield "shm", lambda: open("/dev/shm/escape", "w")
    yield "fork", os.fork
    yield "kill", lambda: os.kill(1, signal.SIGCONT)
    yield "kill parent", lambda: os.kill(os.getppid() or 1, 0)
    if mode == "escape":
        yield "code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    yield "descriptor", lambda: [os.fstat(fd) for fd in range(7, 64)]
    yield "grow output", lambda: os.ftruncate(node.OUTPUT, 1 << 30)
    yield "environment", lambda: os.environ["USER"]
    for path in TARGETS:
        yield path, lambda path=path: os.listdir(path) if path.endswith("/") else open(path, "rb").read()


def raw():
    """By the C library; ctypes makes code, so that this needs a trainer that may."""
    import ctypes  # pylint: disable=import-outside-toplevel
    libc = ctypes.CDLL(None, use_errno=True)
    yield "ptrace", lambda: 1 / (libc.ptrace(0, 0, 0, 0) + 1)
    yield "unshare", lambda: 1 / (libc.unshare(0x10000000) + 1)
    yield "mount", lambda: 1 / (libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) + 1)
    yield "io_uring", lambda: 1 / (libc.syscall(425, 1, ctypes.create_string_buffer(256)) + 1)
    yield "bpf", lambda: 1 / (libc.syscall(321, 0, None, 0) + 1)
    yield "keyctl", lambda: 1 / (libc.syscall(250, 0, 0) + 1)
    yield "process_vm_readv", lambda: 1 / (libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0) + 1)
    yield "dumpable", lambda: 1 / (libc.prctl(4, 1, 0, 0, 0) + 1)


def escapes(mode):
    found = []
    attempts = list(forbidden(mode)) + (list(raw()) if mode == "escape-raw" else [])
    for name, attempt in attempts:
        try:
            attempt()
            found.append(name)
        except (OSError, KeyError, ZeroDivisionError, PermissionError):
            pass
    return found


def main():
    if MODES == ["mute"]:
        time.sleep(1000)
    if MODES == ["ungreeted"]:
        raise SystemExit(3)
    task = node.begin(MODES[0])
    if task.start:
        node.finish([0.0] * (task.width + 1))
        return
    change = [0.0] * task.numbers
    mode = MODES[(task.round - 1) % len(MODES)]
    if mode == "crash":
        os.abort()
    elif mode == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
        time.sleep(1000)
    elif mode == "garbage":
        os.write(node.CONTROL, os.urandom(5000))
        time.sleep(1000)
    elif mode == "flood":
        while True:
            node.progress(1, 2)
    elif mode == "long":
        os.write(node.CONTROL, struct.pack("<I", 0xffffffff))
        time.sleep(1000)
    elif mode == "size":
        node.say(node.UPDATE, 1 << 40)
    elif mode == "nan":
        node.finish([float("nan")] * task.numbers)
    elif mode == "shape":
        node.finish(change + [0.0])
    elif mode == "confined":
        node.say(1, 0, 8, 0, "")
    elif mode == "memory":
        change = bytearray(1 << 40)
    elif mode == "busy":
        while time.process_time() < 1:
            pass
        node.finish(change)
    elif mode == "large":
        node.finish([1e6] * task.numbers)
    elif mode == "huge":
        node.finish([3e38] * task.numbers)
    elif mode in ("escape", "escape-raw"):
        change[0] = float(len(escapes(mode)))
        node.finish(change)
    time.sleep(1000)


main()
