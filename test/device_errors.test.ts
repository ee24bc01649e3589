// Every way in which a device fails, on an emulated GPU that is told to: each has its own code, sentence and remedy.
import t from 'tap';
import './emulated_gpu.ts';
import { timedStep } from '../lib/cli/profile.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { DeviceMemory } from '../lib/native/device_array.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, requests, richSchema, tiny } from './helpers.ts';
import { request } from './serve_helpers.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here

/** Opens the emulated device, which is told how to fail. */
function failing(how: Readonly<Record<string, string>>): Runtime {
  Object.assign(process.env, how);
  try {
    return new Runtime({ threads: 1, device: 'emulated' });
  } finally {
    for (const name of Object.keys(how)) delete process.env[name];
  }
}

await t.test('no driver, an old one, an old GPU: their own codes', async (t) => {
  for (const [said, code, sentence] of [
    ['0,13000', 'ERR_DEVICE_NO_DRIVER', "the device 'cuda:0' cannot be used: no NVIDIA driver was found. Install NVIDIA's driver r580 or newer, or use the device 'cpu'"],
    ['12040,13000', 'ERR_DEVICE_OLD_DRIVER', "the device 'cuda:0' cannot be used: the NVIDIA driver is too old for CUDA 13 (r580 or newer is needed). Install NVIDIA's driver r580 or newer, or use the device 'cpu'"],
    ['13000,13000', 'ERR_DEVICE', "the device 'cuda:0' cannot be used: a driver is there, but no GPU. See whether nvidia-smi lists a GPU, or use the device 'cpu'"],
    ['13000,13000,75', 'ERR_DEVICE_OLD', "the device 'cuda:0' cannot be used: an emulated GPU is of sm_75, and the oldest that this binary has code for is sm_80 (Ampere). Use a newer GPU or the device 'cpu'"],
  ] as const) {
    process.env['LONGER_EMULATED_CUDA'] = said;
    t.throws(() => new Runtime({ device: 'cuda' }), { code, message: sentence }, said);
    if (code === 'ERR_DEVICE_OLD') t.throws(() => new Runtime({ device: 'cuda:1' }), { code: 'ERR_DEVICE', message: /there are 1 GPUs/ });
    delete process.env['LONGER_EMULATED_CUDA'];
  }
});

const model = new ModelDescription(richSchema, tiny);
const batch = batchOf(requests([24, 24, 24, 24, 24, 24], [2], 3), tiny);

await t.test('memory that is out names the largest values and the policy that fits, and with that the step runs', async (t) => {
  const needs = (recompute: 'none' | 'selective' | 'block', accumulate = 1): { arena: number; held: number } => {
    using runtime = failing({});
    using trainer = new Trainer(model, { ...trainDefaults, recompute, accumulate }, runtime);
    return { arena: trainer.plan.memory(trainer.model.inputs(batch).sizes).arena, held: runtime.deviceUse().allocated };
  };
  const [none, selective, block] = [needs('none'), needs('selective'), needs('block')];
  t.ok(block.arena < selective.arena && selective.arena < none.arena, JSON.stringify([none, selective, block].map((n) => n.arena)));
  const trainedIn = async (bytes: number, recompute: 'none' | 'selective' | 'block'): Promise<unknown> => {
    using runtime = failing({ LONGER_EMULATED_MEMORY: String(bytes) });
    using trainer = new Trainer(model, { ...trainDefaults, recompute }, runtime);
    return (await trainer.train(batch)).step;
  };
  for (const [room, policy] of [[selective, 'selective'], [block, 'block']] as const) {
    const bytes = room.held + room.arena + 4096;
    await t.rejects(trainedIn(bytes, 'none'), { code: 'ERR_MEMORY', place: /^\S+ \d+\.\d MiB, \S+ \d+\.\d MiB, \S+ /, remedy: new RegExp(`^Use the recompute policy "${policy}", which fits: it needs [\\d.]+ MiB of [\\d.]+ MiB that are free$`) });
    t.equal(await trainedIn(bytes, policy), 1, `${policy} fits`);
  }
  await t.rejects(trainedIn(block.held + Math.floor(block.arena / 2), 'none'), { code: 'ERR_MEMORY', remedy: /^Use smaller batches \(maxEvents\): [\d.]+ MiB are free, and the recompute policy "block" needs [\d.]+ MiB$/ });
  await t.rejects(trainedIn(block.held + Math.floor(block.arena / 2), 'block'), { code: 'ERR_MEMORY', remedy: /^Use smaller batches \(maxEvents\): [\d.]+ MiB are free$/ });
  using runtime = failing({ LONGER_EMULATED_MEMORY: String(needs('none', 2).held + Math.floor(block.arena / 2)) });
  using trainer = new Trainer(model, { ...trainDefaults, accumulate: 2 }, runtime);
  await t.rejects(trainer.train([batchOf(requests([3], [1], 1), tiny), batch]), { code: 'ERR_MEMORY', remedy: /policy "(selective|block)"/ }, 'the larger micro-batch counts');
});

await t.test('a device that failed does nothing more, and says so in every call', async (t) => {
  const lost = { code: 'ERR_DEVICE_LOST', message: /^the GPU can do nothing more for this process since it failed \(.+\)\. Start a new process, and resume training from the last checkpoint$/ };
  const encoded = requests([5, 9], [2], 3);
  {
    using runtime = failing({ LONGER_EMULATED_LAUNCHES: '200' });
    using other = new Runtime({ threads: 1, device: 'emulated' });
    const state = new State(model.layout.stores(), runtime);
    model.initialise(state, 5);
    using ranker = new Ranker(model, state, runtime, { owned: [state] });
    using trainer = new Trainer(model, trainDefaults, other);
    const cache = await ranker.prefill(encoded);
    await t.rejects((async () => { for (;;) await ranker.score(cache); })(), lost, 'the run that failed');
    await t.rejects(ranker.score(cache), lost, 'the next one');
    await t.rejects(ranker.prefill(encoded), lost);
    await t.rejects(trainer.train(batch), lost, 'another runtime on it');
    t.throws(() => state.read('dense', 0, new Float32Array(1)), lost);
    t.throws(() => { state.write('dense', 0, new Float32Array(1)); }, lost);
    t.throws(() => new State(model.layout.stores(), runtime), lost);
    t.throws(() => new DeviceMemory(1024, runtime), lost);
    t.throws(() => runtime.deviceUse(), lost);
    t.throws(() => new Runtime({ threads: 1, device: 'emulated' }), lost);
    cache.dispose();
  }
  {
    using runtime = failing({ LONGER_EMULATED_LAUNCHES: '3' });
    using trainer = new Trainer(model, trainDefaults, runtime);
    await t.rejects(timedStep(trainer, batch), { code: 'ERR_DEVICE_LOST', message: /^node 3 '.+: the GPU can do nothing more/ }, 'a run that waits after every operation names it');
  }
  {
    using runtime = failing({ LONGER_EMULATED_LAUNCHES: '200' });
    const state = new State(model.layout.stores(), runtime);
    model.initialise(state, 5);
    await using service = new RankService(new Ranker(model, state, runtime, { owned: [state] }), 'served', { timeout: 600_000, cacheBytes: 2 ** 20 });
    await using app = await rankServer({ service });
    const ready = async (): Promise<number> => (await app.inject('/readyz')).statusCode;
    const rank = () => app.inject({ method: 'POST', url: '/v1/rank', body: request(1) });
    t.equal(await ready(), 200);
    let answer = await rank();
    t.equal(answer.statusCode, 200);
    while (answer.statusCode === 200) answer = await rank();
    t.match([answer.statusCode, answer.json()], [503, { error: { code: 'ERR_DEVICE_LOST' } }], 'a service says so too');
    t.match(await service.lost, { code: 'ERR_DEVICE_LOST' });
    t.equal(await ready(), 503, 'and is not ready any more');
    t.equal((await rank()).statusCode, 503);
  }
  using fresh = new Runtime({ threads: 1, device: 'emulated' });
  using trainer = new Trainer(model, trainDefaults, fresh);
  t.equal((await trainer.train(batch)).step, 1, 'once all who had it are gone, the emulated one begins anew, as a new process does');
});
