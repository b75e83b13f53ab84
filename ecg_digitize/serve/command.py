"""Start the server, and say where it is."""

import argparse
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from secrets import token_urlsafe
from typing import Final

from ecg_digitize.commands.shared import DONE
from ecg_digitize.digitizer import Digitizer
from ecg_digitize.extras import load
from ecg_digitize.serve.guard import LOOPBACK

EXTRA: Final = "serve"
ANY_HOST: Final = ("0.0.0.0", "::")
GRACE_S: Final = 2
"""How long answers that are under way may take when the server ends."""


def serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        InputError: A package is missing, or there is no such preset or device.
        OSError: The port is taken.
    """
    uvicorn = load("uvicorn", extra=EXTRA)
    load("fastapi_offline", extra=EXTRA)
    from ecg_digitize.serve.app import app_for
    from ecg_digitize.serve.desk import Desk

    is_alone = arguments.host in LOOPBACK
    token = arguments.token or (None if is_alone else token_urlsafe(24))
    is_any = arguments.host in ANY_HOST
    called = socket.gethostname() if is_any else arguments.host
    hosts = {*LOOPBACK, arguments.host, *arguments.called, *(_own_names() if is_any else ())}
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    with socket.create_server((arguments.host, arguments.port), family=family) as listening:
        print("loading the networks ...", file=sys.stderr)
        digitizer = Digitizer(
            device=arguments.device,
            preset=arguments.preset,
            backend=arguments.backend,
            weights_dir=arguments.weights,
        )
        desk = Desk(digitizer, fs_hz=arguments.fs)
        app = app_for(desk, hosts=hosts, token=token, most_bytes=round(1e6 * arguments.most_mb))
        host = f"[{called}]" if ":" in called else called
        address = f"http://{host}:{listening.getsockname()[1]}/"
        opened = f"{address}?token={token}" if token else address
        print(f"open {opened}   (for programs: {address}docs; Ctrl-C ends it)", file=sys.stderr)
        if arguments.open:
            threading.Timer(0.5, webbrowser.open, [opened]).start()
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S
        )
        try:
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listening])
        finally:
            print("ends when the page that is being read is finished", file=sys.stderr)
            desk.close()
            digitizer.close()
    return DONE


def _own_names() -> set[str]:
    """Return the names and the addresses by which others may know this machine."""
    names = {socket.gethostname(), socket.getfqdn()}
    with suppress(OSError):  # nobody may know its name
        names |= {str(one[4][0]) for one in socket.getaddrinfo(socket.gethostname(), None)}
    return names
