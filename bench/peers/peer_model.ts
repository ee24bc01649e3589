import type { Batch } from '../../lib/data/batch.ts';
import type { LongerConfig } from '../../lib/model/config.ts';
import { timeBoundaries } from '../../lib/model/features.ts';
import { anchorCount } from '../../lib/model/visibility.ts';
import type { Schema } from '../../lib/schema/schema.ts';

/** What a peer has to know of a preset's model. `tables` names the table of each feature. */
export interface PeerConfig {
  readonly maxHistory: number;
  readonly width: number;
  readonly merge: number;
  readonly anchors: number;
  readonly innerBlocks: number;
  readonly innerHeads: number;
  readonly heads: number;
  readonly selfLayers: number;
  readonly k: number;
  readonly tables: Readonly<Record<string, string>>;
}

export function peerConfig(c: LongerConfig, { sides }: Schema): PeerConfig {
  const tables = Object.fromEntries([...sides.event.fields, ...sides.user.fields, ...sides.context.fields].map((f) => [f.name, f.table]));
  return {
    maxHistory: c.maxHistory, width: c.width, merge: c.merge, anchors: anchorCount(c), innerBlocks: c.inner.blocks, innerHeads: c.inner.heads, heads: c.heads, selfLayers: c.selfLayers,
    k: c.queries.kind === 'recent' ? c.queries.k : 0, tables,
  };
}

/** The batch as peers take it: lists by request, oldest event first, gaps already in buckets; ragged where lengths differ. */
export function peerBatch(batch: Batch, buckets: number) {
  const column = (name: string): number[] => [...batch.columns.get(name)!];
  const offsets = column('event.offsets');
  const rows = (list: readonly number[]): number[][] => Array.from({ length: batch.requests }, (_, r) => list.slice(offsets[r], offsets[r + 1]));
  const boundaries = timeBoundaries(buckets);
  const at = column('request.time');
  const bucket = rows(column('event.time')).map((times, r) => times.map((t) => boundaries.filter((b) => b <= Math.max(0, at[r]! - t)).length));
  return {
    item: rows(column('event.item')), action: rows(column('event.action')), bucket, segment: column('user.segment'), region: column('user.region'),
    hour: column('context.hour'), candidate: column('candidate.item'), label: column('labels'),
  };
}

export type PeerBatch = ReturnType<typeof peerBatch>;
