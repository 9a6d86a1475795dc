"""A stock jupyter_server and a client of it, for the benchmark.

Commands come as lines on standard input, answers go as lines of JSON to standard output: a list of
times in milliseconds, or a text that says what failed. The end of standard input ends the server.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import websocket

TOKEN = uuid.uuid4().hex
# Seconds after which an answer will not come: several times what twenty kernels at once need.
PATIENCE = 30
HEADERS = {"Authorization": "token " + TOKEN, "Content-Type": "application/json"}


def milliseconds(since):
    return (time.perf_counter() - since) * 1000


class Server:
    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home = tempfile.TemporaryDirectory(prefix="abide-bench-jupyter-")
        home = self.home.name
        environment = dict(
            os.environ, HOME=home, JUPYTER_CONFIG_DIR=home, JUPYTER_DATA_DIR=home,
            JUPYTER_RUNTIME_DIR=home, IPYTHONDIR=home, JUPYTER_PREFER_ENV_PATH="1",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
             "--ip=127.0.0.1", "--port=%d" % self.port, "--ServerApp.port_retries=0",
             "--IdentityProvider.token=" + TOKEN, "--ServerApp.root_dir=" + home,
             "--ServerApp.log_level=ERROR"],
            env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.call("GET", "/api")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request(method, path, body=body, headers=HEADERS)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 300:
            raise RuntimeError("%s %s: %d %r" % (method, path, answer.status, text))
        return json.loads(text) if text else None

    def close(self):
        try:
            self.call("POST", "/api/shutdown", "{}")
            self.process.wait(15)
        except Exception:
            self.process.kill()
            self.process.wait()
        self.home.cleanup()


class Kernel:
    def __init__(self, server):
        self.server = server
        self.id = server.call("POST", "/api/kernels", "{}")["id"]
        self.socket = websocket.create_connection(
            "ws://127.0.0.1:%d/api/kernels/%s/channels" % (server.port, self.id),
            header=["Authorization: token " + TOKEN], timeout=PATIENCE,
            sockopt=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
        )

    def run(self, code):
        """Until both the value and the end of the execution are known."""
        ident = uuid.uuid4().hex
        header = {"msg_id": ident, "msg_type": "execute_request", "username": "", "session": ident,
                  "version": "5.3", "date": ""}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": True}
        self.socket.send(json.dumps({
            "header": header, "parent_header": {}, "metadata": {}, "content": content,
            "channel": "shell", "buffers": [],
        }))
        value = replied = None
        while value is None or replied is None:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") != ident:
                continue
            if message["msg_type"] == "execute_result":
                value = message["content"]["data"]["text/plain"]
            elif message["msg_type"] == "execute_reply":
                replied = message["content"]["status"]
                if replied != "ok":
                    raise RuntimeError("the step failed: %r" % message["content"])
        return value

    def close(self):
        self.socket.close()
        self.server.call("DELETE", "/api/kernels/" + self.id)


def steps(server, state, count):
    """Round trips of `x+1` in a kernel that is kept."""
    if "kernel" not in state:
        state["kernel"] = Kernel(server)
        state["kernel"].run("x = 41; x")
    times = []
    for _ in range(count):
        since = time.perf_counter()
        value = state["kernel"].run("x+1")
        times.append(milliseconds(since))
        assert value == "42", value
    return times


def sessions(server, state, count):
    """From creating a kernel to its first result, one after another."""
    times = []
    for _ in range(count):
        since = time.perf_counter()
        kernel = Kernel(server)
        kernel.run("1+1")
        times.append(milliseconds(since))
        kernel.close()
    return times


def burst(server, state, count):
    """The same at once; the time until the last one has its result."""
    failures = []

    def one():
        try:
            Kernel(server).run("1+1")
        except Exception as error:
            failures.append("%s: %s" % (type(error).__name__, error))

    threads = [threading.Thread(target=one) for _ in range(count)]
    since = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = milliseconds(since)
    for kernel in server.call("GET", "/api/kernels"):
        server.call("DELETE", "/api/kernels/" + kernel["id"])
    if failures:
        raise RuntimeError("%d of %d kernels did not answer within %d s (%s)" % (
            len(failures), count, PATIENCE, failures[0]))
    return [took]


def main():
    server = Server()
    try:
        state = {}
        print(json.dumps(server.call("GET", "/api")["version"]), flush=True)
        for line in sys.stdin:
            command, count = line.split()
            measure = {"steps": steps, "sessions": sessions, "burst": burst}[command]
            try:
                answer = measure(server, state, int(count))
            except Exception as error:
                answer = "%s: %s" % (type(error).__name__, error)
            print(json.dumps(answer), flush=True)
    finally:
        server.close()


main()
