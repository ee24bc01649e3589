import { cacheEquality, candidateIsolation, determinism, paddingInvariance, threadInvariance } from './equalities.ts';
import type { Proof, Prover } from './proof.ts';
import { resume } from './resume.ts';
import { mask, mergeAlignment, noLookAhead, querySelection } from './structure.ts';
import type { Subject } from './subject.ts';

export const provers = {
  candidateIsolation, cacheEquality, mask, querySelection, mergeAlignment, paddingInvariance, noLookAhead, threadInvariance, determinism, resume,
} satisfies Readonly<Record<string, Prover>>;

/** Every proof that the model has a mechanism for. */
export async function proofsOf(subject: Subject): Promise<Proof[]> {
  const proofs: Proof[] = [];
  for (const prove of Object.values(provers)) {
    const proof = await prove(subject);
    if (proof) proofs.push(proof);
  }
  return proofs;
}
