import { tryPort } from '../../src/server/ports.ts'

/** The first of `count` ports in a row that are free now, below those that the system hands out by itself. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const base = 20_000 + Math.floor(Math.random() * (12_000 - count))
    const problems = await Promise.all(
      Array.from({ length: count }, (_, i) => tryPort('127.0.0.1', base + i)),
    )
    if (problems.every((problem) => problem === null)) return base
  }
}
