"""`python -m providers`: serve until stdin closes; the port is the first line of stdout."""

import sys

from .server import start

server = start(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
print(server.server_address[1], flush=True)
sys.stdin.read()
