import type { Violation } from './invariants.ts'
import { simulate, type SimOptions } from './simulate.ts'

/**
 * Leaves out faults that a violation does not need (delta debugging, Zeller 2002): halves, quarters, … are tried until no single fault can go any more.
 *
 * @param fails whether a run with these options shows the same violation.
 * @param maxRuns gives up looking further after so many runs.
 * @returns the options with `only` the faults that are needed.
 */
export async function shrink(
  options: SimOptions,
  violation: Violation,
  fails: (options: SimOptions) => Promise<boolean> = async (shorter) =>
    (await simulate(shorter)).violation?.rule === violation.rule,
  maxRuns = 150,
): Promise<SimOptions> {
  const { plan } = await simulate({ ...options, maxEvents: 0, keepEvents: 0 })
  let needed = plan.map((fault) => fault.number).filter((n) => options.only === null || options.only.has(n))
  const runs = { left: maxRuns }

  const stillFails = (numbers: readonly number[]): Promise<boolean> => {
    runs.left -= 1
    return fails({ ...options, only: new Set(numbers), keepEvents: 0 })
  }

  if (await stillFails([])) return { ...options, only: new Set() }
  let pieces = 2
  while (needed.length > 1 && runs.left > 0) {
    const size = Math.ceil(needed.length / pieces)
    let shorter: number[] | null = null
    for (let from = 0; from < needed.length && runs.left > 0; from += size) {
      const rest = [...needed.slice(0, from), ...needed.slice(from + size)]
      if (await stillFails(rest)) {
        shorter = rest
        break
      }
    }
    if (shorter !== null) {
      needed = shorter
      pieces = Math.max(2, pieces - 1)
    } else if (size === 1) break
    else pieces = Math.min(needed.length, pieces * 2)
  }
  return { ...options, only: new Set(needed) }
}
