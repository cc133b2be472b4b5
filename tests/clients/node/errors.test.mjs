// What a Node program catches: each failure as the SDK's own class, after as many requests as the SDK should make.

import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';
import { HELLO, KEY, MODEL, URL, collect, makeClient } from './support.mjs';

const client = makeClient();
const chat = (c, model = MODEL) => c.chat.completions.create({ model, messages: HELLO });
const drain = async (c, model) => collect(await c.chat.completions.create({ model, messages: HELLO, stream: true }));

/** The error a promise ends in, which must be of this class. */
async function caught(promise, kind) {
  const error = await promise.then(
    () => assert.fail(`succeeded instead of ${kind.name}`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.constructor.name} instead of ${kind.name}: ${error.message}`);
  return error;
}

test('an unknown model is not found, with near names', async () => {
  const error = await caught(chat(client, 'gpt-4o-mni'), OpenAI.NotFoundError);
  assert.equal(error.code, 'model_not_found');
  assert.equal(error.param, 'model');
  assert.match(error.message, /gpt-4o-mini/);
  assert.ok(error.requestID);
});

test('a wrong key is an authentication error and is not retried', async () => {
  const wrong = makeClient({ apiKey: 'sk-wrong-key-0000000000000000', maxRetries: 2 });
  const error = await caught(chat(wrong), OpenAI.AuthenticationError);
  assert.equal(error.code, 'invalid_api_key');
  assert.equal(wrong.sent.length, 1);
  assert.doesNotMatch(error.message, /sk-wrong-key/);
});

test('a bad request names the member and is not retried', async () => {
  const retrying = makeClient({ maxRetries: 2 });
  const error = await caught(chat(retrying, 'sim-400'), OpenAI.BadRequestError);
  assert.equal(error.type, 'invalid_request_error');
  assert.ok(error.param);
  assert.equal(retrying.sent.length, 1);
});

test('a context overflow has its own code', async () => {
  const error = await caught(chat(client, 'sim-context'), OpenAI.BadRequestError);
  assert.equal(error.code, 'context_length_exceeded');
});

test('a rate limit is retried after the time we say, then raised', async () => {
  const retrying = makeClient({ maxRetries: 1 });
  const began = Date.now();
  const error = await caught(chat(retrying, 'sim-429'), OpenAI.RateLimitError);
  assert.equal(retrying.sent.length, 2);
  assert.equal(error.headers.get('retry-after'), '1');
  assert.ok(Date.now() - began >= 900);
});

for (const [model, status] of [['sim-500', 500], ['sim-503', 503]]) {
  test(`a provider's ${status} is an internal server error`, async () => {
    const retrying = makeClient({ maxRetries: 1 });
    const error = await caught(chat(retrying, model), OpenAI.InternalServerError);
    assert.equal(error.status, status);
    assert.equal(retrying.sent.length, 2);
    assert.ok(error.requestID);
  });
}

test('a flaky provider succeeds through the SDK\'s retries', async () => {
  const retrying = makeClient({ maxRetries: 2 });
  for (let i = 0; i < 3; i += 1) {
    assert.ok((await chat(retrying, 'sim-flaky')).choices[0].message.content.length > 0);
  }
  assert.ok(retrying.sent.length > 3, 'sim-flaky fails every second time, so at least one call was retried');
});

test('a provider that hangs runs into the client\'s own timeout', async () => {
  const began = Date.now();
  await caught(chat(makeClient({ timeout: 1000 }), 'sim-hang'), OpenAI.APIConnectionTimeoutError);
  assert.ok(Date.now() - began < 3000);
});

for (const model of ['sim-cut', 'sim-error-event']) {
  test(`a broken stream (${model}) raises and does not end as if complete`, async () => {
    const began = Date.now();
    const error = await caught(drain(client, model), OpenAI.APIError);
    assert.ok(Date.now() - began < 10_000);
    assert.ok(!(error instanceof OpenAI.APIConnectionError), 'an error event, not a mere disconnect');
    assert.ok(error.message);
  });
}

test('a client goes on working after failures', async () => {
  for (const model of ['sim-500', 'sim-400', 'sim-cut']) await caught(drain(client, model), OpenAI.APIError);
  assert.ok((await chat(client)).choices[0].message.content.length > 0);
});

for (const body of ['{', '', '[]', '{"messages": []}', '{"model": "gpt-4o-mini", "model": "sim-500", "messages": []}']) {
  test(`the malformed body ${JSON.stringify(body)} is a 400 in OpenAI's error grammar`, async () => {
    const reply = await fetch(`${URL}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(10_000),
    });
    assert.equal(reply.status, 400);
    assert.ok(reply.headers.get('x-request-id'));
    const { error } = await reply.json();
    assert.deepEqual(Object.keys(error).sort(), ['code', 'message', 'param', 'type']);
    assert.equal(error.type, 'invalid_request_error');
  });
}
