import { createRequire } from 'node:module';

/** The part of `onnx-proto` that is used; the package belongs to bench/peers alone. */
interface OnnxProto {
  readonly onnx: { readonly ModelProto: { readonly create: (model: object) => unknown; readonly encode: (model: unknown) => { finish(): Uint8Array } } };
}

type Attribute = number | readonly number[] | { readonly float: number };
export type Size = number | string;

const [float, int64, int32] = [1, 7, 6];
const elementTypes = { float, int64, int32 } as const;
const bytesOf = (a: Float32Array | BigInt64Array): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** Collects the nodes and constants of an ONNX graph; values are their names. */
export class OnnxGraph {
  readonly #nodes: object[] = [];
  readonly #constants: object[] = [];
  readonly #known = new Map<string, string>();
  readonly #inputs: object[] = [];
  readonly #outputs: object[] = [];
  #count = 0;

  /** One node of several results. */
  nodes(operator: string, inputs: readonly string[], outputs: number, attributes: Readonly<Record<string, Attribute>> = {}): string[] {
    const names = Array.from({ length: outputs }, () => `value${this.#count++}`);
    const attribute = Object.entries(attributes).map(([name, value]) => {
      if (typeof value === 'number') return { name, type: 2, i: value };
      return Array.isArray(value) ? { name, type: 7, ints: value } : { name, type: 1, f: (value as { float: number }).float };
    });
    this.#nodes.push({ name: `${operator}_${names[0]}`, opType: operator, input: inputs, output: names, attribute });
    return names;
  }

  op(operator: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.nodes(operator, inputs, 1, attributes)[0]!;
  }

  input(name: string, type: keyof typeof elementTypes, shape: readonly Size[]): string {
    this.#inputs.push(this.#value(name, type, shape));
    return name;
  }

  output(value: string, name: string, shape: readonly Size[]): void {
    this.#nodes.push({ name: `out_${name}`, opType: 'Identity', input: [value], output: [name] });
    this.#outputs.push(this.#value(name, 'float', shape));
  }

  /** @param key constants of one key are stored once */
  constant(data: Float32Array, shape: readonly number[], key?: string): string {
    return this.#constant(bytesOf(data), float, shape, key);
  }

  ints(...values: readonly number[]): string {
    return this.#constant(bytesOf(BigInt64Array.from(values, BigInt)), int64, [values.length], `ints ${values.join(' ')}`);
  }

  reshape(x: string, ...shape: readonly number[]): string {
    return this.op('Reshape', [x, this.ints(...shape)]);
  }

  transpose(x: string, ...perm: readonly number[]): string {
    return this.op('Transpose', [x], { perm });
  }

  concat(axis: number, ...parts: readonly string[]): string {
    return parts.length === 1 ? parts[0]! : this.op('Concat', parts, { axis });
  }

  slice(x: string, axis: number, from: number, to: number): string {
    return this.op('Slice', [x, this.ints(from), this.ints(to), this.ints(axis)]);
  }

  encode(): Uint8Array {
    const { ModelProto } = (createRequire(import.meta.url)('onnx-proto') as OnnxProto).onnx;
    const model = {
      irVersion: 9, producerName: 'longer-bench', opsetImport: [{ domain: '', version: 20 }],
      graph: { name: 'longer', node: this.#nodes, initializer: this.#constants, input: this.#inputs, output: this.#outputs },
    };
    return ModelProto.encode(ModelProto.create(model)).finish();
  }

  #value(name: string, type: keyof typeof elementTypes, shape: readonly Size[]): object {
    return { name, type: { tensorType: { elemType: elementTypes[type], shape: { dim: shape.map((s) => (typeof s === 'string' ? { dimParam: s } : { dimValue: s })) } } } };
  }

  #constant(rawData: Uint8Array, dataType: number, dims: readonly number[], key?: string): string {
    const known = key === undefined ? undefined : this.#known.get(key);
    if (known !== undefined) return known;
    const name = `constant${this.#count++}`;
    this.#constants.push({ name, dataType, dims, rawData });
    if (key !== undefined) this.#known.set(key, name);
    return name;
  }
}
