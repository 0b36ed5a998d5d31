"""Run a command that can write in one folder only: `python -I confine.py FOLDER COMMAND ...`.

Runs as a file in the isolated interpreter, so it imports the standard library alone. Landlock (Linux 5.13) permanently
denies the command and its children every write outside FOLDER, /dev/null and /dev/shm. Reading stays allowed, since an
interpreter reads all over the file system. Callers check `can_confine` first.
"""

import ctypes
import os
import resource
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
ABI_VERSION, PATH_BENEATH, NO_NEW_PRIVS = 1, 1, 38
WRITE_FILE, TRUNCATE, REFER = 1 << 1, 1 << 14, 1 << 13
WRITES = WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove and make, of every kind
LARGEST_FILE = 16 << 30  # bytes


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def _call(number: int, *args: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *args))


def can_confine() -> bool:
    """Version 3 is the first with truncation."""
    return sys.platform == "linux" and _call(CREATE_RULESET, None, ctypes.c_size_t(0), ABI_VERSION) >= 3


def confine(folder: str) -> None:
    """Restrict this process for the rest of its life."""
    every = WRITES | TRUNCATE | REFER
    rules = _call(CREATE_RULESET, ctypes.byref(ctypes.c_uint64(every)), ctypes.c_size_t(8), 0)
    for path, allowed in ((folder, every), ("/dev/shm", every), ("/dev/null", WRITE_FILE | TRUNCATE)):
        beneath = PathBeneath(allowed, os.open(path, os.O_PATH | os.O_CLOEXEC))
        if _call(ADD_RULE, rules, PATH_BENEATH, ctypes.byref(beneath), 0):
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    ctypes.CDLL(None).prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    if rules < 0 or _call(RESTRICT_SELF, rules, 0):
        raise OSError(ctypes.get_errno(), "Landlock does not hold this process")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
