import type { Random } from '../../src/base/random.ts'

/** What can happen to one replica. All of them count against what the fault model lets fail at a time. */
export type HitKind =
  /** kill -9, and a new start. */
  | 'kill'
  /** A graceful stop, and a new start. */
  | 'stop'
  /** kill -9 again and again, soon after each start. */
  | 'crashLoop'
  /** SIGSTOP, and SIGCONT. */
  | 'freeze'
  /** Its disk takes no more. */
  | 'fullDisk'
  /** The cable is pulled: neither replicas nor clients reach it. */
  | 'unplug'
  /** The same, and then the process ends: nobody is told. */
  | 'power'
  /** The other replicas do not reach it, nor it them; clients do. */
  | 'isolate'
  /** Nothing that the other replicas send arrives. */
  | 'deaf'
  /** Nothing that it sends arrives at other replicas. */
  | 'mute'
  /** All that it sends to other replicas goes slowly. */
  | 'slow'
  /** Clients do not reach it, nor it them. */
  | 'noClients'

export const hitKinds = [
  'kill',
  'stop',
  'crashLoop',
  'freeze',
  'fullDisk',
  'unplug',
  'power',
  'isolate',
  'deaf',
  'mute',
  'slow',
  'noClients',
] as const satisfies readonly HitKind[]

/** Those that the fail-stop model knows: processes end. */
export const crashKinds: readonly HitKind[] = ['kill', 'stop', 'crashLoop']

/** Those that take a network of hosts. */
export const networkKinds: ReadonlySet<HitKind> = new Set([
  'unplug',
  'power',
  'isolate',
  'deaf',
  'mute',
  'slow',
  'noClients',
])

export interface Hit {
  readonly kind: HitKind
  /** A replica, or whoever leads then. The executor takes another one when that one is hit already. */
  readonly target: number | 'leader'
  /** After the one before it in its lane. */
  readonly afterMs: number
  readonly durationMs: number
}

export interface MemberStep {
  /** `leave`: it is removed while it runs, and a new one takes its seat. `replace`: it dies, its disk is lost, and a new one takes its seat. `transfer`: it is to lead. */
  readonly kind: 'leave' | 'replace' | 'transfer'
  readonly seat: number
  readonly afterMs: number
}

/** What goes wrong in one round. Data, drawn from a seed. */
export type Round =
  /** In each lane one replica at a time is hit, so never more than there are lanes. */
  | { readonly kind: 'lanes'; readonly lanes: readonly (readonly Hit[])[] }
  /** Whoever leads is hit, again and again. */
  | { readonly kind: 'hunt'; readonly hits: readonly Hit[] }
  /** One replica after another starts anew. */
  | { readonly kind: 'rolling'; readonly gracefully: boolean; readonly order: readonly number[] }
  /** Links between replicas are cut by chance, in one direction or both, and others soon after. */
  | {
      readonly kind: 'links'
      readonly steps: readonly {
        readonly cuts: readonly (readonly [from: number, to: number])[]
        readonly durationMs: number
      }[]
    }
  /** The replica set changes, one step after another, while others are hit in their lanes. */
  | {
      readonly kind: 'members'
      readonly steps: readonly MemberStep[]
      readonly lanes: readonly (readonly Hit[])[]
    }
  /** More fails than the fault model allows. Nothing may be lost, and all must be back afterwards. */
  | {
      readonly kind: 'beyond'
      readonly how: 'kill' | 'freeze' | 'shatter'
      readonly replicas: readonly number[]
      readonly durationMs: number
      /** The order and the pauses in which they come back. */
      readonly back: readonly { readonly replica: number; readonly afterMs: number }[]
    }

export interface PlanOptions {
  readonly replicas: number
  /** How many may fail at a time. */
  readonly mayFail: number
  /** The hits to choose from. */
  readonly kinds: readonly HitKind[]
  /** Replicas whose disk can be made full. */
  readonly smallDisks: readonly number[]
  readonly hasNetwork: boolean
  /** Rounds in which the replica set changes come up. */
  readonly changesMembers: boolean
  /** How long a round takes, roughly, without coming back. */
  readonly durationMs: number
}

/** Draws one round. */
export function planRound(random: Random, options: PlanOptions): Round {
  if (options.changesMembers && random.below(2) === 0) return members(random, options)
  const choice = random.below(10)
  if (choice < 4) return lanes(random, options)
  if (choice < 6) return hunt(random, options)
  if (choice < 7) return rolling(random, options)
  if (choice < 8 && options.hasNetwork) return links(random, options)
  return beyond(random, options)
}

function lanes(random: Random, options: PlanOptions): Round {
  return {
    kind: 'lanes',
    lanes: Array.from({ length: Math.max(1, options.mayFail) }, () => row(random, options, null)),
  }
}

/** A replica that changes counts as one that fails. */
function members(random: Random, options: PlanOptions): Round {
  const steps = Array.from({ length: 2 + random.below(3) }, (): MemberStep => {
    const kind = pick(random, ['leave', 'replace', 'transfer'] as const) ?? 'transfer'
    return { kind, seat: 1 + random.below(options.replicas), afterMs: random.below(3000) }
  })
  const lanes = Array.from({ length: options.mayFail - 1 }, () => row(random, options, null))
  return { kind: 'members', steps, lanes }
}

function hunt(random: Random, options: PlanOptions): Round {
  const sudden = options.kinds.filter(
    (kind) => kind !== 'slow' && kind !== 'fullDisk' && kind !== 'noClients',
  )
  return { kind: 'hunt', hits: row(random, { ...options, kinds: sudden }, 'leader') }
}

/** Hits one after another for as long as the round takes. */
function row(random: Random, options: PlanOptions, target: 'leader' | null): readonly Hit[] {
  const hits: Hit[] = []
  for (let atMs = 0; atMs < options.durationMs;) {
    const kind = pick(random, options.kinds) ?? 'kill'
    const afterMs = 100 + random.below(random.below(2) === 0 ? 500 : 3000)
    const durationMs = 50 + random.below(random.below(3) === 0 ? 8000 : 2500)
    const drawn = random.below(3) === 0 ? ('leader' as const) : 1 + random.below(options.replicas)
    const small = pick(random, options.smallDisks) ?? 1
    hits.push({ kind, target: target ?? (kind === 'fullDisk' ? small : drawn), afterMs, durationMs })
    atMs += afterMs + durationMs
  }
  return hits
}

function rolling(random: Random, { replicas }: PlanOptions): Round {
  return { kind: 'rolling', gracefully: random.below(2) === 0, order: shuffled(random, ids(replicas)) }
}

function links(random: Random, { replicas, durationMs }: PlanOptions): Round {
  const steps: { cuts: (readonly [number, number])[]; durationMs: number }[] = []
  for (let atMs = 0; atMs < durationMs;) {
    const oneIn = 2 + random.below(5)
    const bothWays = random.below(2) === 0
    const cuts: (readonly [number, number])[] = []
    for (const from of ids(replicas))
      for (const to of ids(replicas)) {
        if (from === to || (bothWays && from > to) || random.below(oneIn) > 0) continue
        cuts.push([from, to])
        if (bothWays) cuts.push([to, from])
      }
    const stepMs = 300 + random.below(4000)
    steps.push({ cuts, durationMs: stepMs })
    atMs += stepMs
  }
  return { kind: 'links', steps }
}

function beyond(random: Random, { replicas, mayFail, hasNetwork, kinds }: PlanOptions): Round {
  const ways = [
    'kill' as const,
    ...(kinds.includes('freeze') ? (['freeze'] as const) : []),
    ...(hasNetwork ? (['shatter'] as const) : []),
  ]
  const all = shuffled(random, ids(replicas))
  const hit = random.below(2) === 0 ? all : all.slice(0, mayFail + 1)
  return {
    kind: 'beyond',
    how: pick(random, ways) ?? 'kill',
    replicas: hit,
    durationMs: random.below(6000),
    back: shuffled(random, hit).map((replica) => ({
      replica,
      afterMs: random.below(3) * random.below(2000),
    })),
  }
}

/** The most replicas that a round hits at a time. */
export function mostHit(round: Round): number {
  switch (round.kind) {
    case 'lanes':
      return round.lanes.length
    case 'members':
      return round.lanes.length + 1
    case 'hunt':
    case 'rolling':
      return 1
    case 'links':
      return Infinity
    case 'beyond':
      return round.replicas.length
  }
}

/** A round in words, a line for each thing that goes wrong. */
export function describeRound(round: Round): readonly string[] {
  switch (round.kind) {
    case 'lanes':
      return round.lanes.flatMap((hits, at) => [`lane ${at + 1}:`, ...hits.map(describeHit)])
    case 'members':
      return [
        'the replica set changes:',
        ...round.steps.map(({ kind, seat, afterMs }) => `  after ${afterMs} ms ${kind} at seat ${seat}`),
        ...describeRound({ kind: 'lanes', lanes: round.lanes }),
      ]
    case 'hunt':
      return ['hunt for the leader:', ...round.hits.map(describeHit)]
    case 'rolling':
      return [
        `one after another is ${round.gracefully ? 'stopped' : 'killed'} and started: ${names(round.order)}`,
      ]
    case 'links':
      return round.steps.map(
        ({ cuts, durationMs }) =>
          `  for ${durationMs} ms: ${cuts.map(([from, to]) => `r${from}>r${to}`).join(' ') || 'no cuts'}`,
      )
    case 'beyond':
      return [
        `${round.how} ${names(round.replicas)} at once for ${round.durationMs} ms; back ${round.back.map(({ replica, afterMs }) => `r${replica} after ${afterMs} ms`).join(', ')}`,
      ]
  }
}

function describeHit({ kind, target, afterMs, durationMs }: Hit): string {
  const whom = target === 'leader' ? 'the leader' : `r${target}`
  return `  after ${afterMs} ms ${kind} ${whom} for ${durationMs} ms`
}

function names(replicas: readonly number[]): string {
  return replicas.map((id) => `r${id}`).join(' ')
}

function ids(replicas: number): readonly number[] {
  return Array.from({ length: replicas }, (_, at) => at + 1)
}

function pick<T>(random: Random, from: readonly T[]): T | undefined {
  return from[random.below(Math.max(1, from.length))]
}

function shuffled<T>(random: Random, values: readonly T[]): readonly T[] {
  const left = [...values]
  return values.flatMap(() => left.splice(random.below(left.length), 1))
}
