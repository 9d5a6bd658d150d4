// `npm run sim:mutants`: shows that each broken variant of the real code is caught.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { mutants } from './mutants.ts'

const help = `npm run sim:mutants -- [options]

  --only TEXT         only mutants whose names hold this
  --from N --count M  only the Nth of them, and so many in all: the first is 1
  --seconds S         longest hunt for one of them, in seconds of one core (default 300)
  --seed N            the first seed of each hunt (default 1)
`

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    from: { type: 'string', default: '1' },
    count: { type: 'string', default: String(mutants.length) },
    seconds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) console.log(help)
else process.exitCode = (await main()) ? 0 : 1

interface Hunt {
  readonly name: string
  readonly caught: string | null
  readonly message: string
  readonly seed: number
  readonly seeds: number
  readonly seconds: number
}

async function main(): Promise<boolean> {
  const first = positive('from') - 1
  const chosen = mutants
    .filter(({ name }) => name.includes(values.only))
    .slice(first, first + positive('count'))
  if (chosen.length === 0) throw new Error('no mutant is chosen by --only, --from and --count')
  const hunts: Hunt[] = []
  for (const { name } of chosen) {
    const hunt = await hunted(name)
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
  return caught.length === hunts.length
}

/** In a process of its own, since the mutant is switched on while the code is loaded. */
async function hunted(name: string): Promise<Hunt> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, 'hunt.ts'),
    name,
    String(positive('seconds')),
    String(positive('seed')),
  ])
  return JSON.parse(stdout) as Hunt
}

function positive(option: 'from' | 'count' | 'seconds' | 'seed'): number {
  const value = Number(values[option])
  if (!(value > 0)) throw new Error(`--${option} must be a number above 0`)
  return value
}
