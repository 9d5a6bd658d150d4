import { unreachable } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import { seededRandom, type Random } from '../base/random.ts'
import type { ConfigurationChange } from '../raft/types.ts'
import { addressOf, type Cluster, type Machine } from './cluster.ts'
import { describeFault, type Fault, type FaultKind, type Target } from './faults.ts'
import type { LinkCondition } from './network.ts'
import type { Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'
import type { Clients } from './workload.ts'

/** Makes faults happen to a cluster, and mends what an operator would mend. */
export interface Injector {
  inject(fault: Fault): void
  /** Ends every fault: links and disks are well, every machine starts that can. */
  heal(): void
  /** Nothing is left for an operator to do. */
  readonly settled: boolean
  /** What no cluster survives has come: `lost` when machines are gone, `rot` when bits have flipped; null as long as it has not. */
  readonly ruin: { readonly how: 'lost' | 'rot'; readonly atMs: number } | null
  readonly counts: ReadonlyMap<FaultKind, number>
}

interface Wellness {
  readonly links: Map<LinkCondition, LinkCondition>
}

export function createInjector(options: {
  readonly cluster: Cluster
  readonly scheduler: Scheduler
  readonly random: Random
  readonly trace: Trace
  readonly clients: () => Clients
  /** Calls back whenever somebody is first seen to lead in a term. */
  readonly onLeader: (listener: (replica: ReplicaId) => void) => void
  /** Replicas that a disk may be lost of, in all: the model survives no more at a time. */
  readonly mayLoseDisks: boolean
  /** A replica can be removed while it runs; otherwise it must be stopped before. */
  readonly removesRunning: boolean
}): Injector {
  const { cluster, scheduler, random, trace } = options
  const counts = new Map<FaultKind, number>()
  const normal: Wellness = { links: new Map() }
  const repairs = new Set<ReplicaId>()
  let healed = false
  let changing = false
  let ruin: Injector['ruin'] = null
  /** Added to the configuration, not promoted yet. */
  const joining = new Set<ReplicaId>()

  function resolve(target: Target): Machine | null {
    if (target !== 'leader') return cluster.machines.get(target) ?? null
    return cluster.leader()
  }

  function link(from: ReplicaId, to: ReplicaId): LinkCondition {
    const condition = cluster.network.condition(from, to)
    if (!normal.links.has(condition)) normal.links.set(condition, { ...condition })
    return condition
  }

  function eachLink(body: (condition: LinkCondition, from: ReplicaId, to: ReplicaId) => void): void {
    for (const from of cluster.machines.keys())
      for (const to of cluster.machines.keys()) if (from !== to) body(link(from, to), from, to)
  }

  function mendLinks(): void {
    for (const [condition, well] of normal.links) Object.assign(condition, well)
  }

  function later(delayMs: number, action: () => void): void {
    scheduler.at(scheduler.nowMs + delayMs, null, () => {
      if (!healed) action()
    })
  }

  /** Never for a shorter time than it does already: what came in the meantime waits until then, and what comes later must not overtake it. */
  function standStill({ process }: Machine, durationMs: number): void {
    if (process !== null)
      process.stalledUntilMs = Math.max(process.stalledUntilMs, scheduler.nowMs + durationMs)
  }

  function mendDisk(machine: Machine): void {
    const { condition } = machine.disk
    Object.assign(condition, machine.soundDisk)
    machine.disk.setHanging(false)
    machine.store.full(false)
  }

  /** Whether the disk of one more replica may be lost: not while fewer would be left than the model needs. */
  function mayLose(machine: Machine): boolean {
    if (!options.mayLoseDisks || ruin !== null || repairs.size > 0 || changing || joining.size > 0)
      return false
    const status = cluster.leader()?.process?.engine?.status()
    if (status === undefined || machine.retired !== null) return false
    const voters = status.members.filter((member) => member.voter)
    return voters.length >= 3 && voters.some((member) => member.id === machine.id)
  }

  function sleep(delayMs: number): Promise<null> {
    return new Promise((resolve) => scheduler.at(scheduler.nowMs + delayMs, null, () => resolve(null)))
  }

  /** Asks whoever leads, again and again, until it is done. */
  async function change(wanted: ConfigurationChange, attempts: number): Promise<boolean> {
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      if (ruin !== null) return false
      const engine = cluster.leader()?.process?.engine ?? null
      // A leader that dies answers nobody.
      const result =
        engine === null ? null : await Promise.race([engine.changeMembership(wanted), sleep(3000)])
      if (result !== null) {
        trace.add(
          'change',
          0,
          result.ok ? 1 : 0,
          () => `${JSON.stringify(wanted)}: ${JSON.stringify(result)}`,
        )
        if (result.ok || result.refused === (wanted.kind === 'remove' ? 'notMember' : 'alreadyMember')) {
          cluster.membershipChanged()
          return true
        }
      }
      await sleep(500)
    }
    return false
  }

  async function join(): Promise<void> {
    const machine = cluster.newMachine()
    joining.add(machine.id)
    if (await change({ kind: 'addLearner', id: machine.id, address: addressOf(machine.id) }, 400)) {
      cluster.start(machine.id)
      await change({ kind: 'promote', id: machine.id }, 400)
    }
    joining.delete(machine.id)
  }

  /** Takes a replica out whose disk is lost, or may have lost something, and puts a new one in its place. */
  async function replace(id: ReplicaId, afterMs: number): Promise<void> {
    repairs.add(id)
    await sleep(afterMs)
    if (await change({ kind: 'remove', id }, 400)) {
      if (cluster.machines.get(id)?.retired === null) cluster.retire(id, 'removed')
      await join()
    }
    repairs.delete(id)
  }

  async function changeAtRandom(choice: number): Promise<void> {
    const status = cluster.leader()?.process?.engine?.status()
    if (status === undefined || ruin !== null || changing || joining.size > 0 || repairs.size > 0) return
    const pick = seededRandom(choice)
    const voters = status.members.filter((member) => member.voter)
    const leaves = voters[pick.below(voters.length)]
    changing = true
    // Another change at the same time, which one of the two has to wait for.
    const [other] = voters
    if (other !== undefined && pick.below(3) === 0)
      void cluster
        .leader()
        ?.process?.engine?.changeMembership({ kind: 'setAddress', id: other.id, address: other.address })
    if (leaves === undefined || voters.length === 1 || (voters.length < 7 && pick.below(2) === 0)) {
      await join()
    } else if (!options.removesRunning) {
      cluster.crash(leaves.id, false, Infinity)
      if (await change({ kind: 'remove', id: leaves.id }, 20)) cluster.retire(leaves.id, 'removed')
      else cluster.start(leaves.id)
    } else if (await change({ kind: 'remove', id: leaves.id }, 400)) {
      // It is stopped a while after it was told, or not told.
      await sleep(pick.below(3000))
      cluster.retire(leaves.id, 'removed')
    }
    changing = false
  }

  function dominoes({ seed, power, everyMs, backEveryMs }: Fault & { kind: 'dominoes' }): void {
    const pick = seededRandom(seed)
    const running = cluster.running().map(({ id }) => id)
    const falling = shuffled(running, pick)
    const rising = shuffled(running, pick)
    const lastMs = falling.length * everyMs
    let atMs = 0
    for (const id of falling) {
      later(atMs, () => cluster.crash(id, power, Infinity))
      atMs += pick.below(2 * everyMs)
    }
    atMs = Math.max(atMs, lastMs)
    for (const id of rising) {
      atMs += pick.below(2 * backEveryMs)
      later(atMs, () => cluster.start(id))
    }
  }

  /** Fewer machines are left than any configuration that one of them may know needs. */
  function loseMost(chance: Random): void {
    const running = [...cluster.running()]
    const fewest = Math.min(...running.map(({ process }) => process?.engine?.status().voters ?? 0))
    const kept = new Set<ReplicaId>()
    while (running.length > 0 && kept.size < Math.floor((fewest - 1) / 2))
      for (const { id } of running.splice(chance.below(running.length), 1)) kept.add(id)
    for (const { id, retired } of cluster.machines.values())
      if (!kept.has(id) && retired === null) cluster.retire(id, 'broken')
  }

  function flipBits(chance: Random): void {
    for (const machine of cluster.machines.values()) {
      if (machine.retired !== null || chance.below(5) === 0) continue
      cluster.crash(machine.id, chance.below(2) === 0, 20 + chance.below(2000))
      for (let bits = 1 + chance.below(4); bits > 0; bits -= 1) machine.disk.rot()
    }
  }

  /** Those of one side take those of the other for dead. */
  function partWays(fault: Fault & { readonly kind: 'schism' }): void {
    const sideOf = (id: ReplicaId): number => (fault.side >> (id - 1)) & 1
    for (const { id: at } of cluster.running())
      for (const { id: peer } of cluster.running())
        if (sideOf(at) !== sideOf(peer) && (fault.mutual || sideOf(at) === 1))
          cluster.network.refuseFalsely(at, peer)
  }

  function cutSides({ side, oneWay }: { readonly side: number; readonly oneWay: boolean }): void {
    eachLink((condition, from, to) => {
      const [a, b] = [(side >> (from - 1)) & 1, (side >> (to - 1)) & 1]
      if (a !== b && (!oneWay || a === 1)) condition.blocked = true
    })
  }

  function flap(fault: Fault & { readonly kind: 'flaps' }, chance: Random, times: number): void {
    mendLinks()
    if (times === 0) return
    const ids = [...cluster.machines.keys()]
    const leader = cluster.leader()?.id ?? ids[0] ?? 0
    const others = ids.filter((id) => id !== leader)
    const only = others[chance.below(Math.max(1, others.length))]
    const side = new Set(fault.style === 'tail' ? [leader, only] : ids.filter(() => chance.below(2) === 0))
    // Now and then all may talk for a moment.
    if (chance.below(4) > 0)
      eachLink((condition, from, to) => {
        if (side.has(from) !== side.has(to)) condition.blocked = true
      })
    later(fault.everyMs / 2 + chance.below(fault.everyMs), () => flap(fault, chance, times - 1))
  }

  function unsettle(
    fault: Fault & { readonly kind: 'wedge' },
    id: ReplicaId,
    chance: Random,
    times: number,
  ): void {
    if (times === 0) return mendLinks()
    const machine = cluster.machines.get(id)
    if (machine === undefined || machine.retired !== null) return
    if (chance.below(2) === 0) cluster.crash(id, fault.power, fault.downMs)
    else
      machine.crashIn = {
        operations: 1 + chance.below(16),
        power: fault.power,
        downMs: fault.downMs,
        all: null,
      }
    later(fault.downMs + chance.below(2 * fault.everyMs), () => unsettle(fault, id, chance, times - 1))
  }

  /** Against the next leaders. */
  const plots: {
    readonly fault: Fault & { readonly kind: 'regicide' | 'echo' | 'forsake' }
    left: number
  }[] = []
  options.onLeader((id) => {
    for (const plot of plots) {
      if (plot.left === 0 || healed) continue
      plot.left -= 1
      later(random.below(2 * plot.fault.afterMs), () => fulfil(plot.fault, id))
    }
  })

  function fulfil(fault: Fault & { readonly kind: 'regicide' | 'echo' | 'forsake' }, id: ReplicaId): void {
    switch (fault.kind) {
      case 'echo':
        return cluster.network.echo(id)
      case 'forsake':
        return forsake(fault, id)
      case 'regicide':
        return strike(fault, id)
      default:
        return fault
    }
  }

  function forsake(fault: Fault & { readonly kind: 'forsake' }, id: ReplicaId): void {
    const others = cluster.running().filter((machine) => machine.id !== id)
    trace.add('strike', id, fault.number, () => 'the new leader is left alone')
    for (const other of others) {
      cluster.crash(other.id, fault.power, Infinity)
      later(fault.aloneMs + random.below(fault.downMs), () => cluster.start(other.id))
    }
    later(fault.aloneMs, () => cluster.crash(id, fault.power, fault.downMs))
  }

  function strike(fault: Fault & { readonly kind: 'regicide' }, id: ReplicaId): void {
    const machine = cluster.machines.get(id)
    if (machine === undefined || machine.retired !== null) return
    trace.add('strike', id, fault.number, () => `${fault.action} of the new leader`)
    switch (fault.action) {
      case 'crash':
        return cluster.crash(id, fault.power, fault.durationMs)
      case 'stall':
        standStill(machine, fault.durationMs)
        return
      case 'isolate':
      case 'tail':
      case 'coma': {
        const { durationMs } = fault
        const isComa = fault.action === 'coma'
        if (isComa) standStill(machine, durationMs)
        const others = [...cluster.machines.keys()].filter((other) => other !== id)
        const only = fault.action === 'tail' ? others[random.below(Math.max(1, others.length))] : undefined
        eachLink((condition, from, to) => {
          const inside = [id, only].includes(from)
          if (inside !== [id, only].includes(to)) condition.blocked = true
        })
        later(isComa ? durationMs + 500 : durationMs, mendLinks)
        return
      }
      case 'freeze': {
        const { durationMs } = fault
        // One at a time: the next leader is to go on without it.
        if (cluster.running().some(({ disk }) => disk.condition.hanging)) return
        machine.disk.setHanging(true)
        eachLink((condition, from) => {
          if (from === id) condition.blocked = true
        })
        // Long enough for another one to be elected.
        const cutMs = durationMs + 500
        later(cutMs, mendLinks)
        later(cutMs + random.below(1000), () => {
          machine.crashIn = { operations: 1 + random.below(6), power: false, downMs: durationMs, all: null }
          mendDisk(machine)
        })
        return
      }
      default:
        unreachable(fault.action)
    }
  }

  function inject(fault: Fault): void {
    const note = (): void => {
      counts.set(fault.kind, (counts.get(fault.kind) ?? 0) + 1)
      trace.add('fault', 0, fault.number, () => describeFault(fault))
    }
    switch (fault.kind) {
      case 'blackout':
        note()
        cluster.blackout(fault.downMs)
        return
      case 'storm': {
        note()
        const chance = seededRandom(fault.seed)
        for (const machine of cluster.running()) {
          standStill(machine, fault.durationMs)
          if (chance.below(3) > 0)
            machine.crashIn = {
              operations: 1 + chance.below(8),
              power: fault.power,
              downMs: fault.downMs,
              all: null,
            }
        }
        return
      }
      case 'wedge': {
        note()
        const chance = seededRandom(fault.seed)
        const ids = [...cluster.machines.values()]
          .filter(({ retired }) => retired === null)
          .map(({ id }) => id)
        const between = ids.splice(chance.below(ids.length), 1)[0]
        const side = new Set(ids.filter(() => chance.below(2) === 0))
        eachLink((condition, from, to) => {
          if (from !== between && to !== between && side.has(from) !== side.has(to)) condition.blocked = true
        })
        if (between !== undefined) unsettle(fault, between, chance, fault.times)
        return
      }
      case 'regicide':
      case 'echo':
      case 'forsake':
        note()
        plots.push({ fault, left: fault.times })
        return
      case 'dominoes':
        note()
        dominoes(fault)
        return
      case 'outage': {
        const status = cluster.leader()?.process?.engine?.status()
        if (status === undefined || status.voters < 3) return
        note()
        const left = new Set(
          shuffled(
            status.members.filter(({ voter }) => voter).map(({ id }) => id),
            seededRandom(fault.seed),
          ).slice(0, (status.voters - 1) >> 1),
        )
        eachLink((condition, from, to) => {
          if (left.has(from) !== left.has(to)) condition.blocked = true
        })
        later(fault.aheadMs, () => {
          mendLinks()
          for (const id of cluster.machines.keys()) if (!left.has(id)) cluster.crash(id, false, fault.downMs)
        })
        return
      }
      case 'rolling':
        note()
        for (const [i, id] of [...cluster.machines.keys()].entries())
          later(i * fault.everyMs, () => cluster.crash(id, false, fault.downMs))
        return
      case 'partition':
        note()
        cutSides(fault)
        later(fault.durationMs, mendLinks)
        return
      case 'schism':
        note()
        cutSides(fault)
        later(fault.durationMs / 2, () => partWays(fault))
        later(fault.durationMs, mendLinks)
        return
      case 'flaps':
        note()
        flap(fault, seededRandom(fault.seed), fault.times)
        return
      case 'patchy': {
        note()
        const chance = seededRandom(fault.seed)
        const share = 1 + chance.below(3)
        eachLink((condition) => {
          if (chance.below(4) < share) condition.blocked = true
        })
        later(fault.durationMs, mendLinks)
        return
      }
      case 'noise':
        note()
        eachLink((condition) => {
          condition.lossPpm = fault.lossPpm
          condition.duplicatePpm = fault.duplicatePpm
          condition.reorderPpm = fault.reorderPpm
        })
        later(fault.durationMs, mendLinks)
        return
      case 'transfer': {
        const from = cluster.leader()
        const others = cluster.running().filter((machine) => machine !== from)
        const to = others[random.below(Math.max(1, others.length))]
        if (from === null || to === undefined) return
        note()
        void from.process?.engine?.transferLeadership(to.id)
        return
      }
      case 'membership':
        note()
        void changeAtRandom(fault.choice)
        return
      case 'ruin':
        note()
        ruin = { how: fault.rot ? 'rot' : 'lost', atMs: scheduler.nowMs }
        if (fault.rot) flipBits(seededRandom(fault.seed))
        else loseMost(seededRandom(fault.seed))
        return
      default:
        break
    }
    const machine = resolve(fault.target)
    if (machine === null || machine.retired !== null) return
    note()
    const { id } = machine
    switch (fault.kind) {
      case 'crash':
        cluster.crash(id, fault.power, fault.downMs)
        return
      case 'crashAtOperation':
        machine.crashIn = {
          operations: fault.operations,
          power: fault.power,
          downMs: fault.downMs,
          all: null,
        }
        return
      case 'blackoutAtOperation':
        machine.crashIn = {
          operations: fault.operations,
          power: true,
          downMs: 0,
          all: fault.downMs,
        }
        return
      case 'stall':
        standStill(machine, fault.durationMs)
        return
      case 'isolate':
        eachLink((condition, from, to) => {
          if (from === id || to === id) condition.blocked = true
        })
        later(fault.durationMs, mendLinks)
        return
      case 'mute':
        eachLink((condition, from) => {
          if (from === id) condition.lossPpm = 1_000_000
        })
        later(fault.durationMs, mendLinks)
        return
      case 'slowLinks':
        eachLink((condition, from, to) => {
          if (from !== id && to !== id) return
          condition.delayMs = fault.delayMs
          condition.bytesPerMs = fault.bytesPerMs
        })
        later(fault.durationMs, mendLinks)
        return
      case 'slowDisk':
        machine.disk.condition.writeMs = machine.soundDisk.writeMs * fault.factor
        machine.disk.condition.flushMs = machine.soundDisk.flushMs * fault.factor
        later(fault.durationMs, () => mendDisk(machine))
        return
      case 'hangingDisk':
        machine.disk.setHanging(true)
        later(fault.durationMs, () => mendDisk(machine))
        return
      case 'fullDisk':
        machine.disk.condition.capacityBytes = machine.disk.usedBytes + fault.leftBytes
        machine.store.full(true)
        later(fault.durationMs, () => mendDisk(machine))
        return
      case 'failingDisk':
        if (fault.flush) machine.disk.condition.failFlushes = true
        else machine.disk.condition.failWrites = true
        later(fault.downMs, () => mendDisk(machine))
        return
      case 'rot':
        if (!mayLose(machine)) return
        cluster.crash(id, true, fault.downMs)
        if (!fault.sector || !machine.disk.loseSector()) machine.disk.rot()
        void replace(id, fault.downMs + 2000)
        return
      case 'wipe':
        if (!mayLose(machine)) return
        cluster.retire(id, 'broken')
        machine.disk.wipe()
        machine.store.wipe()
        void replace(id, 100)
        return
      case 'libel':
        for (const peer of cluster.running())
          if (peer !== machine && ((fault.others >> (peer.id - 1)) & 1) === 1)
            cluster.network.refuseFalsely(id, peer.id)
        return
      case 'clients':
        if (fault.reset) options.clients().reset(id)
        else options.clients().freeze(id, fault.durationMs)
        return
      case 'clockJump':
        machine.clockCondition.wallOffsetMs += fault.byMs
        return
      default:
        unreachable(fault)
    }
  }

  return {
    inject,
    counts,
    get settled() {
      return repairs.size === 0 && joining.size === 0 && !changing
    },
    get ruin() {
      return ruin
    },
    heal() {
      healed = true
      cluster.drawApart()
      trace.add('heal', 0, 0, () => 'all faults end')
      mendLinks()
      for (const machine of cluster.machines.values()) {
        machine.crashIn = null
        mendDisk(machine)
        if (machine.process === null && machine.incarnation > 0) cluster.start(machine.id)
      }
    },
  }
}

function shuffled<Item>(items: readonly Item[], random: Random): readonly Item[] {
  const left = [...items]
  return items.flatMap(() => left.splice(random.below(left.length), 1))
}
