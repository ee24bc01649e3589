import t from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { arrowType } from '../lib/serve/arrow_body.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankClient } from '../lib/serve/client.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { models, richSchema } from './helpers.ts';
import { request, runtime, saved, service } from './serve_helpers.ts';

type Spec = (typeof richSchema)['spec'];

await t.test('candidates in the answer are explained as the Ranker explains them, and their scores stay', async (t) => {
  const directory = await saved(t);
  const served = await service(t, directory, { slice: 3 });
  using ranker = await Ranker.open(directory, { runtime });
  const asked = [1, 2, 3, 4].map((seed) => request(seed, 9 * seed, 4 + seed));
  const plain = await Promise.all(asked.map((r) => served.rank(r)));
  const told = await Promise.all(asked.map((r, i) => served.rank({ ...r, explain: 3, ...(i === 0 ? {} : { topK: 2 }) })));
  for (const [i, r] of asked.entries()) {
    const { index, logits, explanations } = told[i]!;
    t.same(index, plain[i]!.index.slice(0, index.length));
    t.same(logits['click'], plain[i]!.logits['click']!.slice(0, index.length));
    t.equal(plain[i]!.explanations, undefined);
    const [wanted] = await ranker.explain([encodeRequest(richSchema, r as never)], 3);
    t.same(explanations, [...index].map((place) => wanted![place]));
    t.equal(explanations![0]!.events.length, 3);
  }
  const { history, ...stored } = asked[3]!;
  await served.histories!.replace('u', history as never);
  t.same((await served.rank({ ...stored, userId: 'u', explain: 3, topK: 2 })).explanations, told[3]!.explanations, 'places in the stored history');
});

await t.test('bounded, and refused where there is nothing to tell', async (t) => {
  const served = await service(t, await saved(t), { maxExplained: 4 });
  const r = request(1, 10, 5);
  for (const explain of [0, 2.5, '3' as never]) await t.rejects(served.rank({ ...r, explain }), { code: 'ERR_DATA', place: 'explain' });
  await t.rejects(served.rank({ ...r, explain: 3 }), { code: 'ERR_DATA', place: 'explain', message: /5 candidates are more than the 4.*topK/ });
  t.equal((await served.rank({ ...r, explain: 3, topK: 4 })).explanations!.length, 4);
  t.same((await served.rank({ ...r, candidates: [], explain: 3 })).explanations, []);
  await t.rejects(served.rank({ ...r, explain: 3, topK: 4 }, { signal: AbortSignal.abort(new Error('left')) }), { message: 'left' });

  const state = new State(new ModelDescription(richSchema, models['base']!).layout.stores());
  t.teardown(() => { state.dispose(); });
  const base = new RankService(new Ranker(new ModelDescription(richSchema, models['base']!), state, runtime), 'base');
  t.teardown(() => base.close());
  await t.rejects(base.rank({ ...r, explain: 3 }), { code: 'ERR_DATA', place: 'explain', message: /'base' does not weigh events/ });
});

await t.test('over HTTP: JSON as the service gives it, Arrow refuses', async (t) => {
  const served = await service(t, await saved(t));
  const app = await rankServer({ service: served });
  t.teardown(() => app.close());
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  const r = request(2, 30, 6);
  const wanted = await served.rank({ ...r, explain: 2, topK: 3 });
  const reply = await new RankClient<Spec>(url).rank({ ...r, explain: 2, topK: 3 });
  t.same(reply.explanations, wanted.explanations!.map(({ events, mass, rest }) => ({ events: [...events], mass: [...mass], rest })));
  t.notOk('explanations' in (await new RankClient<Spec>(url).rank(r)));
  const answer = await app.inject({ method: 'POST', url: '/v1/rank', payload: { ...r, explain: 2 }, headers: { accept: arrowType } });
  t.same([answer.statusCode, answer.json<{ error: { field: string } }>().error.field], [400, 'explain']);
});
