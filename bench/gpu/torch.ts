import { Peer } from '../peer.ts';

const kernels = 'bench/peers/torch_kernels.py';
const model = 'bench/peers/torch_longer.py';

/** PyTorch on the GPU: single kernels, and the whole model. */
export class Torch {
  readonly #python: string;

  constructor(python: string) {
    this.#python = python;
  }

  /** Seconds of one run of a case, by the way in which PyTorch runs it: eager, compile. */
  async kernel(name: string, tiny: boolean): Promise<Readonly<Record<string, number>>> {
    await using peer = new Peer(this.#python, [kernels]);
    const answer = await peer.ask<{ seconds?: Record<string, number>; error?: string }>({ case: name, tiny });
    if (!answer.seconds) throw new Error(answer.error ?? 'PyTorch gave no answer');
    return answer.seconds;
  }

  /** The model of `torch_longer.py`, open in a process of its own. */
  longer(): Peer {
    return new Peer(this.#python, [model]);
  }
}
