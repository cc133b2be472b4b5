"""A proxy between a command-line agent and whom it asks: keeps what went through, changes nothing."""

import http.client
import http.server
import threading
import urllib.parse


class Relay(http.server.ThreadingHTTPServer):
    """`calls`: (path, request body, status, reply headers) of each call that has been answered; `errors`: what was no success."""

    daemon_threads = True

    def __init__(self, to):
        super().__init__(("127.0.0.1", 0), Handler)
        parts = urllib.parse.urlsplit(to)
        self.host, self.port, self.prefix = parts.hostname, parts.port, parts.path
        self.calls, self.errors = [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Agents break off calls they need no more."""


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        relay = self.server
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        connection = http.client.HTTPConnection(relay.host, relay.port, timeout=60)
        skip = ("host", "connection", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skip}
        connection.request(self.command, relay.prefix + self.path, body or None, headers)
        reply = connection.getresponse()
        heads = {name.lower(): value for name, value in reply.getheaders()}
        relay.calls.append((self.path, body, reply.status, heads))
        self.send_response(reply.status)
        for name, value in heads.items():
            if name not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        # HTTP/1.0: the end of the connection is the end of the reply
        self.end_headers()
        while piece := reply.read1(65536):
            if reply.status >= 400:
                relay.errors.append(f"{reply.status} {self.path}: {piece[:1000].decode(errors='replace')}")
            self.wfile.write(piece)
        connection.close()

    do_GET = do_HEAD = do_POST
