"""Runs programs inside a guest of nfs.py for who asks over the network: one connection, one program.

guest.py serve ADDRESS                      in the guest
guest.py call ADDRESS ENVIRONMENT WORD…     on its network: ENVIRONMENT is a JSON object; the program's output and errors
                                            come to standard output, and its exit status becomes this one's
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

PORT = 7711
UNREACHABLE = 250
_STATUS = b"\n\0status "


def serve(address: str) -> None:
    """Serve until the guest's end."""
    listener = socket.create_server((address, PORT), backlog=64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_run_one, args=(connection,), daemon=True).start()


def _run_one(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as lines:
        asked = json.loads(lines.readline())
        try:
            # Straight to the connection: what a program wrote before it was killed has arrived.
            status = subprocess.run(
                asked["words"],
                env={**os.environ, **asked["environment"]},
                stdin=subprocess.DEVNULL,
                stdout=connection.fileno(),
                stderr=connection.fileno(),
                start_new_session=True,
                check=False,
            ).returncode
        except OSError as error:
            connection.sendall(f"{error}\n".encode())
            status = 127
        connection.sendall(_STATUS + b"%d\n" % status)


def call(address: str, environment: str, words: list[str]) -> int:
    """Run one program in a guest; returns its exit status, or UNREACHABLE."""
    try:
        connection = socket.create_connection((address, PORT), timeout=20)
    except OSError as error:
        print(f"{address}: {error}", file=sys.stderr)
        return UNREACHABLE
    connection.settimeout(None)
    connection.sendall(json.dumps({"words": words, "environment": json.loads(environment)}).encode() + b"\n")
    seen = b""
    while chunk := connection.recv(1 << 16):
        seen += chunk
        # All but what may be the beginning of the last line.
        ready = seen.rfind(_STATUS[:2])
        ready = len(seen) if ready < 0 else ready
        sys.stdout.buffer.write(seen[:ready])
        sys.stdout.buffer.flush()
        seen = seen[ready:]
        if seen.startswith(_STATUS) and seen.endswith(b"\n"):
            status = int(seen[len(_STATUS) :])
            return status if status >= 0 else 128 - status
    return UNREACHABLE


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[2], sys.argv[3], sys.argv[4:]))
