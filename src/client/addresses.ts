import type { Random } from '../base/random.ts'
import type { ServerState } from '../gen/parley/v1/frames.ts'

/** How well a replica can serve, as it said last; `failed`: it could not be reached, or the connection broke. */
export type Standing = 'good' | 'unknown' | 'hindered' | 'noQuorum' | 'draining' | 'failed'

export function standingOf(state: ServerState): 'good' | 'hindered' | 'noQuorum' | 'draining' {
  if (state.draining) return 'draining'
  if (!state.quorum) return 'noQuorum'
  return state.hindered ? 'hindered' : 'good'
}

const rank: Readonly<Record<Standing, number>> = {
  good: 0,
  unknown: 1,
  hindered: 2,
  noQuorum: 3,
  draining: 4,
  failed: 5,
}

/** Whether `a` can serve better than `b`. */
export function betterThan(a: Standing, b: Standing): boolean {
  return rank[a] < rank[b]
}

/** The addresses of replicas that are known, and what is known of each. */
export class AddressBook {
  private readonly given: readonly string[]
  private readonly standings = new Map<string, Standing>()

  constructor(given: readonly string[]) {
    this.given = given
    for (const address of given) this.standings.set(address, 'unknown')
  }

  get all(): readonly string[] {
    return [...this.standings.keys()]
  }

  /** Takes over the addresses that a replica told; those that are told no more are forgotten, unless they were given at the start. */
  learn(addresses: readonly string[]): void {
    // A replica that does not know its cluster yet tells none.
    if (addresses.length === 0) return
    for (const address of addresses) if (!this.standings.has(address)) this.standings.set(address, 'unknown')
    for (const address of this.standings.keys())
      if (!addresses.includes(address) && !this.given.includes(address)) this.standings.delete(address)
  }

  report(address: string, standing: Standing): void {
    if (this.standings.has(address)) this.standings.set(address, standing)
  }

  /** All addresses but `except`, the most promising first; chance decides among equals, so that the clients of a lost replica spread. */
  order(random: Random, except: string | null): string[] {
    return [...this.standings]
      .filter(([address]) => address !== except)
      .map(([address, standing]) => ({ address, order: rank[standing] + random.below(2 ** 20) / 2 ** 20 }))
      .sort((a, b) => a.order - b.order)
      .map(({ address }) => address)
  }
}
