"""What scripts written for LiteLLM's proxy do with keys, in plain HTTP. Arguments: admin URL, data URL, admin token, model."""

import json
import sys
import urllib.error
import urllib.request

ADMIN, DATA, TOKEN, MODEL = sys.argv[1:5]


def call(url, body=None, key=TOKEN):
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def chat(key):
    status, _ = call(f"{DATA}/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}, key)
    return status


status, made = call(
    f"{ADMIN}/key/generate",
    {
        "key_alias": "script", "duration": "30d", "models": [MODEL], "team_id": "search", "user_id": "ada@example.com",
        "max_budget": 10, "budget_duration": "30d", "rpm_limit": 100, "tpm_limit": 100000, "max_parallel_requests": 4,
        "metadata": {"ticket": 7}, "aliases": {}, "send_invite_email": False, "key_type": "default",
    },
)
assert status == 200, (status, made)
key = made["key"]
assert key.startswith("sk-") and made["key_name"].endswith(key[-4:]) and len(made["token"]) == 64, made
assert made["max_budget"] == 10 and made["budget_duration"] == "30d" and made["expires"].endswith("Z"), made
assert made["ignored"] == ["key_type"], made
assert chat(key) == 200

status, found = call(f"{ADMIN}/key/info?key={key}")
assert status == 200 and found["key"] == key, found
info = found["info"]
assert info["key_alias"] == "script" and info["team_id"] == "search" and info["user_id"] == "ada@example.com", info
assert info["models"] == [MODEL] and info["rpm_limit"] == 100 and info["metadata"] == {"ticket": 7}, info
assert call(f"{ADMIN}/key/info?key={made['token']}")[1]["info"] == info

status, updated = call(f"{ADMIN}/key/update", {"key": key, "models": ["another"], "max_budget": 20, "metadata": {"a": 1}})
assert status == 200 and updated["max_budget"] == 20 and updated["budget_duration"] == "30d", updated
assert updated["metadata"] == {"a": 1} and chat(key) == 403, updated
assert call(f"{ADMIN}/key/update", {"key": key, "models": []})[0] == 200 and chat(key) == 200

status, refused = call(f"{ADMIN}/key/update", {"key": key, "aliases": {"gpt-4o": "cheap"}})
assert status == 400 and "aliases" in refused["error"]["message"], refused
status, refused = call(f"{ADMIN}/key/generate", {"key_alias": "script"})
assert status == 409, refused
status, refused = call(f"{ADMIN}/key/info?key=sk-nobody-knows-this-one")
assert status == 404 and refused["error"]["type"] == "not_found_error", refused
assert call(f"{ADMIN}/key/generate", {}, key="sk-not-the-token")[0] == 401

assert call(f"{ADMIN}/key/block", {"key": key})[0] == 200 and chat(key) == 401
assert call(f"{ADMIN}/key/unblock", {"key": key})[0] == 200 and chat(key) == 200

status, renewed = call(f"{ADMIN}/key/regenerate", {"key": key, "grace_period": "1h"})
assert status == 200 and renewed["key"] != key, renewed
assert chat(key) == 200 and chat(renewed["key"]) == 200
status, renewed = call(f"{ADMIN}/key/regenerate", {"key": renewed["token"]})
assert status == 200 and chat(key) == 401 and chat(renewed["key"]) == 200, renewed

status, own = call(f"{ADMIN}/key/generate", {"key": "sk-my-own-value-0123456789"})
assert status == 200 and own["key"] == "sk-my-own-value-0123456789", own
assert sorted(call(f"{ADMIN}/key/list")[1]["keys"]) == sorted([own["token"], renewed["token"]])

status, deleted = call(f"{ADMIN}/key/delete", {"keys": [renewed["key"], own["key"]]})
assert status == 200 and deleted == {"deleted_keys": [renewed["key"], own["key"]]}, deleted
assert chat(renewed["key"]) == 401 and call(f"{ADMIN}/key/list")[1]["keys"] == []
assert call(f"{ADMIN}/key/delete", {"key_aliases": ["script"]})[0] == 404
print("good")
