import type { GpuContext, GpuFigure } from './context.ts';

type Bound = { readonly is: '>=' | '<='; readonly value: number };

interface KernelRow {
  readonly figure: string;
  readonly name: string;
  /** Case of bench/native/gpu, and of torch_kernels.py where PyTorch has it. */
  readonly cases: readonly string[];
  /** Share of the copy rate that the bytes which have to move should come to. */
  readonly roof?: Bound;
  /** TFLOP/s that others published. */
  readonly published?: { readonly name: string; readonly tflops: readonly number[]; readonly share: Bound };
  /** Another case of ours: its time divided by this one's. */
  readonly other?: { readonly name: string; readonly of: (config: string) => string };
  /** PyTorch's time divided by ours. */
  readonly peer?: Readonly<Record<string, Bound>>;
}

const atLeast = (value: number): Bound => ({ is: '>=', value });

const rows: readonly KernelRow[] = [
  { figure: 'attention-p', name: 'attention forward, 250 keys, 108 rows, 4 heads of 64', cases: ['attention-p'], roof: atLeast(0.8), peer: { sdpa: atLeast(1.3) } },
  { figure: 'attention-p-backward', name: 'attention backward, the same', cases: ['attention-p-backward'], roof: atLeast(0.8), peer: { sdpa: atLeast(1.3) } },
  { figure: 'linear', name: 'linear, bias and GELU, 262,144 rows', cases: ['linear-256', 'linear-512', 'linear-1024'], peer: { eager: atLeast(1) } },
  { figure: 'inner', name: 'InnerTransformer block, 2,048,000 tokens of 32, K=8', cases: ['inner-forward', 'inner-backward'], peer: { compile: atLeast(5) } },
  { figure: 'embedding', name: 'embedding backward and row-wise Adagrad', cases: ['embedding-backward'], roof: atLeast(0.6) },
  {
    figure: 'attention-4096', name: 'causal attention of length 4096', cases: ['attention-4096-64', 'attention-4096-128'], peer: { sdpa: atLeast(1) },
    published: { name: 'FlashAttention-3 published TFLOP/s', tflops: [395, 600], share: atLeast(0.6) },
  },
  { figure: 'inner-parts', name: 'InnerTransformer block forward, operation by operation', cases: ['inner-parts'], other: { name: 'as one, us', of: () => 'inner-forward' } },
  {
    figure: 'linear-mma', name: 'linear by mma.sync, the same', cases: ['linear-256-mma', 'linear-512-mma', 'linear-1024-mma'],
    other: { name: 'as this GPU does it, us', of: (config) => config.replace('-mma', '') },
  },
];

async function* measure(row: KernelRow, { kernel, torch, tiny, copyRate }: GpuContext): ReturnType<GpuFigure['run']> {
  for (const [i, config] of row.cases.entries()) {
    const { seconds, flops, bytes } = await kernel(config);
    const base = { name: row.name, config, precision: 'bf16', value: 1e6 * seconds, unit: 'us' } as const;
    const note = `${(1e-12 * flops / seconds).toFixed(1)} TFLOP/s, ${(1e-9 * bytes / seconds).toFixed(0)} GB/s`;
    if (row.roof) {
      const copy = await copyRate();
      yield { ...base, against: { name: 'copy, GB/s', value: 1e-9 * copy }, ratio: bytes / seconds / copy, bar: row.roof, note };
    }
    if (row.published) {
      const published = row.published.tflops[i]!;
      yield { ...base, against: { name: row.published.name, value: published }, ratio: 1e-12 * flops / seconds / published, bar: row.published.share, note };
    }
    if (row.other) {
      const other = (await kernel(row.other.of(config))).seconds;
      yield { ...base, against: { name: row.other.name, value: 1e6 * other }, ratio: other / seconds, note };
    }
    if (!row.peer) continue;
    if (typeof torch === 'string') yield { ...base, against: { name: 'PyTorch', value: NaN }, note: `${note}; ${torch}` };
    else
      for (const [way, took] of Object.entries(await torch.kernel(config, tiny)))
        yield { ...base, against: { name: `PyTorch ${way}, us`, value: 1e6 * took }, ratio: took / seconds, ...(row.peer[way] ? { bar: row.peer[way] } : {}), note };
  }
}

/** The roofs: what a copy moves, and what cuBLAS makes of a large product. */
const roofs: GpuFigure = {
  name: 'roofs',
  async *run({ copyRate, torch, tiny }) {
    yield { name: 'copy within the device', config: tiny ? '4 KiB' : '1 GiB', precision: 'bf16', value: 1e-9 * (await copyRate()), unit: 'GB/s' };
    if (typeof torch === 'string') return;
    const size = tiny ? 64 : 8192;
    const seconds = (await torch.kernel('gemm', tiny))['eager']!;
    yield { name: 'cuBLAS, large product', config: `${size}^3`, precision: 'bf16', value: (1e-12 * 2 * size ** 3) / seconds, unit: 'TFLOP/s' };
  },
};

export const kernelFigures: readonly GpuFigure[] = [roofs, ...rows.map((row) => ({ name: row.figure, run: (context: GpuContext) => measure(row, context) }))];
