// Chat completions through the official Node SDK.

import assert from 'node:assert/strict';
import test from 'node:test';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { HELLO, MODEL, collect, finishOf, makeClient, metric, textOf, waitForMetric } from './support.mjs';

const client = makeClient();
const Event = z.object({ name: z.string(), day: z.number().int(), guests: z.array(z.string()) });
const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a city.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
      additionalProperties: false,
    },
  },
};
const ASK_WEATHER = [{ role: 'user', content: 'What is the weather in Paris?' }];

test('a unary chat has the documented shape', async () => {
  const completion = await client.chat.completions.create({ model: MODEL, messages: HELLO });
  assert.equal(completion.object, 'chat.completion');
  assert.equal(typeof completion.id, 'string');
  assert.equal(typeof completion.created, 'number');
  const [choice] = completion.choices;
  assert.equal(choice.message.role, 'assistant');
  assert.equal(choice.finish_reason, 'stop');
  assert.ok(choice.message.content.length > 0);
  const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
  assert.ok(prompt_tokens > 0 && completion_tokens > 0);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test('a reply says who served it', async () => {
  const { data, response } = await client.chat.completions.create({ model: MODEL, messages: HELLO }).withResponse();
  assert.ok(response.headers.get('x-request-id'));
  assert.equal(data._request_id, response.headers.get('x-request-id'));
  assert.equal(response.headers.get('x-tollgate-model'), MODEL);
  assert.ok(response.headers.get('x-tollgate-provider'));
  assert.equal(response.headers.get('x-tollgate-lane'), 'splice');
  assert.equal(response.headers.get('x-tollgate-attempts'), '1');
});

test('a stream has the role first, then text, then a finish reason, and no usage', async () => {
  const chunks = await collect(await client.chat.completions.create({ model: MODEL, messages: HELLO, stream: true }));
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.ok(textOf(chunks).length > 0);
  assert.deepEqual(finishOf(chunks), ['stop']);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  assert.ok(chunks.every((chunk) => chunk.object === 'chat.completion.chunk' && chunk.choices.length > 0 && !chunk.usage));
});

test('a stream has usage last when asked', async () => {
  const chunks = await collect(
    await client.chat.completions.create({
      model: MODEL,
      messages: HELLO,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  const last = chunks.at(-1);
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.completion_tokens > 0);
  assert.ok(chunks.slice(0, -1).every((chunk) => !chunk.usage));
});

test('the stream helper accumulates the reply', async () => {
  const final = await client.chat.completions.stream({ model: MODEL, messages: HELLO }).finalChatCompletion();
  assert.ok(final.choices[0].message.content.length > 0);
});

test('a tool call has JSON arguments and its result gives an answer', async () => {
  const first = await client.chat.completions.create({
    model: MODEL,
    messages: ASK_WEATHER,
    tools: [WEATHER],
    tool_choice: 'required',
  });
  const [choice] = first.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  const [call] = choice.message.tool_calls;
  assert.equal(call.function.name, 'get_weather');
  assert.equal(typeof JSON.parse(call.function.arguments), 'object');
  const results = choice.message.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: '{"celsius":21}' }));
  const second = await client.chat.completions.create({
    model: MODEL,
    messages: [...ASK_WEATHER, choice.message, ...results],
    tools: [WEATHER],
  });
  assert.equal(second.choices[0].finish_reason, 'stop');
  assert.ok(second.choices[0].message.content.length > 0);
});

test('a streamed tool call joins to JSON arguments', async () => {
  const chunks = await collect(
    await client.chat.completions.create({
      model: MODEL,
      messages: ASK_WEATHER,
      tools: [WEATHER],
      tool_choice: 'required',
      stream: true,
    }),
  );
  const parts = chunks.flatMap((chunk) => chunk.choices.flatMap((c) => c.delta.tool_calls ?? [])).filter((p) => p.index === 0);
  assert.ok(parts[0].id);
  assert.equal(parts[0].function.name, 'get_weather');
  assert.equal(typeof JSON.parse(parts.map((p) => p.function?.arguments ?? '').join('')), 'object');
  assert.deepEqual(finishOf(chunks), ['tool_calls']);
});

test('the SDK runs a whole tool loop', async () => {
  const asked = [];
  const tool = {
    type: 'function',
    function: {
      ...WEATHER.function,
      parse: JSON.parse,
      function: (args) => {
        asked.push(args);
        return '{"celsius":21}';
      },
    },
  };
  const runner = client.chat.completions.runTools({ model: MODEL, messages: ASK_WEATHER, tools: [tool] }, { maxChatCompletions: 3 });
  assert.ok((await runner.finalContent()).length > 0);
  assert.equal(asked.length, 1);
});

test('structured output parses through zod', async () => {
  const completion = await client.chat.completions.parse({
    model: MODEL,
    messages: HELLO,
    response_format: zodResponseFormat(Event, 'event'),
  });
  Event.parse(completion.choices[0].message.parsed);
});

test('n choices are all returned', async () => {
  const completion = await client.chat.completions.create({ model: MODEL, messages: HELLO, n: 2 });
  assert.deepEqual(completion.choices.map((choice) => choice.index), [0, 1]);
});

test('unknown body members are let through', async () => {
  const completion = await client.chat.completions.create({ model: MODEL, messages: HELLO, x_unknown: { a: 1 } });
  assert.ok(completion.choices[0].message.content.length > 0);
});

test('a stream of two thousand chunks arrives whole', async () => {
  const chunks = await collect(await client.chat.completions.create({ model: 'sim-long', messages: HELLO, stream: true }));
  assert.ok(chunks.length >= 2000, `${chunks.length} chunks`);
  assert.equal(finishOf(chunks).length, 1);
});

test('fifty streams at once all complete', async () => {
  const one = async () => collect(await client.chat.completions.create({ model: MODEL, messages: HELLO, stream: true }));
  const streams = await Promise.all(Array.from({ length: 50 }, one));
  for (const chunks of streams) {
    assert.deepEqual(finishOf(chunks), ['stop']);
    assert.ok(textOf(chunks).length > 0);
  }
  assert.equal(new Set(streams.map((chunks) => chunks[0].id)).size, 50);
});

test('a stream closed early is closed in the gateway too', async () => {
  await waitForMetric('tollgate_streams_open', 0, 5000);
  const stream = await client.chat.completions.create({ model: 'sim-slow', messages: HELLO, stream: true });
  let seen = 0;
  for await (const _chunk of stream) {
    seen += 1;
    if (seen === 1) assert.equal(await metric('tollgate_streams_open'), 1);
    if (seen === 2) break;
  }
  assert.equal(seen, 2);
  await waitForMetric('tollgate_streams_open', 0, 3000);
});
