// Each Node SDK asks each provider, whole and streamed: text, tools, files, structured output, thoughts, errors.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import { routes, watch } from './support.mjs';

const THOUGHT = 'The user wants the weather. I have a tool for that.';
const PNG = {
  type: 'image/png',
  name: 'dot.png',
  data: Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC', 'base64'),
};
const PDF = { type: 'application/pdf', name: 'report.pdf', data: Buffer.from('%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n') };
const line = (file) => `${file.type} sha256=${createHash('sha256').update(file.data).digest('hex')}`;

const any = () => true;
const isVercel = (route) => route.sdk.name.startsWith('ai-');
const seals = (route) => !['chat', 'cohere'].includes(route.target.dialect);

/** One test for each route, whole and streamed, that also fails when a fake refused what it was sent. */
function each(title, which, run, ways = [false, true]) {
  for (const route of routes(which)) {
    for (const stream of ways) {
      test(`${title}: ${route.name} ${stream ? 'stream' : 'unary'}`, { timeout: 20_000 }, async () => {
        const fakes = await watch();
        try {
          await run(route, stream, fakes);
        } catch (error) {
          // what the provider did not like explains more than what the client made of it
          await fakes.check();
          throw error;
        }
        await fakes.check();
      });
    }
  }
}

each('text comes back', any, async (route, stream) => {
  const told = await route.ask('text', { stream });
  assert.equal(told.text, `Hello from ${route.target.dialect}: Say hello.`);
  assert.equal(told.stop, 'end');
  assert.deepEqual([told.input, told.output], [20, 10]);
  if (route.through && told.headers) assert.equal(told.headers.get('x-tollgate-lane'), route.lane);
});

each('a tool is called and its result answered', any, async (route, stream) => {
  const told = await route.ask('tools', { tools: true, stream });
  assert.deepEqual(told.calls, [{ city: 'Paris', days: 2 }]);
  assert.equal(told.text, 'The tool said: Paris: sunny');
});

each('two calls at once are told apart', any, async (route, stream) => {
  const told = await route.ask('parallel', { tools: true, stream });
  assert.deepEqual(told.calls.map((call) => call.city), ['Paris', 'Rome']);
  assert.equal(told.text, 'The tool said: Paris: sunny | Rome: sunny');
});

each('an image arrives', any, async (route, stream) => {
  assert.equal((await route.ask('vision', { files: [PNG], stream })).text, line(PNG));
}, [false]);

each('a document arrives', (route) => route.target.dialect !== 'cohere', async (route, stream) => {
  assert.equal((await route.ask('vision', { files: [PDF], stream })).text, line(PDF));
}, [false]);

each('structured output is parsed', any, async (route, stream) => {
  const told = await route.ask('schema', { schema: true, stream });
  assert.equal(told.stop, 'end');
});

// the AI SDK reads no thoughts in chat completions, and puts none back
const shown = (route) => route.sdk.name !== 'ai-chat';

each('thoughts are shown', shown, async (route, stream) => {
  const told = await route.ask('thinking', { thinking: true, stream });
  assert.equal(told.text, 'Thought and said.');
  assert.equal(told.thoughts, THOUGHT);
});

each('a signed thought comes back with the result', (route) => shown(route) && seals(route), async (route, stream) => {
  // the fake refuses the second request when its signature is not in it, verbatim
  const told = await route.ask('thinking', { thinking: true, tools: true, stream });
  assert.equal(told.text, 'The tool said: Paris: sunny');
});

each('cached tokens are counted', any, async (route, stream) => {
  const told = await route.ask('cache', { stream });
  assert.deepEqual([told.input, told.output, told.cached], [160, 7, 100]);
});

each('a cut answer says so', any, async (route, stream) => {
  const told = await route.ask('length', { stream });
  assert.deepEqual([told.text, told.stop], ['This sentence has no', 'length']);
});

// the AI SDK calls a refusal in words an ordinary end
each('a refusal is one', (route) => route.target.dialect !== 'cohere' && !isVercel(route), async (route, stream) => {
  assert.equal((await route.ask('refusal', { stream })).stop, 'refusal');
});

for (const [scenario, kind, status] of [['error_429', 'rate', 429], ['error_500', 'server', 500], ['error_context', 'bad', 400]]) {
  each(`${scenario} is the SDK's own error`, any, async (route, stream) => {
    const error = await route.ask(scenario, { stream }).then(
      () => assert.fail('it succeeded'),
      (error) => error,
    );
    assert.ok(error instanceof route.sdk.errors[kind], `${error.constructor.name}: ${error.message}`);
    assert.equal(error.status ?? error.statusCode, status);
  });
}

each('an error in the middle of a stream is raised', any, async (route, stream) => {
  const error = await route.ask('error_stream', { stream }).then(
    () => assert.fail('it ended as if complete'),
    (error) => error,
  );
  assert.match(JSON.stringify(error) + String(error?.message ?? error), /fell over/);
}, [true]);
