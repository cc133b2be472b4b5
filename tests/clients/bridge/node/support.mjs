// The Node SDKs behind one interface, and who they ask: straight to the fake of their own dialect, and through the gateway to the others.
// TOLLGATE_FAKES, TOLLGATE_URL and TOLLGATE_KEY are set by `tests/clients/run`; without TOLLGATE_URL only the fakes are tested.

import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createGoogleGenerativeAI } from '@ai-sdk/google';
import { createOpenAI } from '@ai-sdk/openai';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { APICallError, Output, generateText, stepCountIs, streamText, tool } from 'ai';
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';

export const { TOLLGATE_FAKES: FAKES, TOLLGATE_URL: GATEWAY, TOLLGATE_KEY: KEY } = process.env;
assert.ok(FAKES, 'start these tests with tests/clients/run');

export const Event = z.object({ name: z.string(), day: z.number().int(), guests: z.array(z.string()) });
const Weather = z.object({ city: z.string(), days: z.number().int() });
const PARAMETERS = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer' } },
  required: ['city', 'days'],
  additionalProperties: false,
};
const DESCRIPTION = 'The weather in a city.';

// === who is asked ===

let number = 0;
// what the gateway learns of a model's limits from a refusal must not meet the next test
const apart = (scenario) => (scenario.startsWith('error_') ? `${(number += 1)}--${scenario}` : scenario);

const target = (name, dialect, provider, mount, model) => ({ name, dialect, provider, mount, model });
const TARGETS = [
  target('anthropic', 'anthropic', 'anthropic', 'anthropic', 'claude-sonnet-4-5'),
  target('gemini', 'gemini', 'gemini', 'gemini', 'gemini-2.5-flash'),
  target('bedrock', 'bedrock', 'bedrock', 'bedrock', 'us.anthropic.claude-sonnet-4-5-20250929-v1:0'),
  target('cohere', 'cohere', 'cohere', 'cohere', 'command-a-reasoning-08-2025'),
  target('chat', 'chat', 'compatible', 'openai', 'gpt-5'),
  target('responses', 'responses', 'newest', 'openai', 'gpt-5'),
];

/** An SDK on its way to a target. */
const route = (sdk, to, through) => {
  const client = sdk.make(through ? GATEWAY : `${FAKES}/${to.mount}`, through ? KEY : 'fake-key');
  return {
    sdk,
    target: to,
    through,
    lane: sdk.dialect === to.dialect ? 'splice' : 'bridge',
    name: `${sdk.name}-${through ? 'gateway' : 'direct'}-${to.name}`,
    ask: (scenario, ask = {}) =>
      sdk.ask(client, `${through ? `${to.provider}/` : ''}${to.model}--${through ? apart(scenario) : scenario}`, { text: 'Say hello.', ...ask }),
  };
};

export function routes(which = () => true) {
  return SDKS.flatMap((sdk) => [
    ...TARGETS.filter((to) => to.dialect === sdk.dialect).map((to) => route(sdk, to, false)),
    ...(GATEWAY ? TARGETS.map((to) => route(sdk, to, true)) : []),
  ]).filter(which);
}

/** What the fakes have seen since this was made. */
export async function watch() {
  const fetched = async (path) => (await fetch(`${FAKES}/${path}`)).json();
  const begun = await fetched('_count');
  return {
    async check() {
      const refused = (await fetched(`_requests?since=${begun}`)).filter((request) => request.fault);
      assert.deepEqual(refused.map((request) => `${request.provider} (${request.scenario}): ${request.fault}`), []);
    },
  };
}

// === OpenAI ===

const options = (url, key, extra = {}) => ({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 20_000, ...extra });
const dataUrl = (file) => `data:${file.type};base64,${file.data.toString('base64')}`;
const isImage = (file) => file.type.startsWith('image/');

const openaiChat = {
  name: 'openai-chat',
  dialect: 'chat',
  errors: { rate: OpenAI.RateLimitError, server: OpenAI.InternalServerError, bad: OpenAI.BadRequestError, any: OpenAI.APIError },
  make: (url, key) => new OpenAI(options(url, key)),
  async ask(client, model, ask) {
    const files = (ask.files ?? []).map((file) =>
      isImage(file)
        ? { type: 'image_url', image_url: { url: dataUrl(file) } }
        : { type: 'file', file: { filename: file.name, file_data: dataUrl(file) } },
    );
    const body = {
      model,
      messages: [{ role: 'user', content: files.length ? [{ type: 'text', text: ask.text }, ...files] : ask.text }],
      max_completion_tokens: 4096,
      ...(ask.tools && {
        tools: [{ type: 'function', function: { name: 'get_weather', description: DESCRIPTION, parameters: PARAMETERS } }],
      }),
      ...(ask.thinking && { reasoning_effort: 'high' }),
      ...(ask.schema && { response_format: zodResponseFormat(Event, 'event') }),
    };
    const say = async () => {
      if (ask.stream) {
        const request = { ...body, stream: true, stream_options: { include_usage: true } };
        const { data, response } = await client.chat.completions.create(request).withResponse();
        return [await folded(data), response.headers];
      }
      const { data, response } = await client.chat.completions[ask.schema ? 'parse' : 'create'](body).withResponse();
      return [data, response.headers];
    };
    const calls = [];
    for (;;) {
      const [completion, headers] = await say();
      const { message, finish_reason: finish } = completion.choices[0];
      if (finish !== 'tool_calls') {
        if (ask.schema) Event.parse(ask.stream ? JSON.parse(message.content) : message.parsed);
        return {
          text: message.content ?? '',
          calls,
          thoughts: message.reasoning_content ?? '',
          refusal: message.refusal,
          stop: message.refusal ? 'refusal' : { stop: 'end', length: 'length', content_filter: 'refusal' }[finish],
          input: completion.usage.prompt_tokens,
          output: completion.usage.completion_tokens,
          cached: completion.usage.prompt_tokens_details?.cached_tokens ?? 0,
          headers,
        };
      }
      const { parsed: _, ...back } = message;
      back.tool_calls = back.tool_calls.map(({ id, type, function: { name, arguments: text }, ...more }) => {
        const { index: __, parsed_arguments: ___, ...extra } = more;
        return { id, type, function: { name, arguments: text }, ...extra };
      });
      body.messages.push(back);
      for (const call of message.tool_calls) {
        const given = Weather.parse(JSON.parse(call.function.arguments));
        calls.push(given);
        body.messages.push({ role: 'tool', tool_call_id: call.id, content: `${given.city}: sunny` });
      }
    }
  },
};

/** A stream as one completion. The SDK's own helper keeps only the last piece of members it does not know. */
async function folded(stream) {
  const message = {};
  let finish_reason, usage;
  const add = (to, from, words) => {
    for (const [name, value] of Object.entries(from)) {
      if (Array.isArray(value)) {
        to[name] ??= [];
        for (const item of value) add((to[name][item.index] ??= {}), item, ['text', 'summary', 'arguments']);
      } else if (value && typeof value === 'object') add((to[name] ??= {}), value, words);
      else if (words.includes(name) && typeof value === 'string') to[name] = (to[name] ?? '') + value;
      else to[name] = value ?? to[name];
    }
  };
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      add(message, choice.delta, ['content', 'refusal', 'reasoning_content']);
      finish_reason = choice.finish_reason ?? finish_reason;
    }
  }
  return { choices: [{ message, finish_reason }], usage };
}

const openaiResponses = {
  name: 'openai-responses',
  dialect: 'responses',
  errors: openaiChat.errors,
  make: openaiChat.make,
  async ask(client, model, ask) {
    const files = (ask.files ?? []).map((file) =>
      isImage(file)
        ? { type: 'input_image', image_url: dataUrl(file), detail: 'auto' }
        : { type: 'input_file', filename: file.name, file_data: dataUrl(file) },
    );
    const body = {
      model,
      input: [{ role: 'user', content: [{ type: 'input_text', text: ask.text }, ...files] }],
      store: false,
      max_output_tokens: 4096,
      ...(ask.tools && {
        tools: [{ type: 'function', name: 'get_weather', description: DESCRIPTION, parameters: PARAMETERS, strict: true }],
      }),
      ...(ask.thinking && { reasoning: { effort: 'high', summary: 'auto' }, include: ['reasoning.encrypted_content'] }),
      ...(ask.schema && { text: { format: zodTextFormat(Event, 'event') } }),
    };
    const say = async () => {
      if (!ask.stream) {
        const { data, response } = await client.responses[ask.schema ? 'parse' : 'create'](body).withResponse();
        return [data, response.headers];
      }
      const { data, response } = await client.responses.create({ ...body, stream: true }).withResponse();
      let last;
      for await (const event of data) {
        // the SDK hands these out like any other event
        if (event.type === 'error') throw new OpenAI.APIError(undefined, undefined, event.message, undefined);
        if (event.type === 'response.failed') throw new OpenAI.APIError(undefined, undefined, event.response.error.message);
        last = event;
      }
      assert.match(last.type, /^response\.(completed|incomplete)$/);
      return [last.response, response.headers];
    };
    const calls = [];
    for (;;) {
      const [response, headers] = await say();
      const found = response.output.filter((item) => item.type === 'function_call');
      if (!found.length) {
        const parts = response.output.flatMap((item) => (item.type === 'message' ? item.content : []));
        const text = parts.map((part) => part.text ?? '').join('');
        if (ask.schema) Event.parse(ask.stream ? JSON.parse(text) : response.output_parsed);
        const refusal = parts.find((part) => part.type === 'refusal')?.refusal;
        const cut = { max_output_tokens: 'length', content_filter: 'refusal' }[response.incomplete_details?.reason];
        return {
          text,
          calls,
          thoughts: response.output.flatMap((i) => (i.type === 'reasoning' ? i.summary.map((s) => s.text) : [])).join(''),
          refusal,
          stop: cut ?? (refusal ? 'refusal' : 'end'),
          input: response.usage.input_tokens,
          output: response.usage.output_tokens,
          cached: response.usage.input_tokens_details.cached_tokens,
          headers,
        };
      }
      for (const { parsed_arguments: _, ...item } of response.output) body.input.push(item);
      for (const call of found) {
        const given = Weather.parse(JSON.parse(call.arguments));
        calls.push(given);
        body.input.push({ type: 'function_call_output', call_id: call.call_id, output: `${given.city}: sunny` });
      }
    }
  },
};

// === Anthropic ===

const anthropicMessages = {
  name: 'anthropic',
  dialect: 'anthropic',
  errors: {
    rate: Anthropic.RateLimitError,
    server: Anthropic.InternalServerError,
    bad: Anthropic.BadRequestError,
    any: Anthropic.APIError,
  },
  make: (url, key) => new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 20_000 }),
  async ask(client, model, ask) {
    const files = (ask.files ?? []).map((file) => ({
      type: isImage(file) ? 'image' : 'document',
      source: { type: 'base64', media_type: file.type, data: file.data.toString('base64') },
    }));
    const body = {
      model,
      max_tokens: 4096,
      messages: [{ role: 'user', content: [...files, { type: 'text', text: ask.text }] }],
      ...(ask.tools && { tools: [{ name: 'get_weather', description: DESCRIPTION, input_schema: PARAMETERS }] }),
      ...(ask.thinking && { thinking: { type: 'enabled', budget_tokens: 2048 } }),
      ...(ask.schema && { output_config: { format: zodOutputFormat(Event) } }),
    };
    const say = async () => {
      if (ask.stream) {
        const stream = client.messages.stream(body);
        const message = await stream.finalMessage();
        return [message, stream.response?.headers];
      }
      if (ask.schema) return [await client.messages.parse(body), undefined];
      const { data, response } = await client.messages.create(body).withResponse();
      return [data, response.headers];
    };
    const calls = [];
    for (;;) {
      const [message, headers] = await say();
      if (message.stop_reason !== 'tool_use') {
        const text = message.content.map((block) => block.text ?? '').join('');
        if (ask.schema) Event.parse(message.parsed_output ?? JSON.parse(text));
        const { input_tokens: fresh, cache_read_input_tokens: read, cache_creation_input_tokens: wrote } = message.usage;
        return {
          text,
          calls,
          thoughts: message.content.map((block) => block.thinking ?? '').join(''),
          refusal: text || message.stop_details?.explanation,
          stop: { end_turn: 'end', max_tokens: 'length', refusal: 'refusal' }[message.stop_reason],
          input: fresh + (read ?? 0) + (wrote ?? 0),
          output: message.usage.output_tokens,
          cached: read ?? 0,
          headers,
        };
      }
      body.messages.push({ role: 'assistant', content: message.content.map(({ caller: _, ...block }) => block) });
      const found = message.content.filter((block) => block.type === 'tool_use');
      const results = found.map((call) => {
        const given = Weather.parse(call.input);
        calls.push(given);
        return { type: 'tool_result', tool_use_id: call.id, content: `${given.city}: sunny` };
      });
      body.messages.push({ role: 'user', content: results });
    }
  },
};

// === Vercel's AI SDK, which runs the tools itself ===

const vercel = (name, dialect, make, model, thinking, always) => ({
  name: `ai-${name}`,
  dialect,
  make,
  errors: { rate: APICallError, server: APICallError, bad: APICallError, any: Error },
  async ask(client, id, ask) {
    const calls = [];
    const get_weather = tool({
      description: DESCRIPTION,
      inputSchema: Weather,
      execute: async (given) => {
        calls.push(given);
        return `${given.city}: sunny`;
      },
    });
    const files = (ask.files ?? []).map((file) => ({
      type: 'file',
      data: file.data,
      mediaType: file.type,
      ...(!isImage(file) && { filename: file.name }),
    }));
    let broken;
    const request = {
      model: model(client, id),
      messages: [{ role: 'user', content: [{ type: 'text', text: ask.text }, ...files] }],
      maxOutputTokens: 4096,
      maxRetries: 0,
      stopWhen: stepCountIs(4),
      ...(ask.tools && { tools: { get_weather } }),
      providerOptions: ask.thinking ? thinking : always,
      ...(ask.schema && { output: Output.object({ schema: Event }) }),
    };
    const result = ask.stream
      ? streamText({ ...request, onError: ({ error }) => { broken = error; } })
      : await generateText(request);
    if (ask.stream) await result.consumeStream({ onError: (error) => { broken ??= error; } });
    if (broken) throw broken;
    if (ask.schema) Event.parse(await result.output);
    const usage = (await result.steps).at(-1).usage;
    const finish = await result.finishReason;
    return {
      text: await result.text,
      calls,
      thoughts: (await result.reasoningText) ?? '',
      // it has no place for a refusal's words
      stop: { stop: 'end', length: 'length', 'content-filter': 'refusal' }[finish] ?? finish,
      input: usage.inputTokens,
      output: usage.outputTokens,
      cached: usage.inputTokenDetails?.cacheReadTokens ?? 0,
      headers: new Headers((await result.response).headers),
    };
  },
});

const aiOpenAI = (url, key) => createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const aiAnthropic = (url, key) => createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const aiGoogle = (url, key) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: key });

export const SDKS = [
  openaiChat,
  openaiResponses,
  anthropicMessages,
  vercel('chat', 'chat', aiOpenAI, (client, id) => client.chat(id), { openai: { reasoningEffort: 'high', forceReasoning: true } }),
  // with `store` it would refer to items by their ids, and to send those to somebody else is refused
  vercel(
    'responses',
    'responses',
    aiOpenAI,
    (client, id) => client(id),
    {
      openai: {
        store: false,
        reasoningEffort: 'high',
        reasoningSummary: 'auto',
        include: ['reasoning.encrypted_content'],
        forceReasoning: true,
      },
    },
    { openai: { store: false } },
  ),
  vercel('anthropic', 'anthropic', aiAnthropic, (client, id) => client(id), {
    anthropic: { thinking: { type: 'enabled', budgetTokens: 2048 } },
  }),
  vercel('google', 'gemini', aiGoogle, (client, id) => client(id), {
    google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2048 } },
  }),
];
