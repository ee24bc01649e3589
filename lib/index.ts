/** longer-rec: LONGER (ByteDance, RecSys 2025) described in TypeScript, trained and served natively. */
export { type ErrorDetails, LongerError, type LongerErrorCode } from './errors.ts';
export { type Feature, type Features, id, type IdFeature, type IdsFeature, ids, numeric, type Id, type NumericFeature } from './schema/features.ts';
export { type CandidateOf, type CandidatesOf, defineSchema, type EventOf, type HistoryOf, type RequestOf, Schema, schemaFromJSON, type SchemaSpec, type TableSpec } from './schema/schema.ts';
export { encodeCandidates, type EncodedCandidates, encodeRequest, type EncodedRequest, type EncodedSide } from './schema/encode.ts';
export { type Batch, firstKept, type HistoryForm, packBatch } from './data/batch.ts';
export { batches, type BatchOptions } from './data/batches.ts';
export type { BatchLimits } from './data/batch_limits.ts';
export { Dataset, type ReadOptions } from './data/reader.ts';
export { type EventRule, type LabelRule, prepare, type PrepareOptions, type PrepareStats, type ReadAs } from './data/prepare.ts';
export { Catalog, type CatalogRequest } from './data/catalog.ts';
export { bestAuc, makeWorld, worldDefaults, type WorldOptions, worldSchema } from './data/world.ts';
export { appendRefusal, type Reuse } from './model/append.ts';
export { type BaselineConfig, historyForm, type LongerConfig, longerDefaults, type ModelConfig, type PresetName, presets, type QuerySelection } from './model/config.ts';
export { ModelDescription } from './model/model.ts';
export { type Checkpoint, type JsonObject, listCheckpoints, loadCheckpoint } from './model/checkpoint.ts';
export type { ParityCheck, ParityReport } from './model/parity.ts';
export { Graph } from './graph/graph.ts';
export type { Precision } from './graph/passes/precision.ts';
export { type ArraysByName, type RunArray, State, Plan } from './native/plan.ts';
export { Runtime, type RuntimeOptions } from './native/runtime.ts';
export { DeviceArray, DeviceMemory } from './native/device_array.ts';
export type { DeviceName } from './native/device.ts';
export type { DeviceReport } from './native/types.ts';
export { type StepReport, Trainer } from './train/trainer.ts';
export { countSteps, fit, type FitHooks, type Position, type Source } from './train/fit.ts';
export type { ParameterGroup } from './train/groups.ts';
export { type Schedule, trainDefaults, type TrainOptions } from './train/options.ts';
export { type MetricName, type MetricOptions, MetricSet, type MetricResult } from './train/metric_set.ts';
export { sigmoid } from './train/metrics.ts';
export type { Explanation } from './rank/explainer.ts';
export type { CachedHistory } from './rank/holding.ts';
export { PagedRanker, type PagedRankerOptions } from './rank/paged_ranker.ts';
export { PagedCache, type PagedCacheOptions, type PagedCacheStats } from './rank/paged_cache.ts';
export { type CachePrecision, defaultPageBytes } from './model/pages.ts';
export { type Appended, type GrowthOf, type PackedHistories, type Prefilled, Ranker, type RankerOptions } from './rank/ranker.ts';

import { loadNative } from './native/load.ts';
import type { DeviceReport } from './native/types.ts';

/** CPU features in use, and the state of CUDA with the reason where no GPU can be used. @throws LongerError ERR_NATIVE_LOAD */
export function devices(): DeviceReport {
  return loadNative().devices();
}
