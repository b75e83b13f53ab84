"""Start the server, and say where it is."""

import argparse
import sys
import threading
import webbrowser
from secrets import token_urlsafe

from ecg_digitize.commands.shared import DONE
from ecg_digitize.digitizer import Digitizer
from ecg_digitize.extras import load
from ecg_digitize.serve.guard import LOOPBACK

EXTRA = "serve"


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

    token = None if arguments.host in LOOPBACK else arguments.token or token_urlsafe(24)
    hosts = {*LOOPBACK, arguments.host, *arguments.called}
    print("loading the networks ...", file=sys.stderr)
    digitizer = Digitizer(
        device=arguments.device,
        preset=arguments.preset,
        backend=arguments.backend,
        weights_dir=arguments.weights,
    )
    desk = Desk(digitizer, fs_hz=arguments.fs)
    app = app_for(desk, hosts=hosts, token=token, most_bytes=round(1e6 * arguments.most_mb))
    config = uvicorn.Config(
        app, host=arguments.host, port=arguments.port, log_level="warning", access_log=False
    )
    with config.bind_socket() as socket:
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        address = f"http://{host}:{socket.getsockname()[1]}/"
        opened = f"{address}?token={token}" if token else address
        print(f"open {opened}   (for programs: {address}docs; Ctrl-C ends it)", file=sys.stderr)
        if arguments.open:
            threading.Timer(0.5, webbrowser.open, [opened]).start()
        try:
            uvicorn.Server(config).run(sockets=[socket])
        except KeyboardInterrupt:
            pass
        finally:
            desk.close()
            digitizer.close()
    return DONE
