"""An OpenAI-compatible server of one model, `scripted_server.py MODEL PORT`, that answers every role at random."""

import json
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, PORT = sys.argv[1], int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def send(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send({"data": [{"id": MODEL}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        if body["model"] != MODEL:
            self.send({"error": f"no model {body['model']}"}, 404)
            return
        draw = zlib.crc32(f"{body['seed']} {prompt}".encode())
        text = "word " * (1 + draw % 9)
        if "Winner:" in prompt:
            text = f"{text}\nWinner: Judgment {'AB'[draw % 2]}"
        elif "Score:" in prompt:
            text = f"{text}\nScore: {draw % 11 / 2}"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        self.send({"id": "x", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


class Server(ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", PORT), Handler).serve_forever()
