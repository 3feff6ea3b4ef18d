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
            getattr(self, word, self.ok)(body, word)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with server.lock:
                server.active -= 1

    def send(self, content, status=200, headers=(), length=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
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

    def status(self, body, word):
        self.send(b'{"error": {"message": "too\\nmuch"}}', 503)

    def moderated(self, body, word):
        self.send(b"your input was flagged", 403)

    def fatal(self, body, word):
        self.send(f"bad key: {self.headers['Authorization']}".encode(), int(word.removeprefix("fatal")))

    fatal401 = fatal402 = fatal404 = fatal

    def endless(self, body, word):
        self.send(b" " * 20_000)

    def echo(self, body, word):
        self.send(f"failed with {dict(self.headers)}".encode(), 500)

    def parrot(self, body, word):
        key = self.headers["Authorization"]
        self.answer(body, message={"content": key}, text=key)

    def far(self, body, word):
        self.send(b" ".join([b"x" * 275, self.headers["Authorization"].encode()]), 500)

    def half(self, body, word):
        self.send(b'{"choices": [{"index": 0, "finish_reason": "stop", "text": "ha', length=500)
        self.close_connection = True

    def cut(self, body, word):
        self.send(b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "ha')

    def page(self, body, word):
        self.send(b"<html>It works!</html>")

    def other(self, body, word):
        self.send(b'{"error": {"message": "overloaded"}}')

    def several(self, body, word):
        self.send(b'{"choices": []}')

    def unfinished(self, body, word):
        self.answer(body, finish_reason=None)

    def number(self, body, word):
        self.answer(body, message={"content": 5}, text=5)

    def silent(self, body, word):
        self.answer(body, message={"content": None}, finish_reason="length")

    def filtered(self, body, word):
        self.answer(body, finish_reason="content_filter")

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
