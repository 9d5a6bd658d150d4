// `npm run sim`: tries fresh seeds, or repeats one.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { FaultModel } from '../raft/types.ts'
import { failStopBreakers, failStopFaults, faultKinds, type FaultKind } from './faults.ts'
import { tracePage } from './page.ts'
import { shrink } from './shrink.ts'
import { describePlan, simulate, workloadNames, type SimOptions, type SimResult } from './simulate.ts'
import { createTotals } from './totals.ts'
import { traceLine } from './trace.ts'

const allFaultKinds = [...new Set([...faultKinds, ...failStopFaults, ...failStopBreakers])]

const help = `npm run sim -- [options]

  --seed N            repeat the run of this seed (or start with it, with --seeds)
  --seeds N           try so many seeds
  --minutes M         try fresh seeds for so long (default 1)
  --workload NAME     ${workloadNames.join(', ')}; default: each in turn
  --model NAME        majority (default) or fail-stop
  --beyond            more goes wrong than the model survives. majority: at some time most machines are lost; it must
                      stop safely. fail-stop: the network is cut and the living are taken for dead; sides that
                      went on without each other must notice it (only with the workload ledger)
  --replicas N        1 to 7 instead of what the seed draws
  --duration S        seconds of virtual time with faults, instead of what the seed draws
  --faults KINDS      only these, comma-separated; "none" for none:
                      ${allFaultKinds.join(' ')}
  --only NUMBERS      only these faults of the seed's plan, comma-separated
  --steps S           stop after so many events
  --no-shrink         do not look for the faults that a failure needs
  --trace FILE        write every event of the run as text
  --out FOLDER        where pages of failures go; default sim-failures
`

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
    workload: { type: 'string' },
    model: { type: 'string', default: 'majority' },
    beyond: { type: 'boolean', default: false },
    replicas: { type: 'string' },
    duration: { type: 'string' },
    faults: { type: 'string' },
    only: { type: 'string' },
    steps: { type: 'string' },
    'no-shrink': { type: 'boolean', default: false },
    trace: { type: 'string' },
    out: { type: 'string', default: 'sim-failures' },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) console.log(help)
else process.exitCode = (await main()) ? 0 : 1

async function main(): Promise<boolean> {
  const first = values.seed === undefined ? Date.now() % 1_000_000_000 : number(values.seed, 'seed')
  if (values.seed !== undefined && values.seeds === undefined) return repeat(optionsFor(first))
  const endMs =
    values.seeds === undefined ? Date.now() + number(values.minutes ?? '1', 'minutes') * 60_000 : Infinity
  const last = values.seeds === undefined ? Infinity : first + number(values.seeds, 'seeds') - 1
  const totals = createTotals()
  let saidMs = Date.now()
  let clean = true
  for (let seed = first; seed <= last && Date.now() < endMs; seed += 1) {
    const options = optionsFor(seed)
    const result = await simulate(options)
    totals.add(result)
    if (result.violation !== null) {
      clean = false
      await report(options, result)
    }
    if (Date.now() - saidMs > 5000) {
      console.log(totals.line())
      saidMs = Date.now()
    }
  }
  console.log(totals.summary())
  return clean
}

function optionsFor(seed: number): SimOptions {
  const faultModel = model(values.model)
  const inTurn = faultModel === 'fail-stop' && values.beyond ? (['ledger'] as const) : workloadNames
  const workload = workloadNames.find((name) => name === values.workload) ?? inTurn[seed % inTurn.length]
  if (workload === undefined || (values.workload !== undefined && workload !== values.workload))
    throw new Error(`--workload must be one of ${workloadNames.join(', ')}`)
  return {
    seed,
    workload,
    replicas: values.replicas === undefined ? null : number(values.replicas, 'replicas'),
    faultModel,
    beyond: values.beyond,
    kinds: values.faults === undefined ? null : kindsOf(values.faults),
    only: values.only === undefined ? null : new Set(values.only.split(',').map(Number)),
    durationMs: values.duration === undefined ? null : number(values.duration, 'duration') * 1000,
    maxEvents: values.steps === undefined ? null : number(values.steps, 'steps'),
    keepEvents: values.trace === undefined ? 0 : 10_000_000,
  }
}

async function repeat(options: SimOptions): Promise<boolean> {
  const totals = createTotals()
  const result = await simulate(options)
  if (values.trace !== undefined)
    writeFileSync(values.trace, result.trace.map((event) => `${traceLine(event)}\n`).join(''))
  totals.add(result)
  console.log(totals.summary())
  console.log(`seed ${options.seed}, ${result.replicas} replicas, digest of the trace ${result.digest}`)
  if (result.violation === null) return true
  await report(options, result)
  return false
}

/** Says what was violated, how to repeat it, and what happened right before; writes the page. */
async function report(options: SimOptions, result: SimResult): Promise<void> {
  const { violation } = result
  if (violation === null) return
  console.log(
    `\nVIOLATED: ${violation.rule} (seed ${result.seed}, ${result.replicas} replicas, at ${(result.simulatedMs / 1000).toFixed(3)} s)`,
  )
  console.log(violation.message)
  let needed = options
  if (!values['no-shrink']) {
    needed = await shrink(options, violation)
    console.log(`\nneeds ${needed.only?.size ?? 0} of ${result.plan.length} faults:`)
  }
  const again = await simulate({ ...needed, keepEvents: 600 })
  for (const line of describePlan(again.plan, needed.only)) console.log(`  ${line}`)
  console.log('\nlast events:')
  for (const event of again.trace.slice(-40)) console.log(traceLine(event).slice(0, 220))
  const command = commandFor(needed)
  mkdirSync(values.out, { recursive: true })
  const page = join(values.out, `seed-${result.seed}.html`)
  writeFileSync(
    page,
    tracePage({
      title: `seed ${result.seed}`,
      command,
      violation: again.violation,
      faults: describePlan(again.plan, needed.only),
      events: again.trace,
    }),
  )
  console.log(`\nrepeat: ${command}\npage:   ${page}\n`)
}

function commandFor(options: SimOptions): string {
  const parts = [`npm run sim -- --seed ${options.seed} --workload ${options.workload}`]
  if (options.faultModel !== 'majority') parts.push(`--model ${options.faultModel}`)
  if (options.beyond) parts.push('--beyond')
  if (options.replicas !== null) parts.push(`--replicas ${options.replicas}`)
  if (options.durationMs !== null) parts.push(`--duration ${options.durationMs / 1000}`)
  if (options.kinds !== null) parts.push(`--faults ${options.kinds.join(',') || 'none'}`)
  if (options.only !== null) parts.push(`--only ${[...options.only].join(',') || '0'}`)
  return parts.join(' ')
}

function kindsOf(text: string): readonly FaultKind[] {
  if (text === 'none') return []
  return text.split(',').map((name) => {
    const kind = allFaultKinds.find((known) => known === name)
    if (kind === undefined) throw new Error(`${name} is no fault; known are ${allFaultKinds.join(', ')}`)
    return kind
  })
}

function model(name: string): FaultModel {
  if (name === 'majority' || name === 'fail-stop') return name
  throw new Error('--model must be majority or fail-stop')
}

function number(text: string, name: string): number {
  const value = Number(text)
  if (!Number.isFinite(value)) throw new Error(`--${name} must be a number`)
  return value
}
