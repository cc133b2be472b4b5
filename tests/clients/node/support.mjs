// How the tests reach the gateway: three environment variables set by `tests/clients/run`.
// A client counts the HTTP requests it makes (`client.sent`), so that "did not retry" is a fact.

import assert from 'node:assert/strict';
import OpenAI from 'openai';

export const { TOLLGATE_URL: URL, TOLLGATE_ADMIN: ADMIN, TOLLGATE_KEY: KEY } = process.env;
assert.ok(URL && ADMIN && KEY, 'start these tests with tests/clients/run');

export const MODEL = 'gpt-4o-mini';
export const HELLO = [{ role: 'user', content: 'Say hello.' }];

/** A client with retries off unless asked. */
export function makeClient(options = {}) {
  const sent = [];
  const counted = (url, init) => {
    sent.push(String(url));
    return fetch(url, init);
  };
  const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, timeout: 15_000, maxRetries: 0, fetch: counted, ...options });
  client.sent = sent;
  return client;
}

export async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

export const textOf = (chunks) =>
  chunks.flatMap((chunk) => chunk.choices.filter((c) => c.index === 0).map((c) => c.delta.content ?? '')).join('');

export const finishOf = (chunks, index = 0) =>
  chunks.flatMap((chunk) =>
    chunk.choices.filter((c) => c.index === index && c.finish_reason).map((c) => c.finish_reason),
  );

/** The sum of all samples of one metric on the admin port. A metric that is not there at all is an error. */
export async function metric(name) {
  const text = await (await fetch(`${ADMIN}/metrics`, { signal: AbortSignal.timeout(5000) })).text();
  const samples = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  assert.ok(samples.length > 0, `/metrics has no ${name}`);
  return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

export async function waitForMetric(name, wanted, ms) {
  const deadline = Date.now() + ms;
  for (;;) {
    const seen = await metric(name);
    if (seen === wanted) return;
    assert.ok(Date.now() < deadline, `${name} is ${seen} after ${ms} ms, not ${wanted}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
