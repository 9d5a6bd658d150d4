import assert from 'node:assert/strict'
import { simulate, type SimOptions, type SimResult, type WorkloadName } from './simulate.ts'

/** A run as the tests want it, unless they say otherwise. */
export function options(seed: number, workload: WorkloadName): SimOptions {
  return {
    seed,
    workload,
    replicas: null,
    faultModel: 'majority',
    beyond: false,
    kinds: null,
    only: null,
    durationMs: null,
    maxEvents: null,
    keepEvents: 0,
  }
}

/** Runs a seed; what to type to see a violation again is in the error. */
export async function assertClean(
  seed: number,
  workload: WorkloadName,
  changed: Partial<Pick<SimOptions, 'beyond' | 'faultModel'>> = {},
): Promise<SimResult> {
  const wanted = { ...options(seed, workload), ...changed }
  const result = await simulate(wanted)
  const { violation } = result
  assert.equal(
    violation,
    null,
    `${violation?.rule}: ${violation?.message}\nrepeat: npm run sim -- --seed ${seed} --workload ${workload} --model ${wanted.faultModel}${wanted.beyond ? ' --beyond' : ''}`,
  )
  return result
}
