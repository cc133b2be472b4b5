"""The fakes as one HTTP server: each provider below a path of its own, every request recorded.

GET /_count              how many requests came
GET /_requests?since=N   what came, from the Nth request on, as JSON
"""

import base64
import http.server
import json
import threading
import time
import traceback
import urllib.parse

from . import (
    anthropic_messages,
    bedrock_converse,
    cohere_chat,
    gemini_generate,
    openai_chat,
    openai_responses,
    scenarios,
)
from .words import Answer, Fault, Refused

# Below which path a provider is found. `openai` offers both of OpenAI's dialects.
MOUNTS = {
    "anthropic": [anthropic_messages],
    "openai": [openai_chat, openai_responses],
    "gemini": [gemini_generate],
    "bedrock": [bedrock_converse],
    "cohere": [cohere_chat],
}


class Request:
    """One request as it came."""

    def __init__(self, method, target, headers, body):
        self.method, self.body = method, body
        self.raw_path = target
        parts = urllib.parse.urlsplit(target)
        self.mount, _, rest = parts.path.lstrip("/").partition("/")
        self.path = f"/{rest}"
        self.query = dict(urllib.parse.parse_qsl(parts.query))
        self.headers = {name.lower(): value for name, value in headers.items()}

    def json(self):
        """The body as an object, read anew each time."""
        try:
            value = json.loads(self.body, object_pairs_hook=no_twins)
        except ValueError as error:
            raise Refused(f"the body is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise Refused("the body is not a JSON object")
        return value


def no_twins(pairs):
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError(f"a member twice: {names}")
    return dict(pairs)


class Log:
    def __init__(self):
        self.lock = threading.Lock()
        self.entries = []

    def add(self, request, dialect):
        entry = {
            "method": request.method,
            "target": request.raw_path,
            "provider": dialect.PROVIDER if dialect else request.mount,
            "headers": request.headers,
            "body": base64.b64encode(request.body).decode(),
            # why the request was refused; a test fails with it
            "fault": None,
            "scenario": None,
            "status": None,
            # what the fake understood
            "seen": None,
        }
        with self.lock:
            self.entries.append(entry)
        return entry

    def since(self, first):
        with self.lock:
            return self.entries[first:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    log = Log()

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        if parts.path == "/_requests":
            since = int(dict(urllib.parse.parse_qsl(parts.query)).get("since", 0))
            self.whole(200, {}, json.dumps(self.log.since(since)).encode())
        elif parts.path == "/_count":
            self.whole(200, {}, str(len(self.log.entries)).encode())
        else:
            self.whole(404, {}, b'{"error":{"message":"no such path"}}')

    do_HEAD = do_GET

    def do_POST(self):
        request = Request(self.command, self.path, self.headers, self.take_body())
        dialect = next((d for d in MOUNTS.get(request.mount, []) for p in d.PATHS if p.fullmatch(request.path)), None)
        entry = self.log.add(request, dialect)
        if dialect is None:
            entry["fault"], entry["status"] = f"no such path: {request.raw_path}", 404
            self.whole(404, {}, b'{"error":{"message":"no such path","type":"invalid_request_error"}}')
            return
        try:
            seen = dialect.read(request)
            entry["scenario"], entry["seen"] = scenarios.name_of(seen.model), seen.told()
            counting = request.path.endswith(("count_tokens", "countTokens"))
            answer = Answer([]) if counting else scenarios.answer(seen, dialect.PROVIDER)
        except Refused as refused:
            entry["fault"] = str(refused)
            answer = Fault("invalid", f"the fake refuses: {refused}")
        except Exception:  # a fake that breaks must not look like a provider that does
            entry["fault"] = "the fake broke:\n" + traceback.format_exc()
            answer = Fault("internal", entry["fault"])
        if isinstance(answer, Fault):
            status, headers, body = dialect.error(request, answer)
        elif seen.stream:
            entry["status"] = 200
            self.streamed(*dialect.stream(request, seen, answer), answer)
            return
        else:
            status, headers, body = dialect.unary(request, seen, answer)
            time.sleep(answer.pause)
        entry["status"] = status
        self.whole(status, headers, body)

    def take_body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def whole(self, status, headers, body):
        self.send_response(status)
        for name, value in ({"content-type": "application/json", "content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def streamed(self, headers, frames, answer):
        self.send_response(200)
        for name, value in (headers | {"transfer-encoding": "chunked", "cache-control": "no-cache"}).items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for frame in frames:
                for part in (frame[i : i + 1] for i in range(len(frame))) if answer.bytewise else [frame]:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                if answer.pause:
                    time.sleep(answer.pause)
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that leave are no news."""


def start(port=0):
    """The server, running in a thread of its own."""
    server = Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
