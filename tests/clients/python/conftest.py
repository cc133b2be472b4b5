"""How the tests reach the gateway: three environment variables set by `tests/clients/run`.

A client counts the HTTP requests it makes (`client.sent`), so that "did not retry" is a fact and not a guess from the clock.
"""

import os
import time
import urllib.request

import openai
import pytest

URL = os.environ["TOLLGATE_URL"]
ADMIN = os.environ["TOLLGATE_ADMIN"]
KEY = os.environ["TOLLGATE_KEY"]

MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "Say hello."}]


def make_client(**options):
    """A client with retries off unless asked, and `client.sent`: the requests that really went out."""
    sent = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [sent.append]})
    options = {"base_url": f"{URL}/v1", "api_key": KEY, "timeout": 15, "max_retries": 0, "http_client": http} | options
    client = openai.OpenAI(**options)
    client.sent = sent
    return client


def make_async_client(**options):
    return openai.AsyncOpenAI(**({"base_url": f"{URL}/v1", "api_key": KEY, "timeout": 15, "max_retries": 0} | options))


@pytest.fixture
def client():
    with make_client() as client:
        yield client


def metric(name):
    """The sum of all samples of one metric on the admin port. A metric that is not there at all is an error."""
    with urllib.request.urlopen(f"{ADMIN}/metrics", timeout=5) as reply:
        lines = reply.read().decode().splitlines()
    samples = [line.rsplit(" ", 1)[1] for line in lines if line.startswith((name + " ", name + "{"))]
    assert samples, f"/metrics has no {name}"
    return sum(float(sample) for sample in samples)


def wait_for_metric(name, wanted, seconds):
    deadline = time.monotonic() + seconds
    while (seen := metric(name)) != wanted:
        assert time.monotonic() < deadline, f"{name} is {seen} after {seconds} s, not {wanted}"
        time.sleep(0.05)
