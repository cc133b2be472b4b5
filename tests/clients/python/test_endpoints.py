"""The other endpoints: legacy completions, embeddings, models, the opaque lane and realtime."""

import base64
import io
import json

import openai
import pytest
from openai.types import Completion, CreateEmbeddingResponse, Model

from conftest import MODEL, make_client

EMBED = "text-embedding-3-small"
LEGACY = "gpt-3.5-turbo-instruct"


def strict(kind, raw):
    return kind.model_validate(json.loads(raw.http_response.content), strict=True)


# === legacy completions ===


def test_a_legacy_completion_is_strictly_valid(client):
    raw = client.completions.with_raw_response.create(model=LEGACY, prompt="Once upon a time")
    completion = strict(Completion, raw)
    assert completion.object == "text_completion"
    assert completion.choices[0].text
    assert completion.usage.total_tokens > 0
    assert raw.headers["x-tollgate-lane"] == "splice"


def test_a_legacy_completion_streams(client):
    chunks = list(client.completions.create(model=LEGACY, prompt="Once upon a time", stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] in (["stop"], ["length"])


# === embeddings ===


def test_float_embeddings_are_strictly_valid(client):
    raw = client.embeddings.with_raw_response.create(model=EMBED, input="hello", encoding_format="float")
    reply = strict(CreateEmbeddingResponse, raw)
    assert len(reply.data[0].embedding) == 1536
    assert reply.usage.prompt_tokens > 0
    assert raw.headers["x-tollgate-lane"] == "splice"


def test_the_sdks_default_base64_embeddings_are_decoded(client):
    reply = client.embeddings.create(model=EMBED, input="hello")
    assert len(reply.data[0].embedding) == 1536
    assert all(isinstance(x, float) for x in reply.data[0].embedding)


def test_base64_embeddings_are_base64_on_the_wire(client):
    raw = client.embeddings.with_raw_response.create(model=EMBED, input="hello", encoding_format="base64")
    text = json.loads(raw.http_response.content)["data"][0]["embedding"]
    assert len(base64.b64decode(text, validate=True)) == 4 * 1536


@pytest.mark.parametrize("encoding", ["float", None])
def test_embeddings_have_the_dimensions_asked_for(client, encoding):
    options = {"encoding_format": encoding} if encoding else {}
    reply = client.embeddings.create(model=EMBED, input="hello", dimensions=256, **options)
    assert len(reply.data[0].embedding) == 256


def test_many_inputs_give_as_many_embeddings_in_order(client):
    reply = client.embeddings.create(model=EMBED, input=["one", "two", "three"])
    assert [item.index for item in reply.data] == [0, 1, 2]
    assert reply.data[0].embedding != reply.data[1].embedding


# === models ===


def test_the_model_list_is_strictly_valid_and_has_the_configured_models(client):
    raw = client.models.with_raw_response.list()
    body = json.loads(raw.http_response.content)
    assert body["object"] == "list"
    names = [Model.model_validate(item, strict=True).id for item in body["data"]]
    assert {MODEL, EMBED, LEGACY, "sim-429"} <= set(names)
    assert len(names) == len(set(names))
    assert [model.id for model in client.models.list()] == names


def test_one_model_can_be_retrieved(client):
    model = client.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model")
    assert model.created >= 0 and model.owned_by


def test_an_unknown_model_cannot_be_retrieved_and_near_names_are_told(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4o-mni")
    assert caught.value.code == "model_not_found"
    assert "gpt-4o-mini" in caught.value.message


# === the opaque lane ===


def test_a_moderation_goes_through_the_opaque_lane(client):
    raw = client.moderations.with_raw_response.create(model="omni-moderation-latest", input="hello")
    assert raw.parse().results[0].flagged is False
    assert raw.headers["x-tollgate-lane"] == "opaque"
    assert raw.headers["x-request-id"]


def test_a_file_is_uploaded_read_back_and_deleted(client):
    content = b'{"custom_id": "a"}\n' * 500
    file = client.files.create(file=("requests.jsonl", io.BytesIO(content)), purpose="batch")
    assert file.id and file.bytes == len(content) and file.filename == "requests.jsonl"
    assert client.files.content(file.id).read() == content
    assert client.files.delete(file.id).deleted is True


def test_speech_arrives_as_bytes(client):
    reply = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hello")
    assert len(reply.read()) > 0
    assert reply.response.headers["content-type"].startswith("audio/")


def test_streamed_speech_arrives_as_bytes(client):
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input="hello"
    ) as reply:
        assert sum(len(part) for part in reply.iter_bytes()) > 0


def test_an_image_is_generated(client):
    reply = client.images.generate(model="gpt-image-1", prompt="a gate", n=1, size="1024x1024")
    image = reply.data[0]
    assert image.url or base64.b64decode(image.b64_json, validate=True)


def test_a_wrong_key_cannot_use_the_opaque_lane():
    with make_client(api_key="sk-wrong-key-0000000000000000") as client:
        with pytest.raises(openai.AuthenticationError):
            client.moderations.create(input="hello")


# === realtime ===


def test_a_realtime_socket_opens_and_gets_its_session(client):
    with client.realtime.connect(model="gpt-realtime") as connection:
        assert connection.recv().type == "session.created"


def test_a_realtime_socket_with_a_wrong_key_is_refused():
    with make_client(api_key="sk-wrong-key-0000000000000000") as client:
        with pytest.raises(Exception) as caught:
            with client.realtime.connect(model="gpt-realtime", max_retries=0) as connection:
                connection.recv()
    assert "401" in str(caught.value)
