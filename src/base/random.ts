/** Chance comes in through this, so that the simulator can repeat it. */
export interface Random {
  /** A whole number from 0 up to but not including `limit` (1 to 2^32). */
  below(limit: number): number
}

/** A small seeded generator (splitmix32): the same seed gives the same numbers on every machine. Not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  return {
    below(limit) {
      state = (state + 0x9e3779b9) >>> 0
      let mixed = state
      mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
      mixed = (mixed ^ (mixed >>> 15)) >>> 0
      return Math.floor((mixed / 4294967296) * limit)
    },
  }
}
