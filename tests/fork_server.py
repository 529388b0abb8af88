"""A process that has imported a service, and forks copies of itself that each run a module.

`python fork_server.py DESCRIPTOR MODULE…`: imports the modules and says one byte on the socket. Each message
there is then an order in JSON, with four open files: standard input, output and error of the copy, and a
pipe. The pipe gets the process id of the copy, and its exit code once it has ended, as four bytes each. The
server ends with its socket.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

MAX_ORDER_BYTES = 128 * 1024
"""An order holds a whole environment. More than a socket takes in one message would be refused."""

ORDER_FILES = 4
PR_SET_PDEATHSIG = 1


class ForkServer:
    """Forks copies and reports their ends. Has no threads, which a copy would lack."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        self._copies: dict[int, tuple[int, int]] = {}
        """Descriptor of a process → its id, and the pipe to report to."""

    def serve(self) -> dict[str, Any] | None:
        """Returns, in each copy, its order; in the server None, at its end."""
        while True:
            for ready, _ in self._poller.poll():
                if ready != self._control.fileno():
                    self._report_end(ready)
                    continue
                try:
                    message, files, _, _ = socket.recv_fds(self._control, MAX_ORDER_BYTES, ORDER_FILES)
                except ConnectionResetError:  # closed before our byte was read
                    return None
                if not message:
                    return None
                if self._fork(files):
                    return json.loads(message)  # type: ignore[no-any-return]  # as the tests wrote it

    def _fork(self, files: list[int]) -> bool:
        """Returns True in the copy."""
        *standard, report = files
        server = os.getpid()
        process_id = os.fork()
        if process_id == 0:
            self._leave_server(standard, report, server)
            return True
        for file in standard:
            os.close(file)
        descriptor = os.pidfd_open(process_id)
        self._copies[descriptor] = (process_id, report)
        self._poller.register(descriptor, select.POLLIN)
        os.write(report, process_id.to_bytes(4))
        return False

    def _leave_server(self, standard: list[int], report: int, server: int) -> None:
        """Gives the copy what a started process has: its session, its files, its end with its parent."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        os.setsid()
        for number, file in enumerate(standard):
            os.dup2(file, number)
        self._control.close()
        for file in (*standard, report, *self._copies, *(pipe for _, pipe in self._copies.values())):
            os.close(file)

    def _report_end(self, descriptor: int) -> None:
        self._poller.unregister(descriptor)
        process_id, report = self._copies.pop(descriptor)
        _, status = os.waitpid(process_id, 0)
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(report, os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
        os.close(descriptor)
        os.close(report)


def main() -> None:
    """Runs the server; in a copy, the module that is asked for, as `python -P -m` does."""
    _, descriptor, *preloaded = sys.argv
    control = socket.socket(fileno=int(descriptor))
    for module in preloaded:
        importlib.import_module(module)
    gc.freeze()  # a collection in a copy then leaves the pages alone that it shares with the server
    control.send(b"!")
    order = ForkServer(control).serve()
    if order is None:
        return
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.path[:0] = filter(None, order["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [order["module"], *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
