"""Run a script that ends when its parent does, however the parent ends.

    python -m tools.sweep.leash SCRIPT WORDS…        with stdin a pipe whose other end the parent holds

A worker that is killed with signal 9 cannot stop its trial, which would then train on and write into the folder where
another worker goes on with it. Here the pipe's end tells the script: first SIGTERM, at which train_gpt.py saves and
ends, then, if that takes too long, no more asking.
"""

import os
import runpy
import signal
import sys
import threading
import time

PATIENCE_S = 10.0  # well below a lease


def watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
    runpy.run_path(sys.argv[0], run_name="__main__")
