"""An OpenAI-compatible server on loopback with the faults that it is asked for."""

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def write_text(body):
    """The right answer: it says what was asked, and with which seed."""
    return f"{read_content(body)} | {body['seed']}"


FIXED = {  # whole answers: status and body, in which KEY stands for the header with the key
    "status": (503, b'{"error": {"message": "too\\nmuch"}}'),
    "moderated": (403, b"your input was flagged"),
    "cut": (200, b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "ha'),
    "endless": (200, b" " * 20_000),
    "page": (200, b"<html>It works!</html>"),
    "other": (200, b'{"error": {"message": "overloaded"}}'),
    "several": (200, b'{"choices": []}'),
    "echo": (500, b"failed with KEY"),
    "far": (500, b"x" * 275 + b" KEY"),
    **{f"fatal{status}": (status, b"bad key: KEY") for status in (401, 402, 404)},
}
CHANGES = {  # changes to the choice in the right answer
    "unfinished": {"finish_reason": None},
    "number": {"message": {"content": 5}, "text": 5},
    "silent": {"message": {"content": None}, "finish_reason": "length"},
    "filtered": {"finish_reason": "content_filter"},
}


def read_content(body):
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


class Handler(BaseHTTPRequestHandler):
    """Each word of the last message is what to do on one attempt; the last word holds for all that follow."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.bodies.append((self.path, body))
            server.headers.append(self.headers)
            server.active += 1
            server.most = max(server.most, server.active)
            identity = json.dumps(body, sort_keys=True)
            words = read_content(body).split()
            word = words[min(server.calls[identity], len(words) - 1)]
            server.calls[identity] += 1
        try:
            if word in FIXED:
                status, content = FIXED[word]
                self.send(content.replace(b"KEY", self.headers["Authorization"].encode()), status)
            elif word in CHANGES:
                self.answer(body, **CHANGES[word])
            else:
                getattr(self, word, self.ok)(body, word)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.active -= 1

    def send(self, content, status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, body, **changes):
        """Send the right answer, with changes to its choice."""
        text = write_text(body)
        said = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **said, **changes}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        self.send(json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode())

    def ok(self, body, word):
        with self.server.lock:
            self.server.paid += 1
        time.sleep(self.server.pause)
        self.answer(body)

    def parrot(self, body, word):
        key = self.headers["Authorization"]
        self.answer(body, message={"content": key}, text=key)

    def half(self, body, word):
        self.send(b'{"choices": [{"index": 0, "finish_reason": "stop", "text": "ha', length=500)
        self.close_connection = True

    def hangup(self, body, word):
        self.close_connection = True

    def slow(self, body, word):
        self.server.closing.wait(20)

    def drip(self, body, word):
        self.send(b"", length=10_000)
        while not self.server.closing.wait(0.05):
            self.wfile.write(b" ")
            self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of callers that all come at once; five, where nothing is said

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # who has hung up is no fault of ours
            super().handle_error(request, client_address)


@contextlib.contextmanager
def run_server(pause=0.0):
    """The server, its address in `url`. `bodies`: every call; `paid`: those answered as they should be."""
    server = Server(("127.0.0.1", 0), Handler)
    server.lock, server.closing = threading.Lock(), threading.Event()
    server.bodies, server.headers, server.calls = [], [], Counter()
    server.active = server.most = server.paid = 0
    server.pause = pause
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
