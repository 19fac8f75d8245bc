"""A local server that answers JSON requests, and fails where a test requires it.

class Echo(JsonServer):
    def answer(self, question):
        return {"received": question}

with Echo() as server:
    server.trouble = ["drop", (503, {"message": "later"}, {"retry-after": "1"})]      # results of the next requests
    ...                                                                               # server.url, server.asked
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.trouble: list[Any] = []
        """Results of the next requests: "drop" closes the connection, "half" sends half an answer, a tuple is sent as status, value
        and optional headers, None is a normal answer."""
        self.asked: list[dict[str, Any]] = []
        self.delay = 0.0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        super().__exit__(*exception)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def refusal(self, path: str, authorization: str) -> tuple[int, Any] | None:
        """Return status and value for a request with a wrong path or authorization; such requests are not added to `asked`."""
        return None

    def answer(self, question: dict[str, Any]) -> Any:
        raise NotImplementedError


class Handler(BaseHTTPRequestHandler):
    server: JsonServer

    def log_message(self, *arguments: Any) -> None: ...

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self.answer()
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def answer(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refusal = self.server.refusal(self.path, self.headers["Authorization"])
        if refusal is not None:
            return self.send_json(*refusal)
        with self.server.lock:
            self.server.asked.append(question)
            trouble = self.server.trouble.pop(0) if self.server.trouble else None
        time.sleep(self.server.delay)
        if trouble == "drop":
            return self.connection.close()
        if trouble == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": {')
            return self.connection.close()
        return self.send_json(*(trouble or (200, self.server.answer(question))))

    def send_json(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
