"""`python -m providers [PORT]`: serve until the process that started it is gone; the port is the first line of stdout."""

import os
import sys
import time

from .server import start

parent = os.getppid()
server = start(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
print(server.server_address[1], flush=True)
while os.getppid() == parent:
    time.sleep(0.5)
