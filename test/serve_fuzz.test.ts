import t from 'tap';
import { Ranker } from '../lib/rank/ranker.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import type { Row } from './arrow_bodies.ts';
import { fuzzService } from './fuzz_service.ts';
import { appendSafe, richSchema, tiny } from './helpers.ts';
import { request, runtime, saved } from './serve_helpers.ts';

const inputs = Number(process.env['LONGER_FUZZ'] ?? 4000);
const seed = Number(process.env['LONGER_FUZZ_SEED'] ?? 1);
t.setTimeout(0);

for (const [i, [name, config]] of Object.entries({ tiny, appendSafe }).entries())
  await t.test(`${inputs / 2} broken requests, ${name}: 4xx or the bits of the Ranker, nothing else, and nothing stays of them`, async (t) => {
    const directory = await saved(t, 1, config);
    using ranker = await Ranker.open(directory, { runtime });
    const histories = new MemoryHistoryStore(richSchema, { maxUsers: 100, maxEvents: 300 });
    const service = new RankService(await Ranker.open(directory, { runtime }), 'a', { timeout: 600_000, cacheBytes: 2 ** 20, maxCandidates: 60, maxEvents: 300, encodedEvents: 10_000 }, { histories });
    const app = await rankServer({ service, bodyLimit: 60_000, patience: 5000 });
    t.teardown(async () => {
      app.server.closeAllConnections();
      await app.close();
      await service.close();
    });
    const bring = [1, 2, 3].map((s) => ({ ...request(s, 3 * s, 1 + s), ...(s === 3 ? { explain: 2 } : {}) })) as unknown as Row[];
    const stored = ['anna', 'bert'].map((userId, s) => {
      const { user, context, time, candidates } = request(10 + s, 20, 3);
      return { user, context, time, candidates, userId };
    });
    for (const [s, { userId }] of stored.entries()) await histories.replace(userId, request(10 + s, 20).history as never);
    const report = await fuzzService({ app, histories, ranker, whole: [...bring, ...stored, { ...bring[0], tasks: ['buy'], topK: 1 }] }, inputs / 2, 2 * seed + i);
    const { failures, ...told } = report;
    t.same(failures, []);
    t.comment(JSON.stringify(told));
    t.ok((report.statuses['400'] ?? 0) > report.inputs / 4, 'most are refused');
    t.ok(report.compared > report.inputs / 50, 'some are served, and compared');
    t.ok(report.heap[1] - report.heap[0] < 16, `heap and buffers from ${report.heap[0].toFixed(1)} to ${report.heap[1].toFixed(1)} MiB`);
    t.match(service.stats(), { waitingCalls: 0, waitingRows: 0 });
  });
