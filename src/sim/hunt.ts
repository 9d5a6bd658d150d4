// Runs seeds with one mutant switched on until it is caught: `node src/sim/hunt.ts NAME SECONDS SEED`. Prints one line of JSON. Seconds are of one core.
import { mutants, switchOn } from './mutants.ts'

const [name, seconds = '120', first = '1'] = process.argv.slice(2)
const mutant = mutants.find((one) => one.name === name)
if (mutant === undefined) throw new Error(`no mutant is called ${String(name)}`)
switchOn(mutant)
// Loaded only now, so that it is the broken code that is loaded.
const { simulate } = await import('./simulate.ts')
const elapsedS = (): number => process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6
let seed = Number(first)
let caught: { readonly rule: string; readonly message: string } | null = null
while (caught === null && elapsedS() < Number(seconds)) {
  const result = await simulate({
    seed,
    workload: mutant.workload,
    replicas: null,
    faultModel: mutant.faultModel ?? 'majority',
    beyond: mutant.beyond ?? false,
    kinds: mutant.kinds ?? null,
    only: null,
    durationMs: null,
    maxEvents: null,
    keepEvents: 0,
  })
  caught = result.violation
  seed += 1
}
console.log(
  JSON.stringify({
    name,
    caught: caught?.rule ?? null,
    message: caught?.message.split('\n')[0] ?? '',
    seed: seed - 1,
    seeds: seed - Number(first),
    seconds: Number(elapsedS().toFixed(1)),
  }),
)
