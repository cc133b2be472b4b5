"""Request bodies as clients send them: a short chat, and the long histories of agents (quotes, line breaks, JSON within JSON)."""
import json
import os

TURNS = [
    {"role": "user", "content": 'Why does the test "a lost lease is taken over" fail?\nIt passes on its own; naïve text too.\n\n'
                                '```rust\nassert_eq!(lease.owner(), "b");\n```'},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_0b1c2d3e4f5a6b7c8d9e0f1a", "type": "function", "function": {
        "name": "read_file", "arguments": '{"path":"src/lease.rs","from":120,"to":180}'}}]},
    {"role": "tool", "tool_call_id": "call_0b1c2d3e4f5a6b7c8d9e0f1a",
     "content": "120\tpub fn take(&mut self, owner: &str) -> bool {\n121\t    if self.until > Instant::now() {\n"
                "122\t        return self.owner == owner;\n123\t    }\n124\t    self.owner = owner.to_owned();\n"
                "125\t    self.until = Instant::now() + self.ttl;\n126\t    true\n127\t}\n"},
    {"role": "assistant", "content": "The lease is compared with the wall clock while the test runs on a paused one, so it never runs "
                                     "out. Use the clock that the struct was given, and the takeover happens in the test as it does in "
                                     "production."},
]
# the same body for a model that is reached in its own dialect, and for one that is reached over the bridge
LANES = {"splice": "gpt-4o-mini", "bridge": "claude"}
# the same body for a model with one target, and for a group of three
PLANS = {"single": "gpt-4o-mini", "group": "smart"}
SIZES = {"chat-1k": 1 << 10, "chat-100k": 100 << 10, "chat-1m": 1 << 20, "stream-1k": 1 << 10}


def chat(size, stream, model="gpt-4o-mini"):
    body = {"model": model, "messages": [{"role": "system", "content": "You are a careful engineer."}],
            "max_completion_tokens": 256, "temperature": 0.7}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    messages, i = body["messages"], 0
    length = len(json.dumps(body).encode())
    while (length := length + len(json.dumps(TURNS[i % 4]).encode()) + 2) < size:
        messages.append(TURNS[i % 4])
        i += 1
    # exactly the size that the table says
    messages.append({"role": "user", "content": ""})
    messages[-1]["content"] = "x" * max(0, size - len(json.dumps(body).encode()))
    return json.dumps(body).encode()


def image(size, model):
    """A question about an image, nearly all of it base64."""
    line = "iVBORw0KGgoAAAANSUhEUgAABAAAAAMACAIAAAA12IJaAAAgAElEQVR4nOy9"
    data = line * (size // len(line))
    return json.dumps({"model": model, "max_completion_tokens": 256, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What does this screenshot show?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + data}}]}]}).encode()


def write(folder):
    """Name of each body to its file."""
    os.makedirs(folder, exist_ok=True)
    texts = {name: chat(size, name.startswith("stream")) for name, size in SIZES.items()}
    for lane, model in LANES.items():
        texts |= {f"chat-1k-{lane}": chat(1 << 10, False, model), f"stream-1k-{lane}": chat(1 << 10, True, model),
                  f"image-1m-{lane}": image(1 << 20, model)}
    texts |= {f"chat-1k-{plan}": chat(1 << 10, False, model) for plan, model in PLANS.items()}
    files = {}
    for name, text in texts.items():
        files[name] = os.path.join(folder, name + ".json")
        with open(files[name], "wb") as out:
            out.write(text)
    return files
