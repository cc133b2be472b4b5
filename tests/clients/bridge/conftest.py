"""How the tests reach the fakes and the gateway: environment variables set by `tests/clients/run`.

    TOLLGATE_FAKES   where the fakes are (`python -m providers`); without it they are started here
    TOLLGATE_URL     the gateway; without it only the fakes are tested, each by its vendor's own SDK

A test fails when a fake has refused a request, unless it is marked `refused`.
"""

import base64
import itertools
import json
import os
import urllib.request

import pytest

from providers.server import start

from .sdks.anthropic_messages import AnthropicMessages
from .sdks.bedrock import Bedrock
from .sdks.cohere import Cohere
from .sdks.gemini import Gemini
from .sdks.openai_chat import OpenAIChat
from .sdks.openai_responses import OpenAIResponses
from .targets import ALL, TARGETS

FAKES = os.environ.get("TOLLGATE_FAKES") or f"http://127.0.0.1:{start().server_address[1]}"
GATEWAY = os.environ.get("TOLLGATE_URL")
KEY = os.environ.get("TOLLGATE_KEY", "none")

NUMBERS = itertools.count(1)

# by the dialect they speak
SDKS = {sdk.dialect: sdk for sdk in [OpenAIChat, OpenAIResponses, AnthropicMessages, Gemini, Bedrock, Cohere]}
# whose dialects the gateway's clients may speak
INBOUND = ["chat", "responses", "anthropic", "gemini"]


class Route:
    """An SDK on its way to a target: straight, or through the gateway."""

    def __init__(self, dialect, target, through):
        self.dialect, self.target, self.through = dialect, target, through
        self.lane = "splice" if dialect == target.dialect else "bridge"
        self.name = f"{dialect}-{'gateway' if through else 'direct'}-{target.name}"
        self.url = GATEWAY if through else f"{FAKES}/{target.mount}"
        self.key = KEY if through else "fake-key"
        self._sdk = None

    @property
    def sdk(self):
        # clients are slow to make, boto3's most of all
        if self._sdk is None:
            self._sdk = SDKS[self.dialect](self.url, self.key)
        return self._sdk

    def model(self, scenario):
        if not self.through:
            return self.target.direct(scenario)
        # what the gateway learns of a model's limits from a refusal must not meet the next test
        number = f"{next(NUMBERS)}--" if scenario.startswith("error_") else ""
        return self.target.through(f"{number}{scenario}")

    def open(self, scenario, ask, stream=False):
        return self.sdk.open(self.model(scenario), ask, stream)

    def strict_stream(self, scenario, ask):
        return self.sdk.strict_stream(self.url, self.key, self.model(scenario), ask)


ROUTES = [Route(target.dialect, target, False) for target in ALL]
if GATEWAY:
    ROUTES += [Route(dialect, target, True) for dialect in INBOUND for target in ALL]


def routes(which=lambda route: True, targets=TARGETS):
    """Parametrizes a test by `route`."""
    chosen = [route for route in ROUTES if route.target in targets and which(route)]
    return pytest.mark.parametrize("route", chosen, ids=lambda route: route.name)


def both_ways(test):
    return pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])(test)


class Fakes:
    """What the fakes have seen since the test began."""

    def __init__(self):
        self.begun = self.fetch("_count")

    def fetch(self, path):
        with urllib.request.urlopen(f"{FAKES}/{path}", timeout=5) as reply:
            return json.load(reply)

    def requests(self):
        return self.fetch(f"_requests?since={self.begun}")

    def bodies(self):
        return [json.loads(base64.b64decode(request["body"])) for request in self.requests()]

    def faults(self):
        return [f"{r['provider']} ({r['scenario']}): {r['fault']}" for r in self.requests() if r["fault"]]


@pytest.fixture
def fakes():
    return Fakes()


@pytest.fixture(autouse=True)
def no_request_was_refused(request, fakes):
    yield
    faults = fakes.faults()
    if faults and not request.node.get_closest_marker("refused"):
        pytest.fail("a provider refused what it was sent:\n" + "\n".join(faults), pytrace=False)


def pytest_configure(config):
    config.addinivalue_line("markers", "refused: a fake may refuse the requests of this test")
