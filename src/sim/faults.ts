import type { ReplicaId } from '../base/ids.ts'
import type { Random } from '../base/random.ts'

/** Whom a fault hits: a replica, or whoever leads when it comes. */
export type Target = ReplicaId | 'leader'

/** Something that goes wrong, at a moment. Data, so that a run can be repeated with some of them left out. */
export type Fault = { readonly number: number; readonly atMs: number } & FaultBody

type FaultBody =
  /** The process is killed; `power`: the machine stops, and forgets what was not flushed. */
  | { readonly kind: 'crash'; readonly target: Target; readonly power: boolean; readonly downMs: number }
  /** The same, at the so-manieth step of a file operation from now. */
  | {
      readonly kind: 'crashAtOperation'
      readonly target: Target
      readonly power: boolean
      readonly operations: number
      readonly downMs: number
    }
  /** All machines at once; each comes back by itself. */
  | { readonly kind: 'blackout'; readonly downMs: readonly number[] }
  /** All machines at once, at the so-manieth step of a file operation of the target. */
  | {
      readonly kind: 'blackoutAtOperation'
      readonly target: Target
      readonly operations: number
      readonly downMs: readonly number[]
    }
  /** All processes stand still together, so that all time-outs end together; then each crashes at one of its next file operations, or not. */
  | {
      readonly kind: 'storm'
      readonly durationMs: number
      readonly seed: number
      readonly power: boolean
      readonly downMs: number
    }
  /** Something happens to each new leader, soon after it is elected, some times. */
  | {
      readonly kind: 'regicide'
      /**
       * `coma`: it stands still, and is cut off when it goes on. `freeze`: its disk hangs and nobody hears it; some time after others do again the disk goes on, and it
       * is killed at one of the next file operations.
       */
      readonly action: 'crash' | 'isolate' | 'tail' | 'stall' | 'coma' | 'freeze'
      readonly power: boolean
      readonly afterMs: number
      readonly durationMs: number
      readonly times: number
    }
  /** Each new leader, soon after it is elected, some times, hears again what it was sent before. */
  | { readonly kind: 'echo'; readonly afterMs: number; readonly times: number }
  /** Two replicas do not hear each other, and one between them crashes again and again: at file operations, or after a while. */
  | {
      readonly kind: 'wedge'
      readonly seed: number
      readonly power: boolean
      readonly everyMs: number
      readonly downMs: number
      readonly times: number
    }
  /** One after another crashes, in an order drawn from `seed`, with little time in between, until none is left; then one after another comes back, in another order. */
  | {
      readonly kind: 'dominoes'
      readonly seed: number
      readonly power: boolean
      readonly everyMs: number
      readonly backEveryMs: number
    }
  /** Each new leader, some times, is left alone soon after it is elected: the others crash. It goes on for a while, crashes too, and is the last to come back. */
  | {
      readonly kind: 'forsake'
      readonly power: boolean
      readonly afterMs: number
      readonly aloneMs: number
      readonly downMs: number
      readonly times: number
    }
  /** Most replicas go on without the rest for a while, and then crash: those that are left lag behind, are no quorum, and are all that clients find. */
  | { readonly kind: 'outage'; readonly seed: number; readonly aheadMs: number; readonly downMs: number }
  /** One after another is killed and comes back. */
  | { readonly kind: 'rolling'; readonly everyMs: number; readonly downMs: number }
  /** The process does nothing for a while, then goes on. */
  | { readonly kind: 'stall'; readonly target: Target; readonly durationMs: number }
  /** Replicas of one side (bits) get nothing to, or `oneWay` from, the other side. */
  | {
      readonly kind: 'partition'
      readonly side: number
      readonly oneWay: boolean
      readonly durationMs: number
    }
  /** The leader alone. */
  | { readonly kind: 'isolate'; readonly target: Target; readonly durationMs: number }
  /**
   * The links change again and again: `whole` cuts the cluster in two at random each time, `tail` leaves whoever leads with one follower, so that entries are in few logs
   * when the next leader is elected (the schedule of Raft's figure 8).
   */
  | {
      readonly kind: 'flaps'
      readonly style: 'whole' | 'tail'
      readonly seed: number
      readonly everyMs: number
      readonly times: number
    }
  /** Each directed link is cut by chance. */
  | { readonly kind: 'patchy'; readonly seed: number; readonly durationMs: number }
  /** What the target sends is lost, and its links stay up. */
  | { readonly kind: 'mute'; readonly target: Target; readonly durationMs: number }
  /** All links lose, double and turn around messages. */
  | {
      readonly kind: 'noise'
      readonly lossPpm: number
      readonly duplicatePpm: number
      readonly reorderPpm: number
      readonly durationMs: number
    }
  | {
      readonly kind: 'slowLinks'
      readonly target: Target
      readonly delayMs: number
      readonly bytesPerMs: number
      readonly durationMs: number
    }
  | {
      readonly kind: 'slowDisk'
      readonly target: Target
      readonly factor: number
      readonly durationMs: number
    }
  | { readonly kind: 'hangingDisk'; readonly target: Target; readonly durationMs: number }
  /** So many bytes are left on the disk. */
  | {
      readonly kind: 'fullDisk'
      readonly target: Target
      readonly leftBytes: number
      readonly durationMs: number
    }
  /** The next write or flush fails: the replica must stop. */
  | {
      readonly kind: 'failingDisk'
      readonly target: Target
      readonly flush: boolean
      readonly downMs: number
    }
  /** A bit of the log flips, or a sector of it that was flushed long ago reads as zeros, while the replica is down. */
  | { readonly kind: 'rot'; readonly target: Target; readonly downMs: number; readonly sector: boolean }
  /** The disk is lost. The replica is replaced by a new one. */
  | { readonly kind: 'wipe'; readonly target: Target }
  /** More than any cluster survives: so many machines are lost for good, or get so many flipped bits (`rot`), that what is left must stop safely. Nobody repairs anything any more. */
  | { readonly kind: 'ruin'; readonly rot: boolean; readonly seed: number }
  /** A dial is refused although the process lives: the target takes the replicas of `others` (bits) for dead, as far as they run. */
  | { readonly kind: 'libel'; readonly target: Target; readonly others: number }
  /** Two sides (bits) are cut from each other, and from the middle of it on those of each side take those of the other for dead; or only those of the one. */
  | {
      readonly kind: 'schism'
      readonly side: number
      readonly oneWay: boolean
      readonly mutual: boolean
      readonly durationMs: number
    }
  /** Connections of clients to the replica carry nothing, or are reset. */
  | {
      readonly kind: 'clients'
      readonly target: Target
      readonly reset: boolean
      readonly durationMs: number
    }
  | { readonly kind: 'clockJump'; readonly target: Target; readonly byMs: number }
  | { readonly kind: 'transfer' }
  /** Somebody joins, leaves, is replaced. */
  | { readonly kind: 'membership'; readonly choice: number }

export type FaultKind = FaultBody['kind']

export const faultKinds: readonly FaultKind[] = [
  'crash',
  'crashAtOperation',
  'blackout',
  'blackoutAtOperation',
  'storm',
  'regicide',
  'echo',
  'wedge',
  'outage',
  'rolling',
  'stall',
  'partition',
  'isolate',
  'flaps',
  'patchy',
  'mute',
  'noise',
  'slowLinks',
  'slowDisk',
  'hangingDisk',
  'fullDisk',
  'failingDisk',
  'rot',
  'wipe',
  'clients',
  'clockJump',
  'transfer',
  'membership',
]

/** Those that the fail-stop model survives: replicas crash, and whoever is suspected is dead. */
export const failStopFaults: readonly FaultKind[] = [
  'dominoes',
  'crash',
  'crashAtOperation',
  'blackout',
  'blackoutAtOperation',
  'rolling',
  'slowLinks',
  'slowDisk',
  'failingDisk',
  'clients',
  'clockJump',
  'transfer',
  'membership',
  'forsake',
]

/** Those that break what the fail-stop model rests on: the network is cut, processes stand still, and who lives is taken for dead. */
export const failStopBreakers: readonly FaultKind[] = [
  'libel',
  'schism',
  'partition',
  'isolate',
  'flaps',
  'patchy',
  'wedge',
  'stall',
  'storm',
  'regicide',
]

/**
 * Draws a plan. Most plans have a few kinds of faults only, since some faults hide what others would show (swarm testing).
 *
 * @param kinds what may happen at all.
 * @param atLeastOneOf at least one of these kinds is among them; none when it is empty.
 * @param ruin at some time comes what no cluster survives.
 */
export function drawFaults(
  random: Random,
  options: {
    readonly replicas: number
    readonly durationMs: number
    readonly kinds: readonly FaultKind[]
    readonly atLeastOneOf: readonly FaultKind[]
    readonly ruin: boolean
  },
): readonly Fault[] {
  const { replicas, durationMs, kinds, atLeastOneOf, ruin } = options
  const left = [...kinds]
  const usable: FaultKind[] = []
  for (let wanted = [1, 2, 3, 4, 6, 9, 99][random.below(7)] ?? 3; wanted > 0 && left.length > 0; wanted -= 1)
    usable.push(...left.splice(random.below(left.length), 1))
  if (atLeastOneOf.length > 0 && !usable.some((kind) => atLeastOneOf.includes(kind)))
    usable.push(...atLeastOneOf.slice(random.below(atLeastOneOf.length)).slice(0, 1))
  const gapMs = skewed(random, 60, 3000)
  /** Of ten faults so many hit whoever leads. */
  const atLeader = random.below(11)
  const faults: Fault[] = []
  let atMs = 200 + random.below(2000)
  while (atMs < durationMs) {
    const kind = usable[random.below(usable.length)]
    if (kind === undefined) break
    const target: Target = random.below(10) < atLeader ? 'leader' : 1 + random.below(replicas)
    faults.push({ number: faults.length + 1, atMs, ...drawBody(random, kind, target, replicas) })
    atMs += 1 + random.below(2 * gapMs)
  }
  if (ruin) {
    const ruinMs = Math.round(durationMs * (0.3 + random.below(60) / 100))
    faults.push({ number: faults.length + 1, atMs: ruinMs, ...drawBody(random, 'ruin', 'leader', replicas) })
  }
  return faults
}

function drawBody(random: Random, kind: FaultKind, target: Target, replicas: number): FaultBody {
  const durationMs = skewed(random, 50, 6000)
  const downMs = skewed(random, 20, 8000)
  const power = random.below(2) === 0
  switch (kind) {
    case 'crash':
      return { kind, target, power, downMs }
    case 'crashAtOperation':
      return { kind, target, power, operations: 1 + random.below(60), downMs }
    case 'blackout':
      return { kind, downMs: Array.from({ length: 9 }, () => skewed(random, 20, 3000)) }
    case 'blackoutAtOperation':
      return {
        kind,
        target,
        operations: 1 + random.below(12),
        downMs: Array.from({ length: 9 }, () => skewed(random, 20, 3000)),
      }
    case 'storm':
      return {
        kind,
        durationMs: skewed(random, 300, 1500),
        seed: random.below(1_000_000),
        power,
        downMs: skewed(random, 5, 500),
      }
    case 'regicide':
      return {
        kind,
        action:
          (['crash', 'isolate', 'tail', 'stall', 'coma', 'freeze'] as const)[random.below(6)] ?? 'crash',
        power,
        afterMs: skewed(random, 1, 300),
        durationMs: skewed(random, 100, 2000),
        times: 1 + random.below(10),
      }
    case 'echo':
      return { kind, afterMs: skewed(random, 1, 50), times: 1 + random.below(20) }
    case 'wedge':
      return {
        kind,
        seed: random.below(1_000_000),
        power,
        everyMs: skewed(random, 50, 1500),
        downMs: skewed(random, 1, 200),
        times: 2 + random.below(12),
      }
    case 'dominoes':
      return {
        kind,
        seed: random.below(1_000_000),
        power,
        everyMs: skewed(random, 1, 1200),
        backEveryMs: skewed(random, 5, 2500),
      }
    case 'forsake':
      return {
        kind,
        power,
        afterMs: skewed(random, 1, 100),
        aloneMs: skewed(random, 100, 3000),
        downMs: skewed(random, 200, 5000),
        times: 1 + random.below(10),
      }
    case 'outage':
      return {
        kind,
        seed: random.below(1_000_000),
        aheadMs: skewed(random, 100, 3000),
        downMs: skewed(random, 1000, 25_000),
      }
    case 'rolling':
      return { kind, everyMs: 300 + random.below(1500), downMs: 20 + random.below(800) }
    case 'stall':
      return { kind, target, durationMs: skewed(random, 20, 4000) }
    case 'partition':
      return {
        kind,
        side: 1 + random.below(Math.max(1, 2 ** replicas - 2)),
        oneWay: random.below(3) === 0,
        durationMs,
      }
    case 'isolate':
      return { kind, target, durationMs }
    case 'flaps':
      return {
        kind,
        style: random.below(2) === 0 ? 'whole' : 'tail',
        seed: random.below(1_000_000),
        everyMs: skewed(random, 100, 3000),
        times: 2 + random.below(10),
      }
    case 'patchy':
      return { kind, seed: random.below(1_000_000), durationMs }
    case 'mute':
      return { kind, target, durationMs }
    case 'noise':
      return {
        kind,
        lossPpm: random.below(200_000),
        duplicatePpm: random.below(200_000),
        reorderPpm: random.below(200_000),
        durationMs,
      }
    case 'slowLinks':
      return {
        kind,
        target,
        delayMs: 1 + random.below(150),
        bytesPerMs: 5 + random.below(2000),
        durationMs,
      }
    case 'slowDisk':
      return { kind, target, factor: 2 + random.below(200), durationMs }
    case 'hangingDisk':
      return { kind, target, durationMs }
    case 'fullDisk':
      return { kind, target, leftBytes: random.below(40_000), durationMs }
    case 'failingDisk':
      return { kind, target, flush: random.below(2) === 0, downMs }
    case 'rot':
      return { kind, target, downMs, sector: random.below(2) === 0 }
    case 'wipe':
      return { kind, target }
    case 'ruin':
      return { kind, rot: random.below(3) === 0, seed: random.below(1_000_000) }
    case 'libel':
      return { kind, target, others: 1 + random.below(2 ** replicas - 1) }
    case 'schism':
      return {
        kind,
        side: 1 + random.below(Math.max(1, 2 ** replicas - 2)),
        oneWay: random.below(4) === 0,
        mutual: random.below(3) > 0,
        durationMs,
      }
    case 'clients':
      return { kind, target, reset: random.below(2) === 0, durationMs }
    case 'clockJump': {
      const byMs = skewed(random, 10, 3_600_000)
      return { kind, target, byMs: random.below(2) === 0 ? byMs : -byMs }
    }
    case 'transfer':
      return { kind }
    case 'membership':
      return { kind, choice: random.below(1_000_000) }
    default:
      return kind
  }
}

/** Small values as likely as large ones: the order of magnitude is what is drawn. */
export function skewed(random: Random, low: number, high: number): number {
  return Math.round(low * (high / low) ** (random.below(1001) / 1000))
}

export function describeFault(fault: Fault): string {
  const { number, atMs, kind, ...rest } = fault
  const parameters = Object.entries(rest).map(([name, value]) => `${name} ${String(value)}`)
  return `#${number} at ${(atMs / 1000).toFixed(3)} s: ${[kind, ...parameters].join(', ')}`
}
