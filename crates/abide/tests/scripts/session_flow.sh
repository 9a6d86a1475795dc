#!/usr/bin/env bash
# Makes a session and runs three steps in it, as clients of runtime routing do: no credentials, no
# look at any status code. Prints what it is answered.
set -euo pipefail

base="${BASE_URL:-http://localhost:8080}"

send() {
    curl -sS -X POST "$base$1" -H 'accept: application/json' -H 'Content-Type: application/json' -d "$2"
}

created="$(send /sessions "{
  \"tenantId\": \"${TENANT_ID:-tenant-1}\",
  \"agentId\": \"${AGENT_ID:-agent-1}\",
  \"policyId\": \"${POLICY_ID:-policy-1}\",
  \"ttlSeconds\": 3600,
  \"runtime\": \"${RUNTIME:-python}\"
}")"
id="$(printf '%s' "$created" | python3 -c 'import json, sys; print(json.load(sys.stdin).get("id") or "")')"
if [ -z "$id" ]; then
    echo "no session id in: $created" >&2
    exit 1
fi
for body in '{"command":"print(\"hello\")"}' '{"command":"x=5*10"}' '{"command":"print(x)"}'; do
    send "/sessions/$id/steps" "$body"
    echo
done
