"""Asks the three planes for their health without credentials, then runs the session flow."""

import os
import subprocess
import sys
import urllib.request

BASE = os.environ.get("BASE_URL", "http://localhost:8080")
DATA = os.environ.get("DATA_PLANE_URL", "http://localhost:8081")
AGENT = os.environ.get("SESSION_AGENT_URL", "http://localhost:9000")

for url in (BASE + "/healthz", DATA + "/healthz", AGENT + "/v1/health"):
    with urllib.request.urlopen(url, timeout=5) as answer:
        if answer.status != 200:
            sys.exit(f"{url} answered {answer.status}")

flow = subprocess.run(["bash", "session_flow.sh"], env={**os.environ, "BASE_URL": BASE})
if flow.returncode != 0:
    sys.exit("the session flow failed")
print("the stack is whole")
