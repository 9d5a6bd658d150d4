// `npm run sim:mutants`: shows that each broken variant of the real code is caught.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { mutants } from './mutants.ts'

const { values } = parseArgs({
  options: {
    /** Only mutants whose names hold this. */
    only: { type: 'string', default: '' },
    /** Only so many of them, from this place on: the first is 1. */
    from: { type: 'string', default: '1' },
    count: { type: 'string', default: 'Infinity' },
    /** Longest hunt for one of them, in seconds of one core. */
    seconds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
  },
})

interface Hunt {
  readonly name: string
  readonly caught: string | null
  readonly message: string
  readonly seed: number
  readonly seeds: number
  readonly seconds: number
}

const hunts: Hunt[] = []
const first = Number(values.from) - 1
const chosen = mutants
  .filter(({ name }) => name.includes(values.only))
  .slice(first, first + Number(values.count))
for (const mutant of chosen) {
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, 'hunt.ts'),
    mutant.name,
    values.seconds,
    values.seed,
  ])
  const hunt = JSON.parse(stdout) as Hunt
  hunts.push(hunt)
  const verdict =
    hunt.caught === null
      ? `SURVIVED ${hunt.seeds} seeds`
      : `caught by ${hunt.caught}, seed ${hunt.seed} (${hunt.seeds} tried)`
  console.log(`${hunt.seconds.toFixed(1).padStart(6)} s  ${hunt.name}: ${verdict}`)
}
const caught = hunts.filter((hunt) => hunt.caught !== null)
const times = caught.map((hunt) => hunt.seconds).sort((a, b) => a - b)
console.log(
  `${caught.length} of ${hunts.length} caught; median ${times[Math.floor(times.length / 2)] ?? 0} s, longest ${times.at(-1) ?? 0} s`,
)
process.exitCode = caught.length === hunts.length ? 0 : 1
