// The other endpoints through the official Node SDK: responses, legacy completions, embeddings, models, opaque, realtime.

import assert from 'node:assert/strict';
import https from 'node:https';
import net from 'node:net';
import test from 'node:test';
import OpenAI, { toFile } from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { z } from 'zod';
import { MODEL, collect, makeClient } from './support.mjs';

const client = makeClient();
const WEATHER = {
  type: 'function',
  name: 'get_weather',
  strict: true,
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
};

// === responses ===

test('a unary response has text and usage', async () => {
  const { data, response } = await client.responses.create({ model: MODEL, input: 'Say hello.' }).withResponse();
  assert.equal(data.object, 'response');
  assert.equal(data.status, 'completed');
  assert.ok(data.output_text.length > 0);
  assert.equal(data.usage.total_tokens, data.usage.input_tokens + data.usage.output_tokens);
  assert.equal(response.headers.get('x-tollgate-lane'), 'splice');
});

test('a streamed response has the documented event sequence', async () => {
  const events = await collect(await client.responses.create({ model: MODEL, input: 'Say hello.', stream: true }));
  const kinds = events.map((event) => event.type);
  assert.equal(kinds[0], 'response.created');
  assert.equal(kinds.at(-1), 'response.completed');
  const first = [
    'response.output_item.added',
    'response.content_part.added',
    'response.output_text.delta',
    'response.output_text.done',
    'response.content_part.done',
    'response.output_item.done',
  ].map((kind) => kinds.indexOf(kind));
  assert.ok(first.every((at) => at > 0));
  assert.deepEqual(first, [...first].sort((a, b) => a - b));
  const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('');
  assert.equal(text, events.find((e) => e.type === 'response.output_text.done').text);
  const numbers = events.map((event) => event.sequence_number);
  assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i));
});

test('a response\'s tool call has JSON arguments and its result gives an answer', async () => {
  const question = [{ role: 'user', content: 'What is the weather in Paris?' }];
  const first = await client.responses.create({ model: MODEL, input: question, tools: [WEATHER], tool_choice: 'required' });
  const call = first.output.find((item) => item.type === 'function_call');
  assert.equal(call.name, 'get_weather');
  assert.equal(typeof JSON.parse(call.arguments), 'object');
  const second = await client.responses.create({
    model: MODEL,
    input: [...question, call, { type: 'function_call_output', call_id: call.call_id, output: '{"celsius":21}' }],
    tools: [WEATHER],
  });
  assert.ok(second.output_text.length > 0);
});

test('a response\'s text parses through zod', async () => {
  const Event = z.object({ name: z.string(), day: z.number().int() });
  const response = await client.responses.parse({
    model: MODEL,
    input: 'An event.',
    text: { format: zodTextFormat(Event, 'event') },
  });
  Event.parse(response.output_parsed);
});

// === completions, embeddings, models ===

test('a legacy completion works, unary and streamed', async () => {
  const ask = { model: 'gpt-3.5-turbo-instruct', prompt: 'Once upon a time' };
  const unary = await client.completions.create(ask);
  assert.equal(unary.object, 'text_completion');
  assert.ok(unary.choices[0].text.length > 0);
  const chunks = await collect(await client.completions.create({ ...ask, stream: true }));
  assert.ok(chunks.flatMap((chunk) => chunk.choices.map((c) => c.text)).join('').length > 0);
});

for (const encoding_format of ['float', undefined]) {
  test(`embeddings as ${encoding_format ?? "the SDK's default (base64)"} have the dimensions asked for`, async () => {
    const ask = { model: 'text-embedding-3-small', input: ['one', 'two'], ...(encoding_format && { encoding_format }) };
    const reply = await client.embeddings.create(ask);
    assert.deepEqual(reply.data.map((item) => item.embedding.length), [1536, 1536]);
    const short = await client.embeddings.create({ ...ask, dimensions: 256 });
    assert.deepEqual(short.data.map((item) => item.embedding.length), [256, 256]);
    assert.ok(short.data[0].embedding.every(Number.isFinite));
  });
}

test('models are listed and retrieved', async () => {
  const names = (await collect(await client.models.list())).map((model) => model.id);
  assert.ok(names.includes(MODEL) && names.includes('sim-429'));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test('an unknown model cannot be retrieved and near names are told', async () => {
  await assert.rejects(client.models.retrieve('gpt-4o-mni'), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, 'model_not_found');
    assert.match(error.message, /gpt-4o-mini/);
    return true;
  });
});

// === the opaque lane ===

test('a moderation goes through the opaque lane', async () => {
  const { data, response } = await client.moderations.create({ input: 'hello' }).withResponse();
  assert.equal(data.results[0].flagged, false);
  assert.equal(response.headers.get('x-tollgate-lane'), 'opaque');
});

test('a file is uploaded, read back and deleted', async () => {
  const content = '{"custom_id": "a"}\n'.repeat(500);
  const file = await client.files.create({ file: await toFile(Buffer.from(content), 'requests.jsonl'), purpose: 'batch' });
  assert.equal(file.bytes, content.length);
  assert.equal(await (await client.files.content(file.id)).text(), content);
  assert.equal((await client.files.delete(file.id)).deleted, true);
});

test('speech arrives as bytes', async () => {
  const reply = await client.audio.speech.create({ model: 'gpt-4o-mini-tts', voice: 'alloy', input: 'hello' });
  assert.match(reply.headers.get('content-type'), /^audio\//);
  assert.ok((await reply.arrayBuffer()).byteLength > 0);
});

test('an image is generated', async () => {
  const reply = await client.images.generate({ model: 'gpt-image-1', prompt: 'a gate' });
  assert.ok(reply.data[0].url || reply.data[0].b64_json);
});

// === realtime ===

/** The SDK insists on `wss:`; the gateway under test has no certificate, so this agent connects in the clear. */
class ClearAgent extends https.Agent {
  createConnection(options, callback) {
    return net.connect({ host: options.host, port: options.port }, callback);
  }
}

test('a realtime socket opens and gets its session', async () => {
  const realtime = new OpenAIRealtimeWS({ model: 'gpt-realtime', options: { agent: new ClearAgent() } }, client);
  try {
    const event = await new Promise((resolve, reject) => {
      realtime.on('session.created', resolve);
      realtime.on('error', reject);
      setTimeout(() => reject(new Error('no session.created within 10 s')), 10_000).unref();
    });
    assert.equal(event.type, 'session.created');
  } finally {
    realtime.close();
  }
});
