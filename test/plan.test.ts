import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { LongerError } from '../lib/errors.ts';
import { devices } from '../lib/index.ts';
import { Plan, State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { HostBackend, DimSpec, GraphSpec, ValueSpec } from '../lib/native/types.ts';

const fixed = (constant: number): DimSpec => ({ constant, terms: [] });
const rows: DimSpec = { constant: 0, terms: [[0, 1]] };

/** y = a + w, then + a again and again: `links` nodes over T rows of 2. */
function chain(links: number): GraphSpec {
  const dims = [rows, fixed(2)];
  const value = (name: string, place: ValueSpec['place']): ValueSpec => ({ name, dtype: 'f32', dims, place });
  const between = Array.from({ length: links - 1 }, (_, i) => value(`t${i}`, 'arena'));
  const values = [value('a', 'input'), { ...value('w', 'store'), store: 'w', offset: 0 }, ...between, value('y', 'output')];
  const nodes = Array.from({ length: links }, (_, i) => ({ op: 'add', name: `n${i}`, inputs: [i === 0 ? 0 : i + 1, i === 0 ? 1 : 0], outputs: [i + 2], attrs: [] }));
  return { symbols: ['T'], values, nodes };
}

function setUp(backend: HostBackend, size = 1000, links = 2, threads = 2): { runtime: Runtime; state: State; plan: Plan } {
  const runtime = new Runtime({ threads });
  const state = new State([{ name: 'w', dtype: 'f32', size }], backend);
  return { runtime, state, plan: new Plan(chain(links), state, runtime) };
}

t.test('a device that is not there', async (t) => {
  const { usable, reason } = devices().cuda;
  await refused(t, () => new Runtime({ device: 'emulated' }), 'ERR_DEVICE', /the device 'emulated' cannot be used: .+\. .+/);
  await refused(t, () => new Runtime({ device: 'cuda:999' }), /no NVIDIA driver/.test(reason) ? 'ERR_DEVICE_NO_DRIVER' : 'ERR_DEVICE', /the device 'cuda:999' cannot be used: .+\. (Use|Name|Install|See) /);
  await refused(t, () => new Runtime({ device: 'cuda:x' as never }), 'ERR_CONFIG', /device: expected auto, cpu, cuda or cuda:<index>, got 'cuda:x'/);
  const warned = once(process, 'warning');
  using runtime = new Runtime({ device: 'auto' });
  t.equal(runtime.device, usable ? 'cuda:0' : 'cpu');
  if (!usable) t.match((await warned)[0], { code: 'LONGER_DEVICE', message: `device 'auto' is the CPU: ${reason}` });
});

const codeOf = (code: string) => (error: unknown): boolean => error instanceof LongerError && error.code === code;
async function refused(test: Test, run: () => unknown, code: string, pattern: RegExp): Promise<void> {
  const error = await (async () => run())().then(() => undefined, (e: unknown) => e);
  test.ok(codeOf(code)(error), `${code}: ${String(error)}`);
  test.match((error as Error | undefined)?.message, pattern);
}

for (const backend of ['cpu', 'reference'] as const) {
  t.test(`${backend}: runs, at any sizes`, async (t) => {
    const { state, plan } = setUp(backend);
    state.write('w', 0, Float32Array.from({ length: 1000 }, (_, i) => i));
    for (const T of [3, 0, 500, 3, 1]) {
      const y = new Float32Array(2 * T);
      const a = new Float32Array(2 * T + 1).subarray(1).fill(0.5); // at an offset of its buffer
      const result = await plan.run({ T }, new Map([['a', a]]), new Map([['y', y]]), { profile: true, checkFinite: true });
      t.strictSame(y, Float32Array.from({ length: 2 * T }, (_, i) => i + 1));
      t.equal(result.times?.length, 2);
      t.equal(result.firstNonFinite, -1);
    }
    const bad = await plan.run({ T: 1 }, new Map([['a', Float32Array.of(NaN, 0)]]), new Map(), { checkFinite: true });
    t.equal(bad.firstNonFinite, 0, 'an output that nobody takes is checked as well');
    const back = state.read('w', 10, new Float64Array(2));
    t.strictSame(back, Float64Array.of(10, 11));
  });
}

t.test('a short run is done on the thread that asks, but a turn of the event loop not filled with them', async (t) => {
  const a = new Float32Array(200_000).fill(1);
  const made = (hereBelow: number, threads: number) => {
    const runtime = new Runtime({ threads, hereBelow });
    const state = new State([{ name: 'w', dtype: 'f32', size: 200_000 }]);
    state.write('w', 0, Float32Array.from({ length: 200_000 }, (_, i) => i));
    return { plan: new Plan(chain(3), state, runtime), y: new Float32Array(200_000) };
  };
  const [short, never] = [made(2000, 2), made(0, 1)];
  const run = ({ plan, y }: typeof short, T = 100_000) => plan.run({ T }, new Map([['a', a.subarray(0, 2 * T)]]), new Map([['y', y.subarray(0, 2 * T)]]));
  t.equal((await run(short, 1000)).here, false, 'nothing is known of the first');
  t.equal((await run(short, 10)).here, true, 'a larger one was short');
  t.equal((await run(short)).here, false, 'a smaller one says nothing');
  let turned = false;
  setImmediate(() => { turned = true; });
  const count = { here: 0, away: 0 };
  const enough = (): boolean => turned && count.here >= 10 && count.away >= 3; // a turn may take several that were done elsewhere
  for (let i = 0; i < 2000 && !enough(); ++i) ++count[(await run(short)).here ? 'here' : 'away'];
  t.ok(enough(), `${count.here} here, ${count.away} on the native thread, ${turned ? 'a turn' : 'no turn'} of the event loop`);
  for (let i = 0; i < 20; ++i) t.equal((await run(never)).here, false);
  t.strictSame(short.y, never.y);
  t.throws(() => new Runtime({ hereBelow: 5000 }), /microseconds from 0 to 2000/);
});

t.test('what does not fit is refused with its name', async (t) => {
  const { state, plan, runtime } = setUp('cpu');
  const run = (T: number, a: Float32Array | Int32Array) => () => plan.run({ T }, new Map([['a', a]]));
  await refused(t, run(2, new Float32Array(3)), 'ERR_SHAPE', /a: expected 4 elements/);
  await refused(t, run(2, new Int32Array(4)), 'ERR_SHAPE', /a: expected a Float32Array/);
  await refused(t, run(501, new Float32Array(1002)), 'ERR_SHAPE', /outside store 'w'/);
  await refused(t, () => plan.run({ T: 2 }, new Map()), 'ERR_SHAPE', /a: the array is missing/);
  await refused(t, () => state.read('v', 0, new Float32Array(1)), 'ERR_GRAPH', /no store 'v'/);
  await refused(t, () => state.read('w', 999, new Float32Array(2)), 'ERR_SHAPE', /outside its 1000/);
  const graph = chain(2);
  const unknown = { ...graph, nodes: [{ ...graph.nodes[0]!, op: 'nope' }, graph.nodes[1]!] };
  await refused(t, () => new Plan(unknown, state, runtime), 'ERR_GRAPH', /node 0 'n0' \(nope\): there is no operation/);
});

t.test('the arena holds what lives at the same time', async (t) => {
  const { plan } = setUp('cpu', 200_000, 20);
  const { arena, largest } = plan.memory({ T: 100_000 });
  t.ok(arena >= 2 * 800_000 && arena < 3 * 800_000, `two of nineteen values live at once: ${arena}`);
  t.equal(largest.length, 10);
});

t.test('abort stops between operations', async (t) => {
  const size = 4_000_000;
  const { plan, state } = setUp('cpu', size, 400);
  const inputs = new Map([['a', new Float32Array(size)]]);
  const controller = new AbortController();
  const running = plan.run({ T: size / 2 }, inputs, new Map(), { signal: controller.signal });
  await refused(t, () => { state.write('w', 0, new Float32Array(1)); }, 'ERR_GRAPH', /in use by a run/);
  const reason = new Error('enough');
  setTimeout(() => { controller.abort(reason); }, 10);
  await t.rejects(running, reason);
  await t.rejects(plan.run({ T: size / 2 }, inputs, new Map(), { signal: controller.signal }), reason);
  state.write('w', 0, new Float32Array(1));
});

t.test('dispose is idempotent and waits for nobody', async (t) => {
  const { plan, state, runtime } = setUp('cpu');
  const y = new Float32Array(4);
  const running = plan.run({ T: 2 }, new Map([['a', new Float32Array(4).fill(1)]]), new Map([['y', y]]));
  for (const thing of [plan, state, runtime, plan, state, runtime]) thing.dispose();
  await running;
  t.strictSame(y, new Float32Array(4).fill(2), 'a run in flight ends well');
  await refused(t, () => plan.memory({ T: 1 }), 'ERR_DISPOSED', /the plan was disposed/);
  await refused(t, () => state.read('w', 0, new Float32Array(1)), 'ERR_DISPOSED', /the state was disposed/);
  await refused(t, () => new Plan(chain(1), state, runtime), 'ERR_DISPOSED', /disposed/);
});

t.test('a terminated worker with runs in flight takes nothing down', async (t) => {
  const root = dirname(createRequire(import.meta.url).resolve('#package'));
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData.loader)(workerData.root);
    const runtime = native.createRuntime(2);
    const state = native.createState([{ name: 'w', dtype: 'f32', size: 400000 }], 'cpu');
    const plan = native.compile(workerData.graph, state, runtime, 'cpu');
    for (let i = 0; i < 3; i++) native.run(plan, Float64Array.of(200000), [new Float32Array(400000)], [new Float32Array(400000)], {});
    parentPort.postMessage('started');
    setInterval(() => {}, 1000);`;
  const workerData = { root, graph: chain(300), loader: createRequire(import.meta.url).resolve('node-gyp-build') };
  for (let round = 0; round < 8; round++) {
    const workers = [0, 1].map(() => new Worker(code, { eval: true, workerData }));
    await Promise.all(workers.map((w) => new Promise((resolve, reject) => w.once('message', resolve).once('error', reject))));
    await new Promise((resolve) => setTimeout(resolve, round * 3));
    await Promise.all(workers.map((w) => w.terminate()));
  }
  t.pass('still here');
});

t.test('threads of a runtime stand back as far as they are told to', { skip: process.platform !== 'linux' }, async (t) => {
  const niceOf = (): Map<string, number> => new Map(readdirSync('/proc/self/task').flatMap((id) => {
    try {
      return [[id, Number(readFileSync(`/proc/self/task/${id}/stat`, 'utf8').split(') ')[1]!.split(' ')[16])] as const];
    } catch {
      return []; // it ended meanwhile
    }
  }));
  const before = niceOf();
  const own = before.get(String(process.pid))!;
  const runtime = new Runtime({ threads: 3, niceness: 7 });
  const made = [...niceOf()].filter(([id]) => !before.has(id)).map(([, nice]) => nice);
  t.equal(made.filter((nice) => nice === Math.min(19, own + 7)).length, 3, `${made.join(', ')} from ${own}`);
  t.equal(niceOf().get(String(process.pid)), own, 'the event loop stays where it was');
  runtime.dispose();
  for (const niceness of [-1, 20, 1.5]) t.throws(() => new Runtime({ niceness }), { code: 'ERR_CONFIG', place: 'niceness' });
});

t.test('memory stays flat', async (t) => {
  const { plan } = setUp('cpu', 200_000, 5);
  const a = new Float32Array(200_000);
  const step = async (i: number): Promise<void> => { await plan.run({ T: 90_000 + (i % 100) * 100 }, new Map([['a', a.subarray(0, 2 * (90_000 + (i % 100) * 100))]])); };
  for (let i = 0; i < 100; i++) await step(i);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 400; i++) await step(i);
  for (let i = 0; i < 100; i++) {
    const other = new State([{ name: 'w', dtype: 'f32', size: 2_000_000 }], 'cpu'); // 8 MB each
    other.write('w', 0, new Float32Array(2_000_000).fill(1));
    other.dispose();
  }
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  t.ok(grown < 100, `grew by ${grown.toFixed(0)} MiB`);
});
