/**
 * `npm run bench:week -- [--users N] [--svg FILE] [--json FILE]`: how often a week of calls finds its cache, by the size of the cache and the form of the
 * model. The store, the encoded histories and the cache are those of the service; no kernel time is measured. docs/serving.md has the figures.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { table } from '../../lib/cli/files.ts';
import { Random } from '../../lib/data/random.ts';
import { type LongerConfig, longerDefaults } from '../../lib/model/config.ts';
import { ModelDescription } from '../../lib/model/model.ts';
import { State } from '../../lib/native/plan.ts';
import { Runtime } from '../../lib/native/runtime.ts';
import { PagedCache } from '../../lib/rank/paged_cache.ts';
import { PagedRanker } from '../../lib/rank/paged_ranker.ts';
import { Ranker } from '../../lib/rank/ranker.ts';
import { encodeRequest } from '../../lib/schema/encode.ts';
import { id } from '../../lib/schema/features.ts';
import { defineSchema } from '../../lib/schema/schema.ts';
import { EncodedHistories } from '../../lib/serve/encoded_histories.ts';
import { MemoryHistoryStore } from '../../lib/serve/history_store.ts';
import { week, type Week } from './visits.ts';
import { weekPlot, type WeekCurve, type WeekPoint } from './week_plot.ts';

const { values: o } = parseArgs({
  options: { users: { type: 'string', default: '2000' }, seed: { type: 'string', default: '1' }, sizes: { type: 'string', default: '0.003,0.01,0.03,0.1,0.2,0.5,1' }, svg: { type: 'string' }, json: { type: 'string' } },
});
const users = Number(o.users);
const sizes = o.sizes.split(',').map(Number);

const items = 5000;
const schema = defineSchema({
  tables: { item: { size: items, width: 8 }, user: { size: users, width: 4 } },
  user: { user: id('user') }, context: { hour: id(24, 2) }, event: { item: id('item') }, candidate: { item: id('item') }, labels: { click: {} }, time: true,
});
const small: LongerConfig = { ...longerDefaults, maxHistory: 256, width: 8, merge: 4, heads: 2, inner: { blocks: 0, heads: 1 }, queries: { kind: 'recent', k: 16 }, timeGap: { to: 'request', buckets: 16, width: 2 }, head: { kind: 'pooled', hidden: [8] } };
const grows: LongerConfig = { ...small, alignment: 'oldest', position: 'ordinal', timeGap: { to: 'previous', buckets: 16, width: 2 } };

interface Form {
  readonly name: string;
  readonly config: LongerConfig;
  /** Seconds that an entry is used; default: for ever. */
  readonly ttl?: number;
}
const forms: readonly Form[] = [
  { name: 'gaps to the event before, banded window', config: { ...grows, window: 'banded' } },
  { name: 'gaps to the event before, full window', config: grows },
  { name: 'the same, kept for an hour (cacheTtl)', config: grows, ttl: 3600 },
  { name: 'gaps to the request', config: small },
];

const start = 1_700_006_400;
/** The first day fills the cache and is not counted. */
const counted = 86_400;

async function run(ranker: Ranker, { pages, lengths }: Week, bytes: number, ttl: number | undefined): Promise<Omit<WeekPoint, 'share'>> {
  let now = 0;
  const pageBytes = PagedRanker.cacheFor(ranker, { bytes: 2 ** 24 }).pool.pageBytes;
  using cache = new PagedCache({ bytes, pageBytes, besideBytes: 2 ** 30, now: () => 1000 * now, ...(ttl === undefined ? {} : { ttl }) });
  using paged = new PagedRanker(ranker, { cache });
  const store = new MemoryHistoryStore(schema, { maxEvents: 2000 });
  const encoded = new EncodedHistories(schema, 2 ** 22);
  const random = new Random(7, 42);
  for (const [user, length] of lengths.entries())
    await store.replace(String(user), Array.from({ length }, (_, i) => ({ item: Math.floor(items * random.uniform() ** 3), time: start - 60 * (length - i) })));
  const found = { hit: 0, partial: 0, miss: 0 };
  let [calls, computed, whole, rows, allRows] = [0, 0, 0, 0, 0];
  for (const page of pages) {
    now = page.time;
    const userId = String(page.user);
    const stored = await store.read(userId);
    const time = Math.max(start + page.time, Number(stored.events.at(-1)?.['time'] ?? 0)); // a visit may begin in another of the same user
    for (let i = 0; i < page.calls; ++i) {
      const asked = { user: { user: page.user }, context: { hour: Math.floor(page.time / 3600) % 24 }, time, history: stored.events, candidates: [] };
      const [held] = await paged.hold([encodeRequest(schema, asked as never, 'request', encoded.of(userId, stored)) as never], { owners: [userId] });
      held!.release();
      if (page.time < counted) continue;
      const { events, rows: asking } = held!.reuse;
      ++calls;
      ++found[held!.outcome];
      computed += events.computed;
      whole += events.kept + events.computed;
      rows += asking.computed;
      allRows += asking.kept + asking.computed;
    }
    if (page.items.length > 0) await store.append(userId, page.items.map((item, i) => ({ item, time: time + 2 + 5 * i })));
  }
  return { calls, hit: found.hit / calls, partial: found.partial / calls, miss: found.miss / calls, computed: computed / whole, rows: rows / allRows };
}

/** Bytes of the pages of a full history. */
async function fullHistory(ranker: Ranker): Promise<number> {
  using paged = new PagedRanker(ranker, { bytes: 2 ** 24 });
  const history = Array.from({ length: 600 }, (_, i) => ({ item: i, time: i }));
  const [held] = await paged.hold([{ user: { user: 0 }, context: { hour: 0 }, time: 1000, history, candidates: [] } as never]);
  const { bytes } = paged.cache.stats();
  held!.release();
  return bytes;
}

const traffic = week(users, items, Number(o.seed));
using runtime = new Runtime({ threads: 1 });
const curves: WeekCurve[] = [];
for (const { name, config, ttl } of forms) {
  const model = new ModelDescription(schema, config);
  using state = new State(model.layout.stores());
  model.initialise(state, 1);
  using ranker = new Ranker(model, state, runtime);
  const one = await fullHistory(ranker);
  const points: WeekPoint[] = [];
  for (const share of sizes) {
    points.push({ share, ...(await run(ranker, traffic, Math.max(2 * one, Math.ceil(share * users * one)), ttl)) });
    process.stderr.write(`${name}, ${share}: ${JSON.stringify(points.at(-1))}\n`);
  }
  curves.push({ name, points });
}
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
console.log(`${users} users, ${traffic.pages.length} pages, ${curves[0]!.points[0]!.calls} calls after the first day`);
for (const { name, points } of curves) {
  console.log(`\n${name}`);
  console.log(table([['cache, full histories a user', 'hit', 'partial', 'miss', 'events computed', 'rows computed'], ...points.map((p) => [percent(p.share), percent(p.hit), percent(p.partial), percent(p.miss), percent(p.computed), percent(p.rows)])]));
}
if (o.svg !== undefined) writeFileSync(o.svg, weekPlot(curves));
if (o.json !== undefined) writeFileSync(o.json, `${JSON.stringify({ users, seed: o.seed, curves }, null, 1)}\n`);
