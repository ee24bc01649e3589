import { appendBench } from './cases/append.ts';
import { explainBench, int8Bench, onceBench } from './cases/calls.ts';
import { delayBench } from './cases/delay.ts';
import { attentionBench, linearBench, roofsBench } from './cases/kernels.ts';
import { memoryBench, rssBench } from './cases/memory.ts';
import { onnxBench } from './cases/onnx.ts';
import { overheadBench, servingBench } from './cases/serving.ts';
import { raggedBench, recomputeBench, trainingBench } from './cases/training.ts';
import { torchBench, torchMemoryBench } from './cases/torch.ts';
import type { Bench } from './context.ts';

/** In the order in which they run. */
export const benches: readonly Bench[] = [roofsBench, linearBench, attentionBench, trainingBench, raggedBench, recomputeBench, delayBench, memoryBench, rssBench, servingBench, appendBench, onceBench, explainBench, int8Bench, overheadBench, onnxBench, torchBench, torchMemoryBench];
