"""boto3, Converse. Only ever asks the fake itself: Tollgate's clients do not speak this dialect."""

import json
import time

import boto3
import botocore.config
import botocore.exceptions

from providers.bedrock_converse import ACCESS_KEY, REGION, SECRET_KEY

from .base import DESCRIPTION, PARAMETERS, Call, Conversation, Event, Sdk, Told, object_of

TOOL = {"toolSpec": {"name": "get_weather", "description": DESCRIPTION, "inputSchema": {"json": PARAMETERS}}}
STOP = {"end_turn": "end", "tool_use": "tools", "max_tokens": "length", "content_filtered": "refusal"}
FORMATS = {"image/png": "png", "application/pdf": "pdf"}


class Bedrock(Sdk):
    dialect = "bedrock"
    rate_limit = server_error = bad_request = botocore.exceptions.ClientError
    any_error = (botocore.exceptions.ClientError, botocore.exceptions.EventStreamError)

    def __init__(self, url, key):
        config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=20)
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": REGION}
        self.client = boto3.client("bedrock-runtime", endpoint_url=url, config=config, **keys)

    def open(self, model, ask, stream):
        return Converse(self.client, model, ask, stream)

    def status(self, error):
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


def part_of(file):
    kind = {"format": FORMATS[file.media_type], "source": {"bytes": file.data}}
    if file.media_type.startswith("image/"):
        return {"image": kind}
    return {"document": kind | {"name": file.name.split(".")[0]}}


class Converse(Conversation):
    def __init__(self, client, model, ask, stream):
        self.client, self.ask, self.stream = client, ask, stream
        content = [{"text": ask.text}, *map(part_of, ask.files)]
        self.request = {"modelId": model, "messages": [{"role": "user", "content": content}]}
        self.request["inferenceConfig"] = {"maxTokens": ask.max_tokens}
        if ask.system:
            self.request["system"] = [{"text": ask.system}]
        if ask.tools:
            self.request["toolConfig"] = {"tools": [TOOL]}
        if ask.forced:
            self.request["toolConfig"]["toolChoice"] = {"tool": {"name": "get_weather"}}
        if ask.schema:
            form = {"name": "event", "schema": json.dumps(Event.model_json_schema())}
            self.request["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": form}}}
        if ask.thinking:
            self.request["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
        self.say()

    def results(self, texts):
        content = [
            {"toolResult": {"toolUseId": call.id, "content": [{"text": text}]}}
            for call, text in zip(self.told.calls, texts, strict=True)
        ]
        self.request["messages"].append({"role": "user", "content": content})
        self.say()
        return self.told

    def say(self):
        told = self.told = Told()
        if self.stream:
            message, stop, usage = self.streamed(self.client.converse_stream(**self.request)["stream"])
        else:
            reply = self.client.converse(**self.request)
            message, stop, usage = reply["output"]["message"], reply["stopReason"], reply["usage"]
        for block in message["content"]:
            told.text += block.get("text", "")
            if call := block.get("toolUse"):
                told.calls.append(Call(call["toolUseId"], call["name"], call["input"]))
            told.thoughts += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        told.stop = STOP[stop]
        told.refusal = told.text if told.stop == "refusal" else ""
        told.cache_read, told.cache_write = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
        told.input, told.output = usage["inputTokens"] + told.cache_read + told.cache_write, usage["outputTokens"]
        assert usage["totalTokens"] == told.input + told.output
        if self.ask.schema:
            Event.model_validate_json(told.text)
        self.request["messages"].append(message)

    def streamed(self, events):
        blocks, stop, usage, times = {}, None, None, []
        for event in events:
            self.told.pieces += 1
            ((kind, value),) = event.items()
            match kind:
                case "contentBlockStart":
                    blocks[value["contentBlockIndex"]] = {"toolUse": value["start"]["toolUse"] | {"input": ""}}
                case "contentBlockDelta":
                    grow(blocks.setdefault(value["contentBlockIndex"], {}), value["delta"])
                    times += [time.monotonic()] if "text" in value["delta"] else []
                case "messageStop":
                    stop = value["stopReason"]
                case "metadata":
                    usage = value["usage"]
        self.told.spread = times[-1] - times[0] if times else 0
        for block in blocks.values():
            if "toolUse" in block:
                block["toolUse"]["input"] = object_of(block["toolUse"]["input"] or "{}")
        return {"role": "assistant", "content": [blocks[i] for i in sorted(blocks)]}, stop, usage


def grow(block, delta):
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    else:
        thought = delta["reasoningContent"]
        if "redactedContent" in thought:
            block["reasoningContent"] = {"redactedContent": thought["redactedContent"]}
        else:
            text = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {"text": ""})
            text["text"] += thought.get("text", "")
            if "signature" in thought:
                text["signature"] = thought["signature"]
