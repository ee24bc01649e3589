import { trainDefaults } from '../lib/train/options.ts';
import type { BenchRecord } from './record.ts';

export interface Context {
  /** Fewer shapes and presets, shorter races. */
  readonly quick: boolean;
  /** Seconds of one race. */
  readonly seconds: number;
  /** Presets by name. */
  readonly presets: readonly string[];
  readonly threads: readonly number[];
}

/** A benchmark: gives its figures as they are measured. */
export interface Bench {
  readonly name: string;
  readonly about: string;
  readonly run: (context: Context) => AsyncIterable<BenchRecord>;
}

/** Precisions that models can run in. */
export const precisions: readonly ('fp32' | 'bf16')[] = 'precision' in trainDefaults ? ['fp32', 'bf16'] : ['fp32'];
