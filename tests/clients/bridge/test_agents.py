"""Claude Code and Codex hold a turn with a tool call: the fake asks for the contents of a file, the agent runs its own tool, and prints what
the fake makes of the result. Straight to a provider of their own dialect, and through the gateway to every provider.

TOLLGATE_AGENTS is the folder they are installed in, set by `tests/clients/run`.
"""

import base64
import json
import os
import re
import subprocess

import pytest

from .conftest import routes
from .relay import Relay
from .targets import TARGETS

AGENTS = os.environ.get("TOLLGATE_AGENTS")
SECRET = "the tide turns at 17:42"
# nothing but loopback: the agents' own traffic to the outside runs into a closed port
NOWHERE = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def run(relay, arguments, folder, home, variables):
    assert AGENTS, "TOLLGATE_AGENTS is not set: start these tests with tests/clients/run"
    script, *arguments = arguments
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1", **NOWHERE, **variables}
    command = ["node", f"{AGENTS}/node_modules/{script}", *arguments]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, timeout=60, **output)
    if done.returncode != 0 or "The file says:" not in done.stdout or SECRET not in done.stdout:
        errors = "\n".join(relay.errors)
        pytest.fail(
            f"exit code {done.returncode}; it printed:\n{done.stdout[-2000:]}\nerrors it got:\n{errors}", pytrace=False
        )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "home").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "note.txt").write_text(SECRET + "\n")
    return work


def prompt(folder):
    return f"Read the file {folder}/note.txt and tell me what it says."


def check_lane(route, relay, fakes):
    """Every answered call took this lane; on the splice lane the provider got the client's bytes, but for the model's name."""
    if not route.through:
        return
    told = [heads.get("x-tollgate-lane") for path, _, status, heads in relay.calls if status == 200 and path != "/"]
    assert told and set(told) == {route.lane}
    if route.lane == "splice":
        name, bare = (json.dumps(f(route.model("agent"))).encode() for f in (str, lambda m: m.split("/", 1)[1]))
        sent = [
            re.sub(rb'("model"\s*:\s*)' + re.escape(name), rb"\g<1>" + bare, body, count=1)
            for _, body, _, _ in relay.calls
            if body
        ]
        assert sent == [base64.b64decode(request["body"]) for request in fakes.requests()]


@routes(lambda route: route.dialect == "anthropic", targets=TARGETS)
@pytest.mark.timeout(90)
def test_claude_code_runs_its_tool_and_tells_the_result(route, folder, fakes):
    relay = Relay(route.url)
    run(
        relay,
        [
            "@anthropic-ai/claude-code/cli-wrapper.cjs",
            "-p",
            prompt(folder),
            "--model",
            route.model("agent"),
            "--dangerously-skip-permissions",
        ],
        folder,
        folder.parent / "home",
        {
            "ANTHROPIC_BASE_URL": relay.url,
            "ANTHROPIC_AUTH_TOKEN": route.key,
            # as root it wants to be told that this is no machine to be careful of
            "IS_SANDBOX": "1",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
    )
    used = [request["seen"] for request in fakes.requests() if request["seen"]["results"]]
    assert used and used[0]["calls"][0]["name"] == "Bash"
    check_lane(route, relay, fakes)


@routes(lambda route: route.dialect == "responses", targets=TARGETS)
@pytest.mark.timeout(90)
def test_codex_runs_its_tool_and_tells_the_result(route, folder, fakes):
    relay = Relay(route.url)
    provider = f'model_providers.gw={{name="gw",base_url="{relay.url}/v1",wire_api="responses",env_key="GATEWAY_KEY",request_max_retries=0,stream_max_retries=0}}'
    home = folder.parent / "home"
    run(
        relay,
        [
            "@openai/codex/bin/codex.js",
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "-c",
            "model_provider=gw",
            "-c",
            provider,
            "-c",
            "model_reasoning_effort=high",
            "-m",
            route.model("agent"),
            prompt(folder),
        ],
        folder,
        home,
        {"CODEX_HOME": str(home), "GATEWAY_KEY": route.key},
    )
    used = [request["seen"] for request in fakes.requests() if request["seen"]["results"]]
    assert used and used[0]["calls"][0]["name"] == "exec_command"
    assert used[0]["thinking"], "the reasoning effort did not arrive"
    check_lane(route, relay, fakes)
