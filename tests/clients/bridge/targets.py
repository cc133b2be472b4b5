"""Who is asked: the fakes, by their native names for models and by the gateway's. `python -m bridge.targets FAKES` prints the gateway's
configuration."""

import dataclasses
import sys

from providers.bedrock_converse import ACCESS_KEY, REGION, SECRET_KEY


@dataclasses.dataclass(frozen=True)
class Target:
    # in the names of tests
    name: str
    # the dialect that the fake speaks
    dialect: str
    # the provider in the gateway's configuration, and the fake's path below its server
    provider: str
    mount: str
    # before the scenario
    model: str
    # thoughts are shown, and signed
    thinks: bool = True
    seals: bool = True
    # takes documents
    documents: bool = True
    # has a word for a refusal
    refuses: bool = True

    def through(self, scenario):
        """The model's name for a client of the gateway."""
        return f"{self.provider}/{self.model}--{scenario}"

    def direct(self, scenario):
        """The model's name for the provider itself."""
        return f"{self.model}--{scenario}"


ANTHROPIC = Target("anthropic", "anthropic", "anthropic", "anthropic", "claude-sonnet-4-5")
GEMINI = Target("gemini", "gemini", "gemini", "gemini", "gemini-2.5-flash")
# demands the signatures of its calls
GEMINI_3 = Target("gemini3", "gemini", "gemini", "gemini", "gemini-3-pro-preview")
BEDROCK = Target("bedrock", "bedrock", "bedrock", "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
NOVA = Target("nova", "bedrock", "bedrock", "bedrock", "us.amazon.nova-2-lite-v1:0")
COHERE = Target(
    "cohere", "cohere", "cohere", "cohere", "command-a-reasoning-08-2025", seals=False, documents=False, refuses=False
)
CHAT = Target("chat", "chat", "compatible", "openai", "gpt-5", seals=False)
RESPONSES = Target("responses", "responses", "newest", "openai", "gpt-5")

TARGETS = [ANTHROPIC, GEMINI, BEDROCK, COHERE, CHAT, RESPONSES]
ALL = [*TARGETS, GEMINI_3, NOVA]

CONFIG = """\
# Written by tests/clients/run.
listen: 127.0.0.1:{port}
admin: {{listen: 127.0.0.1:{admin}}}
log: {{access: stdout, format: json}}
keys:
  - {{name: clients, key: {key}}}
providers:
  anthropic: {{base_url: "{fakes}/anthropic/v1", api_key: fake-anthropic-key}}
  gemini: {{base_url: "{fakes}/gemini/v1beta", api_key: fake-gemini-key}}
  bedrock: {{base_url: "{fakes}/bedrock", region: {region}, access_key_id: {access}, secret_access_key: "{secret}"}}
  cohere: {{base_url: "{fakes}/cohere", api_key: fake-cohere-key}}
  # each offers one of OpenAI's dialects, so that a client of the other is translated
  compatible: {{kind: openai, base_url: "{fakes}/openai/v1", api_key: fake-openai-key, bridge: [chat_completions], paths: {{responses: "off"}}}}
  newest: {{kind: openai, base_url: "{fakes}/openai/v1", api_key: fake-openai-key, bridge: [responses], paths: {{chat_completions: "off"}}}}
# here providers fail on purpose, again and again
breaker: off
models:
  chain: {{targets: {chain}text"}}]}}
  chain-tools: {{targets: {chain}tools"}}]}}
  chain-down: {{targets: {chain}error_500"}}]}}
  chain-broken: {{targets: [anthropic/claude-sonnet-4-5--error_stream, {{priority: 2, model: "bedrock/{bedrock}--text"}}]}}
  chain-long: {{target: compatible/gpt-5--error_context, fallback: {{context_length: "bedrock/{bedrock}--text"}}}}
  limited: {{target: compatible/gpt-5--error_429, retry: {{max_backoff: 2s}}}}
"""
# three dialects, of which the first two fail; the last one's scenario follows
CHAIN = (
    "[compatible/gpt-5--error_503, {priority: 2, model: anthropic/claude-sonnet-4-5--error_first}, "
    f'{{priority: 3, model: "bedrock/{BEDROCK.model}--'
)


def config(fakes, port, admin, key):
    return CONFIG.format(
        fakes=fakes,
        port=port,
        admin=admin,
        key=key,
        region=REGION,
        access=ACCESS_KEY,
        secret=SECRET_KEY,
        chain=CHAIN,
        bedrock=BEDROCK.model,
    )


if __name__ == "__main__":
    print(config(*sys.argv[1:5]), end="")
