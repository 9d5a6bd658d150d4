import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../base/logger.ts'
import type { ReplicaId } from '../base/ids.ts'
import { seededRandom } from '../base/random.ts'
import { newestVersion } from '../base/version.ts'
import { HaltError } from '../raft/halt.ts'
import type { Configuration, FaultModel } from '../raft/types.ts'
import { createEngine, type Engine, type EngineTuning } from './engine.ts'
import { maxProposalBytes, type ReplicaSetChange, type ReplicaSetResult } from './port.ts'
import {
  ListConsumer,
  MemoryDisk,
  MemoryNetwork,
  ProcessClock,
  VirtualClock,
  type MemoryTransport,
} from './testing.ts'

const smallLog = { afterBytes: 200_000, keepBytes: 50_000 }

interface Process {
  readonly engine: Engine
  readonly clock: ProcessClock
  readonly transport: MemoryTransport
}

/** A replica whose disk and state outlive its processes. */
class Replica {
  readonly id: number
  readonly consumer = new ListConsumer()
  readonly disk: MemoryDisk
  readonly fatal: Error[] = []
  process: Process | null = null
  /** What this replica proposed and has not seen applied yet is proposed again when it may have been lost. */
  private proposed: string[] = []

  constructor(id: number, disk: MemoryDisk) {
    this.id = id
    this.disk = disk
    this.consumer.onInterrupted = () => {
      for (const text of this.proposed)
        if (!this.consumer.items.includes(text)) this.engine.propose(new TextEncoder().encode(text))
    }
  }

  get engine(): Engine {
    assert.ok(this.process !== null, `r${this.id} does not run`)
    return this.process.engine
  }

  propose(text: string): void {
    this.proposed.push(text)
    this.engine.propose(new TextEncoder().encode(text))
  }
}

class Cluster {
  readonly clock = new VirtualClock()
  readonly network = new MemoryNetwork()
  readonly replicas: readonly Replica[]
  private readonly configuration: Configuration
  private readonly tuning: Partial<EngineTuning>
  private seed: number

  constructor(
    size: number,
    options: {
      tuning?: Partial<EngineTuning>
      joiners?: number
      seed?: number
      faultModel?: FaultModel
    } = {},
  ) {
    this.tuning = options.tuning ?? {}
    this.seed = options.seed ?? 1
    const ids = Array.from({ length: size }, (_, i) => i + 1)
    this.configuration = {
      faultModel: options.faultModel ?? 'majority',
      members: ids.map((id) => ({ id, voter: true, address: `r${id}:1` })),
    }
    this.replicas = Array.from(
      { length: size + (options.joiners ?? 0) },
      (_, i) => new Replica(i + 1, new MemoryDisk(this.clock)),
    )
  }

  replica(id: number): Replica {
    const replica = this.replicas[id - 1]
    assert.ok(replica !== undefined)
    return replica
  }

  async start(...ids: readonly number[]): Promise<void> {
    for (const id of ids.length > 0 ? ids : this.configuration.members.map((member) => member.id)) {
      const replica = this.replica(id)
      const clock = new ProcessClock(this.clock)
      const transport = this.network.attach(id, clock)
      replica.disk.clock = clock
      const isMember = this.configuration.members.some((member) => member.id === id)
      this.seed += 1
      const engine = createEngine({
        self: id,
        incarnation: this.network.incarnationOf(id),
        configuration: isMember ? this.configuration : { faultModel: 'majority', members: [] },
        disk: replica.disk,
        clock,
        random: seededRandom(this.seed * 7919),
        transport,
        logger: silentLogger,
        onFatal: (error) => replica.fatal.push(error),
        tuning: { wal: { segmentBytes: 64 * 1024, cacheBytes: 64 * 1024 }, ...this.tuning },
      })
      replica.process = { engine, clock, transport }
      await engine.start(replica.consumer)
    }
  }

  kill(id: number): void {
    const replica = this.replica(id)
    assert.ok(replica.process !== null)
    replica.process.clock.dead = true
    replica.process = null
    this.network.kill(id)
  }

  get running(): readonly Replica[] {
    return this.replicas.filter((replica) => replica.process !== null)
  }

  /** The replica that leads with a quorum in the newest term; null when none does. */
  get leader(): Replica | null {
    const leaders = this.running.filter(
      ({ engine }) => engine.status().role === 'leader' && engine.status().available,
    )
    return leaders.sort((a, b) => b.engine.status().term - a.engine.status().term)[0] ?? null
  }

  async untilLed(mostMs = 5000): Promise<Replica> {
    await this.clock.until(() => this.leader !== null, mostMs)
    const { leader } = this
    assert.ok(leader !== null)
    return leader
  }

  follower(leader: Replica): Replica {
    const found = this.running.find((replica) => replica !== leader)
    assert.ok(found !== undefined)
    return found
  }

  /** Until every running replica has applied so many different items, and the same as the others. */
  async untilAllHave(count: number, mostMs = 10_000): Promise<void> {
    const [first, ...others] = this.running
    assert.ok(first !== undefined)
    const { consumer } = first
    const together = () => others.every((other) => other.consumer.appliedIndex === consumer.appliedIndex)
    await this.clock.until(() => together() && new Set(consumer.items).size >= count, mostMs)
    for (const other of others)
      assert.ok(
        other.consumer.items.join() === consumer.items.join(),
        `r${other.id} differs from r${first.id}`,
      )
  }

  /** Proposes until the logs of these have been shortened. Returns how many entries were proposed. */
  async untilShortened(...replicas: readonly Replica[]): Promise<number> {
    let count = 0
    while (replicas.some(({ engine }) => engine.status().firstIndex === 1)) {
      for (let i = 0; i < 20; i += 1) replicas[0]?.propose(`${(count += 1)}-${'x'.repeat(1000)}`)
      await this.clock.pass(5)
      assert.ok(count < 100_000, 'the log is shortened at all')
    }
    await this.untilAllHave(count)
    return count
  }

  assertHealthy(): void {
    for (const replica of this.replicas) assert.deepEqual(replica.fatal, [], `r${replica.id}`)
  }
}

/** One of three is away, and needs a copy of the state if the leader is to bring it up, but not if the heir is, whose log stays whole. */
async function awayForLong() {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const heir = cluster.running.find((replica) => replica !== leader)
  assert.ok(heir !== undefined)
  heir.consumer.checkpoint = () => {}
  const count = await cluster.untilShortened(leader)
  return { cluster, leader, away, heir, count }
}

/** None of these can make a copy of its state until the result is called. @param onTry told of each attempt. */
function withoutRoom(replicas: readonly Replica[], onTry: () => void = () => {}): () => void {
  const takers = replicas.map(({ consumer }) => consumer.takeSnapshot)
  for (const { consumer } of replicas)
    consumer.takeSnapshot = () => {
      onTry()
      return Promise.reject(Object.assign(new Error('no room'), { code: 'ENOSPC' }))
    }
  return () => {
    for (const [i, { consumer }] of replicas.entries())
      consumer.takeSnapshot = takers[i] ?? consumer.takeSnapshot
  }
}

test('what is proposed at any replica is applied by all in one order', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  await cluster.untilLed()
  for (let i = 0; i < 50; i += 1)
    for (const replica of cluster.replicas) replica.propose(`r${replica.id}-${i}`)
  await cluster.untilAllHave(150)
  for (const { id, consumer } of cluster.replicas)
    assert.deepEqual(
      consumer.items.filter((item) => item.startsWith(`r${id}-`)),
      Array.from({ length: 50 }, (_, i) => `r${id}-${i}`),
      'each origin in its order, each once',
    )
  cluster.assertHealthy()
})

test('a single replica leads itself and acknowledges only what is on its disk', async () => {
  const cluster = new Cluster(1)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.disk.frozen = true
  leader.propose('a')
  await cluster.clock.pass(200)
  assert.deepEqual(leader.consumer.items, [])
  leader.disk.thaw()
  await cluster.untilAllHave(1)
  cluster.assertHealthy()
})

test('a follower acknowledges only what is on its disk', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const followers = cluster.replicas.filter((replica) => replica !== leader)
  for (const { disk } of followers) disk.frozen = true
  leader.propose('a')
  await cluster.clock.pass(200)
  assert.deepEqual(leader.consumer.items, [])
  for (const { disk } of followers) disk.thaw()
  await cluster.untilAllHave(1)
  cluster.assertHealthy()
})

/** How many bytes it applies at once from now on, each time. */
function piecesAppliedBy({ consumer }: Replica): readonly number[] {
  const pieces: number[] = []
  const apply = consumer.apply.bind(consumer)
  consumer.apply = (entries, engineState) => {
    pieces.push(entries.reduce((sum, { data }) => sum + (data?.length ?? 0), 0))
    return apply(entries, engineState)
  }
  return pieces
}

test('how much is applied at once grows only while there is more, so that a backlog after a quiet time is begun in small pieces', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const follower = cluster.follower(leader)
  for (let i = 0; i < 20; i += 1) {
    leader.propose(`${i}`)
    await cluster.untilAllHave(i + 1)
  }
  const pieces = piecesAppliedBy(follower)
  const others = cluster.running.filter(({ id }) => id !== follower.id)
  for (const { id } of others) cluster.network.cut(id, follower.id)
  for (let i = 20; i < 320; i += 1) leader.propose(`${i}-${'x'.repeat(1000)}`)
  await cluster.clock.until(() => leader.consumer.items.length === 320)
  for (const { id } of others) cluster.network.heal(id, follower.id)
  await cluster.untilAllHave(320)
  const [first = 0, second = 0, third = 0] = pieces
  assert.ok(first <= 16 * 1024 && first < second && second < third, String(pieces))
  cluster.assertHealthy()
})

test('what there is to apply is applied in pieces, with input handled in between', async () => {
  const cluster = new Cluster(3, { tuning: { maxApplyBytes: 20_000 } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const follower = cluster.follower(leader)
  cluster.kill(follower.id)
  for (let i = 0; i < 500; i += 1) leader.propose(`${i}-${'x'.repeat(1000)}`)
  await cluster.untilAllHave(500)
  const pieces = piecesAppliedBy(follower)
  await cluster.start(follower.id)
  await cluster.untilAllHave(500)
  assert.ok(pieces.length >= 25 && pieces.every((bytes) => bytes <= 20_000), String(pieces))
  cluster.assertHealthy()
})

test('proposals that a dying leader swallowed are announced as interrupted, and reach the log in order', async () => {
  for (let seed = 1; seed <= 5; seed += 1) {
    const cluster = new Cluster(5, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    const origin = cluster.follower(leader)
    for (let i = 0; i < 200; i += 1) {
      origin.propose(String(i))
      if (i === 100) cluster.kill(leader.id)
      await cluster.clock.pass(1)
    }
    await cluster.untilAllHave(200)
    assert.ok(origin.consumer.interruptions > 0)
    // As the state machine above does it: whatever is not the next of its origin is skipped.
    let next = 0
    for (const item of origin.consumer.items) if (Number(item) === next) next += 1
    assert.equal(next, 200)
    cluster.assertHealthy()
  }
})

test('when the leader is killed another one leads within a few ticks', async () => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const cluster = new Cluster(5, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500)
    cluster.kill(leader.id)
    const took = await cluster.clock.until(() => cluster.leader !== null)
    assert.ok(took <= 200, `seed ${seed}: ${took} ms`)
    cluster.assertHealthy()
  }
})

test('when the first in turn cannot lead either, the next one asks after two ticks, however quiet it was', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const cluster = new Cluster(5, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500 + seed)
    const firstInTurn = cluster.follower(leader)
    firstInTurn.process?.clock.stall(5000)
    cluster.kill(leader.id)
    const took = await cluster.clock.until(() => cluster.leader !== null)
    assert.ok(took <= 80, `seed ${seed}: ${took} ms`)
    cluster.assertHealthy()
  }
})

test('whoever is second in turn leaves the first one a whole tick, however long ago it ticked itself', async () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const cluster = new Cluster(5, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500 + seed * 7)
    const first = cluster.follower(leader)
    const asked: ReplicaId[] = []
    for (const { id, process } of cluster.running) {
      if (id === first.id || id === leader.id || process === null) continue
      const send = process.transport.send.bind(process.transport)
      process.transport.send = (message) => {
        if (message.kind === 'preVote') asked.push(id)
        send(message)
      }
    }
    first.process?.clock.stall(29)
    cluster.kill(leader.id)
    await cluster.clock.pass(30)
    assert.deepEqual(asked, [], `seed ${seed}`)
  }
})

test('when all stand still at once, the leader a little longer, none doubts it', async () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const cluster = new Cluster(3, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500 + seed * 7)
    const { term } = leader.engine.status()
    for (const { process } of cluster.running) process?.clock.stall(process === leader.process ? 2100 : 2000)
    await cluster.clock.pass(4000)
    assert.equal(cluster.leader?.engine.status().term, term, `seed ${seed}`)
  }
})

test('a read that cannot be served is given up in time', async () => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const cluster = new Cluster(3, { seed })
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500 + seed * 7)
    for (const { id } of cluster.running) if (id !== leader.id) cluster.network.cut(leader.id, id)
    const answers: (number | null)[] = []
    leader.engine.readBarrier(100, (index) => answers.push(index))
    const took = await cluster.clock.until(() => answers.length > 0)
    assert.deepEqual(answers, [null])
    assert.ok(took <= 131, `seed ${seed}: ${took} ms`)
  }
})

test('replicas that have nothing to do are not woken up for every tick', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const { term } = leader.engine.status()
  await cluster.clock.pass(1000)
  const timers = (): readonly number[] =>
    cluster.replicas.map(({ process }) => process?.clock.longTimers ?? 0)
  const before = timers()
  await cluster.clock.pass(12_000)
  for (const [i, after] of timers().entries()) {
    const count = after - (before[i] ?? 0)
    assert.ok(count <= 12_000 / (3 * 30) + 1, `${count} timers`)
  }
  assert.equal(leader.engine.status().term, term)
  cluster.assertHealthy()
})

test('two of five may be killed one after the other, and come back', async () => {
  const cluster = new Cluster(5)
  await cluster.start()
  const first = await cluster.untilLed()
  cluster.follower(first).propose('one')
  await cluster.untilAllHave(1)
  cluster.kill(first.id)
  const second = await cluster.untilLed()
  cluster.follower(second).propose('two')
  await cluster.untilAllHave(2)
  cluster.kill(second.id)
  const third = await cluster.untilLed()
  assert.equal(third.engine.status().mayFail, 0)
  cluster.follower(third).propose('three')
  await cluster.untilAllHave(3)
  await cluster.start(first.id, second.id)
  await cluster.untilAllHave(3)
  await cluster.clock.until(() => third.engine.status().mayFail === 2)
  cluster.assertHealthy()
})

test('a stall of the own process does not count as silence of the leader', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  await cluster.clock.pass(1000)
  const { term } = leader.engine.status()
  const follower = cluster.follower(leader)
  for (const forMs of [100, 700, 3000]) {
    const { statusChanges } = follower.consumer
    follower.process?.clock.stall(forMs)
    await cluster.clock.pass(forMs + 1000)
    assert.equal(follower.consumer.statusChanges, statusChanges, 'it never doubted its leader')
    assert.equal(leader.engine.status().role, 'leader')
    assert.equal(leader.engine.status().term, term)
    assert.equal(follower.engine.status().leader, leader.id)
  }
  cluster.assertHealthy()
})

test('a leader that stalls is replaced, and follows when it wakes', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.process?.clock.stall(5000)
  await cluster.clock.until(() => cluster.leader !== leader && cluster.leader !== null, 2000)
  await cluster.clock.until(() => leader.engine.status().role === 'follower', 10_000)
  cluster.assertHealthy()
})

test('a read barrier is answered with an index that has been applied, on every replica', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.propose('a')
  await cluster.clock.until(() => leader.consumer.items.length === 1)
  const written = leader.consumer.appliedIndex
  let answered = 0
  for (const { engine, consumer } of cluster.replicas)
    for (let i = 0; i < 100; i += 1)
      engine.readBarrier(1000, (index) => {
        assert.ok(index !== null && index >= written, 'covers what was acknowledged before')
        assert.ok(consumer.appliedIndex >= index)
        answered += 1
      })
  await cluster.clock.until(() => answered === 300, 1000)
  cluster.assertHealthy()
})

test('a read barrier without a quorum is answered with null at its time-out, and soon after a change of leader with an index', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const [a, b] = cluster.replicas.filter((replica) => replica !== leader)
  assert.ok(a !== undefined && b !== undefined)
  cluster.kill(leader.id)
  const indexes: (number | null)[] = []
  a.engine.readBarrier(5000, (index) => indexes.push(index))
  await cluster.clock.until(() => indexes.length === 1, 1000)
  assert.notEqual(indexes[0], null)
  cluster.kill(b.id)
  await cluster.clock.pass(100)
  a.engine.readBarrier(300, (index) => indexes.push(index))
  const took = await cluster.clock.until(() => indexes.length === 2)
  assert.equal(indexes[1], null)
  assert.ok(took >= 300 && took <= 400, `${took} ms`)
})

test('a replica that restarts applies its log from where its state was', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  for (let i = 0; i < 20; i += 1) leader.propose(String(i))
  await cluster.untilAllHave(20)
  for (const { id } of cluster.replicas) cluster.kill(id)
  await cluster.start()
  const next = await cluster.untilLed()
  next.propose('more')
  await cluster.untilAllHave(21)
  assert.equal(next.consumer.items.length, 21, 'nothing was applied twice')
  cluster.assertHealthy()
})

test('while the state has no space nothing is applied, the replica says so, and goes on when there is space again', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const follower = cluster.follower(leader)
  follower.consumer.full = true
  leader.propose('a')
  await cluster.clock.until(() => follower.engine.status().full)
  assert.equal(leader.engine.status().full, false)
  await cluster.clock.until(() => leader.consumer.items.length === 1)
  follower.consumer.full = false
  await cluster.untilAllHave(1)
  await cluster.clock.until(() => !follower.engine.status().full)
  cluster.assertHealthy()
})

test('a replica stops although its log waits for room on the disk', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  const follower = cluster.follower(leader)
  follower.disk.free = 0
  for (let i = 0; i < 100; i += 1) leader.propose(String(i).padEnd(4000))
  await cluster.clock.until(() => leader.consumer.items.length === 100)
  assert.ok(follower.consumer.items.length < 100)
  let stopped = false
  void follower.engine.stop().then(() => {
    stopped = true
  })
  await cluster.clock.until(() => stopped, 1000)
  cluster.kill(follower.id)
  follower.disk.free = 2 ** 40
  await cluster.start(follower.id)
  await cluster.untilAllHave(100)
  cluster.assertHealthy()
})

for (const moment of ['before it is swapped in', 'after it was swapped in'])
  test(`a replica stops although a copy of the state waits for room in its log, ${moment}`, async () => {
    const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
    await cluster.start()
    const leader = await cluster.untilLed()
    const follower = cluster.follower(leader)
    follower.disk.free = 0
    for (let i = 0; i < 100; i += 1) leader.propose(String(i).padEnd(4000))
    await cluster.clock.until(() => follower.engine.status().full && leader.consumer.items.length === 100)
    const isSwappedIn = moment === 'after it was swapped in'
    if (isSwappedIn) cluster.kill(follower.id)
    else cluster.network.cut(leader.id, follower.id)
    let count = 100
    while (leader.engine.status().firstIndex < 110) {
      for (let i = 0; i < 20; i += 1) leader.propose(`${(count += 1)}-${'x'.repeat(1000)}`)
      await cluster.clock.pass(5)
    }
    if (isSwappedIn) await cluster.start(follower.id)
    else cluster.network.heal(leader.id, follower.id)
    await cluster.clock.pass(8000)
    assert.equal(follower.consumer.installs, isSwappedIn ? 1 : 0)
    let stopped = false
    void follower.engine.stop().then(() => {
      stopped = true
    })
    await cluster.clock.until(() => stopped, 2000)
    cluster.kill(follower.id)
    follower.disk.free = 2 ** 40
    await cluster.start(follower.id)
    await cluster.untilAllHave(count)
    cluster.assertHealthy()
  })

test('a copy of the state that nobody can make is tried seldom, and does not send leadership round', async () => {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const count = await cluster.untilShortened(...cluster.running)
  let tries = 0
  const before = leader.engine.status().term
  const thereIsRoom = withoutRoom(cluster.running, () => (tries += 1))
  await cluster.start(away.id)
  await cluster.clock.pass(60_000)
  assert.ok(tries > 1 && tries <= 6, `${tries} tries in a minute`)
  const { term } = (await cluster.untilLed()).engine.status()
  assert.ok(term <= before + 2, 'each of both has handed over once')
  thereIsRoom()
  await cluster.untilAllHave(count, 60_000)
  cluster.assertHealthy()
})

test('a copy that could not be made keeps none of two that need one from another attempt', async () => {
  const cluster = new Cluster(5, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const [one, other] = cluster.running.filter((replica) => replica !== leader)
  assert.ok(one !== undefined && other !== undefined)
  cluster.kill(one.id)
  cluster.kill(other.id)
  const count = await cluster.untilShortened(...cluster.running)
  const thereIsRoom = withoutRoom(cluster.running)
  await cluster.start(one.id)
  // Long enough for leadership to have gone to all who may have it.
  await cluster.clock.pass(210_000)
  await cluster.start(other.id)
  await cluster.clock.pass(20_000)
  thereIsRoom()
  await cluster.untilAllHave(count, 60_000)
  cluster.assertHealthy()
})

test('a copy that broke off and is not needed any more is forgotten', async () => {
  const { cluster, leader, away, count } = await awayForLong()
  leader.consumer.copyBytes = 20 * 1024 * 1024
  await cluster.start(away.id)
  await cluster.clock.until(() => away.consumer.receivedBytes > 1024 * 1024)
  cluster.kill(leader.id)
  await cluster.untilAllHave(count)
  const copy = () => away.engine.status().members.find(({ id }) => id === away.id)?.copy
  await cluster.clock.until(() => copy() === null)
  cluster.assertHealthy()
})

test('a leader whose disk hangs hands over while its heartbeats go on', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.disk.frozen = true
  leader.propose('a')
  await cluster.clock.until(() => cluster.leader !== null && cluster.leader !== leader, 10_000)
  leader.disk.thaw()
  await cluster.untilAllHave(1)
  cluster.assertHealthy()
})

test('a failed write stops the engine with one fatal error', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.disk.failing = Object.assign(new Error('input/output error'), { code: 'EIO' })
  leader.propose('a')
  await cluster.clock.until(() => leader.fatal.length > 0)
  await cluster.clock.pass(1000)
  assert.equal(leader.fatal.length, 1)
  assert.equal(leader.engine.status().available, false)
  assert.notEqual(cluster.leader, leader)
})

test('an error in the consumer is fatal: the same entry would fail again', async () => {
  const cluster = new Cluster(1)
  await cluster.start()
  const leader = await cluster.untilLed()
  leader.consumer.apply = () => {
    throw new Error('boom')
  }
  leader.propose('a')
  await cluster.clock.until(() => leader.fatal.length > 0)
  assert.equal(leader.fatal[0]?.message, 'boom')
})

test('a leader that stops hands over first', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  await cluster.clock.pass(500)
  const { term } = leader.engine.status()
  let stopped = false
  void leader.engine.stop().then(() => {
    stopped = true
  })
  await cluster.clock.until(() => stopped, 1000)
  cluster.kill(leader.id)
  const next = await cluster.untilLed(100)
  assert.equal(next.engine.status().term, term + 1)
  cluster.assertHealthy()
})

test('leadership is transferred to the voter that is named', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  await cluster.clock.pass(500)
  const target = cluster.follower(leader)
  let moved: boolean | null = null
  void leader.engine.transferLeadership(target.id).then((result) => {
    moved = result
  })
  await cluster.clock.until(() => moved !== null)
  assert.equal(moved, true)
  assert.equal(cluster.leader, target)
})

test('the log is shortened, and a replica that was away gets a copy of the state', async () => {
  const cluster = new Cluster(3, {
    tuning: {
      compaction: { afterBytes: 200_000, keepBytes: 50_000, afterEntries: 1000, mostBytes: 10_000_000 },
    },
  })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const proposed = await cluster.untilShortened(leader)
  await cluster.start(away.id)
  await cluster.untilAllHave(proposed)
  assert.equal(away.consumer.installs, 1)
  // It goes on with the log behind the copy, and after a restart too.
  leader.propose('after')
  await cluster.untilAllHave(proposed + 1)
  cluster.kill(away.id)
  await cluster.start(away.id)
  leader.propose('at last')
  await cluster.untilAllHave(proposed + 2)
  assert.equal(away.consumer.installs, 1)
  cluster.assertHealthy()
})

test('a copy whose transfer breaks off resumes where it was, while heartbeats go on', async () => {
  const cluster = new Cluster(3, {
    tuning: {
      compaction: { afterBytes: 200_000, keepBytes: 50_000, afterEntries: 1000, mostBytes: 10_000_000 },
    },
  })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const proposed = await cluster.untilShortened(leader)
  leader.consumer.copyBytes = 20 * 1024 * 1024
  const { term } = leader.engine.status()
  await cluster.start(away.id)
  const chunks = () =>
    leader.process?.transport.chunks.filter(({ to, bytes }) => to === away.id && bytes.length > 0) ?? []
  for (const some of [10, 30, 50]) {
    await cluster.clock.until(() => chunks().length >= some)
    assert.ok(chunks().length < some + 20, 'the rest waits until the receiver has taken this in')
    cluster.network.cut(leader.id, away.id)
    await cluster.clock.pass(50)
    const { receivedBytes } = away.consumer
    const { length } = chunks()
    cluster.network.heal(leader.id, away.id)
    await cluster.clock.until(() => chunks().length > length, 50)
    assert.equal(chunks()[length]?.offset, receivedBytes)
  }
  await cluster.untilAllHave(proposed)
  assert.equal(away.consumer.installs, 1)
  assert.equal(leader.engine.status().term, term, 'nobody missed a heartbeat')
  cluster.assertHealthy()
})

test('several replicas are sent one and the same copy of the state', async () => {
  const cluster = new Cluster(5, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.replicas.filter((replica) => replica !== leader).slice(0, 2)
  for (const { id } of away) cluster.kill(id)
  const count = await cluster.untilShortened(leader)
  leader.consumer.copyBytes = 5 * 1024 * 1024
  let copies = 0
  const takeSnapshot = leader.consumer.takeSnapshot.bind(leader.consumer)
  leader.consumer.takeSnapshot = () => {
    copies += 1
    return takeSnapshot()
  }
  await cluster.start(...away.map(({ id }) => id))
  await cluster.untilAllHave(count)
  assert.deepEqual(
    away.map(({ consumer }) => consumer.installs),
    [1, 1],
  )
  assert.equal(copies, 1)
  cluster.assertHealthy()
})

test('a copy that a leader began to send is finished by the next leader', async () => {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const count = await cluster.untilShortened(...cluster.running)
  for (const { consumer } of cluster.replicas) consumer.copyBytes = 5 * 1024 * 1024
  await cluster.start(away.id)
  await cluster.clock.until(() => (leader.process?.transport.chunks.length ?? 0) > 5)
  const heir = cluster.running.find((replica) => replica !== leader && replica !== away)
  assert.ok(heir !== undefined)
  void leader.engine.transferLeadership(heir.id)
  await cluster.clock.until(() => cluster.leader === heir)
  const { length } = leader.process?.transport.chunks ?? []
  await cluster.untilAllHave(count)
  assert.equal(leader.process?.transport.chunks.length, length, 'the old leader sends nothing more')
  assert.equal(away.consumer.installs, 1)
  cluster.assertHealthy()
})

test('a leader that cannot read its own state hands over', async () => {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const count = await cluster.untilShortened(...cluster.running)
  leader.consumer.takeSnapshot = () => Promise.reject(new Error('the disk cannot be read'))
  await cluster.start(away.id)
  await cluster.untilAllHave(count)
  assert.notEqual(cluster.leader, leader)
  cluster.assertHealthy()
})

test('a crash between taking over a copy and starting the log anew is made up for at the next start', async () => {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const away = cluster.follower(leader)
  cluster.kill(away.id)
  const count = await cluster.untilShortened(leader)
  await cluster.start(away.id)
  const checkpoint = away.consumer.checkpoint.bind(away.consumer)
  away.consumer.checkpoint = () => {}
  await cluster.clock.until(() => away.consumer.installs === 1)
  await cluster.clock.pass(1000)
  assert.equal(away.engine.status().firstIndex, 1, 'the log does not go before the copy is safe')
  cluster.kill(away.id)
  away.consumer.checkpoint = checkpoint
  await cluster.start(away.id)
  leader.propose('after')
  await cluster.untilAllHave(count + 1)
  assert.equal(away.consumer.installs, 1)
  cluster.assertHealthy()
})

test('a copy that is complete when the log has caught up is thrown away', async () => {
  const { cluster, leader, away, heir, count } = await awayForLong()
  let finish = (): void => {}
  away.consumer.beforeFinish = new Promise((resolve) => {
    finish = resolve
  })
  await cluster.start(away.id)
  await cluster.clock.until(() => away.consumer.receivedBytes > 0)
  await cluster.clock.pass(100)
  void leader.engine.transferLeadership(heir.id)
  await cluster.untilAllHave(count)
  assert.equal(cluster.leader, heir)
  heir.propose('more')
  await cluster.untilAllHave(count + 1)
  finish()
  await cluster.clock.pass(1000)
  heir.propose('still more')
  await cluster.untilAllHave(count + 2)
  assert.equal(away.consumer.installs, 0)
  cluster.assertHealthy()
})

test('a follower whose disk is slow keeps the log that it needs next', async () => {
  const cluster = new Cluster(3, { tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  const slow = cluster.follower(leader)
  slow.disk.frozen = true
  for (let i = 0; i < 100; i += 1) {
    for (let j = 0; j < 20; j += 1) leader.propose(`${i}-${j}-${'x'.repeat(1000)}`)
    await cluster.clock.pass(5)
  }
  assert.equal(leader.engine.status().firstIndex, 1)
  slow.disk.thaw()
  await cluster.untilAllHave(2000)
  assert.equal(slow.consumer.installs, 0)
  cluster.assertHealthy()
})

test('a copy of the state carries the replica set that held there', async () => {
  const cluster = new Cluster(3, { joiners: 1, tuning: { compaction: smallLog } })
  await cluster.start()
  const leader = await cluster.untilLed()
  await cluster.untilShortened(leader)
  let added = false
  void leader.engine.changeMembership({ kind: 'addLearner', id: 4, address: 'r4:1' }).then(({ ok }) => {
    added = ok
  })
  await cluster.clock.until(() => added)
  const { firstIndex } = leader.engine.status()
  const { items } = leader.consumer
  let count = items.length
  while (leader.engine.status().firstIndex === firstIndex) {
    for (let i = 0; i < 20; i += 1) leader.propose(`after ${(count += 1)}-${'x'.repeat(1000)}`)
    await cluster.clock.pass(5)
  }
  await cluster.start(4)
  await cluster.untilAllHave(count)
  const joiner = cluster.replica(4)
  await cluster.clock.until(() => joiner.engine.status().members.length > 0)
  assert.equal(joiner.consumer.installs, 1)
  assert.deepEqual(
    joiner.engine.status().members.map(({ id, voter }) => `${id} ${voter}`),
    ['1 true', '2 true', '3 true', '4 false'],
  )
  cluster.assertHealthy()
})

test('a new replica joins as a learner, catches up and is promoted', async () => {
  const cluster = new Cluster(3, { joiners: 1 })
  await cluster.start()
  const leader = await cluster.untilLed()
  for (let i = 0; i < 20; i += 1) leader.propose(String(i))
  await cluster.untilAllHave(20)
  await cluster.start(4)
  const results: unknown[] = []
  const note = (result: unknown): void => void results.push(result)
  void leader.engine.changeMembership({ kind: 'addLearner', id: 4, address: 'r4:1' }).then(note)
  await cluster.clock.until(() => results.length === 1)
  // The leader knows that a learner has caught up when the learner has answered.
  await cluster.clock.until(() => {
    const { members, commitIndex } = leader.engine.status()
    return members.find(({ id }) => id === 4)?.matchIndex === commitIndex
  })
  void leader.engine.changeMembership({ kind: 'promote', id: 4 }).then(note)
  await cluster.clock.until(() => results.length === 2)
  void cluster.follower(leader).engine.changeMembership({ kind: 'remove', id: 9 }).then(note)
  await cluster.clock.until(() => results.length === 3)
  assert.deepEqual(
    results.map((result) => (result as { ok: boolean }).ok),
    [true, true, false],
  )
  await cluster.clock.until(() => cluster.replica(4).engine.status().voters === 4)
  cluster.assertHealthy()
})

for (const asksLeader of [true, false]) {
  const where = asksLeader ? 'asked for at itself' : 'asked for at another one'

  /** Three replicas, of which the leader is to be removed. */
  const setUp = async () => {
    const cluster = new Cluster(3)
    await cluster.start()
    const leader = await cluster.untilLed()
    await cluster.clock.pass(500)
    const follower = cluster.follower(leader)
    const results: ReplicaSetResult[] = []
    const remove = async (): Promise<ReplicaSetResult | undefined> => {
      const asked = asksLeader ? leader : follower
      void asked.engine.change({ kind: 'remove', id: leader.id }, 5000).then((result) => results.push(result))
      await cluster.clock.until(() => results.length > 0)
      return results[0]
    }
    return { cluster, leader, follower, remove, term: leader.engine.status().term }
  }

  test(`a leader whose removal is ${where} hands over before it goes`, async () => {
    const { cluster, leader, remove, term } = await setUp()
    assert.deepEqual(await remove(), { ok: true, id: leader.id })
    // It has led since before the removal, and nobody has to be elected after it.
    const next = cluster.leader
    assert.ok(next !== null && next.id !== leader.id)
    assert.equal(next.engine.status().term, term + 1)
    cluster.assertHealthy()
  })

  test(`a leader whose removal is ${where} and refused goes on leading`, async () => {
    const { cluster, leader, follower, remove, term } = await setUp()
    const third = cluster.replicas.find(({ id }) => id !== leader.id && id !== follower.id)
    assert.ok(third !== undefined)
    cluster.kill(third.id)
    await cluster.clock.pass(2000)
    assert.deepEqual(await remove(), { ok: false, refused: 'quorumAtRisk' })
    await cluster.clock.pass(2000)
    assert.equal(cluster.leader?.id, leader.id)
    assert.equal(leader.engine.status().term, term)
  })
}

test('at any replica the replica set is changed and leadership handed over, and each replica knows who was removed', async () => {
  const cluster = new Cluster(3, { joiners: 1 })
  await cluster.start()
  const leader = await cluster.untilLed()
  const asked = cluster.follower(leader)
  await cluster.start(4)
  const results: unknown[] = []
  const change = async (wanted: ReplicaSetChange): Promise<void> => {
    const count = results.length
    void asked.engine.change(wanted, 5000).then((result) => results.push(result))
    await cluster.clock.until(() => results.length > count)
  }
  await change({ kind: 'add', id: 0, address: 'r4:1' })
  await cluster.clock.until(() => cluster.replica(4).engine.status().members.length === 4)
  await change({ kind: 'handOver', id: asked.id })
  await change({ kind: 'move', id: 4, address: 'elsewhere:1' })
  await change({ kind: 'remove', id: 4 })
  await change({ kind: 'add', id: 4, address: 'again:1' })
  assert.deepEqual(results, [
    { ok: true, id: 4 },
    { ok: true, id: asked.id },
    { ok: true, id: 4 },
    { ok: true, id: 4 },
    { ok: false, refused: 'idUsed' },
  ])
  await cluster.clock.until(() => [1, 2, 3, 4].every((id) => cluster.replica(id).engine.isRemoved(4)))
  assert.equal(asked.engine.isRemoved(5), false)
  cluster.assertHealthy()
})

test('a replica whose disk was emptied is shut out and told why', async () => {
  const cluster = new Cluster(3)
  await cluster.start()
  const leader = await cluster.untilLed()
  for (let i = 0; i < 20; i += 1) leader.propose(String(i))
  await cluster.untilAllHave(20)
  const wiped = cluster.follower(leader)
  cluster.kill(wiped.id)
  const transport = leader.process?.transport
  const empty = new MemoryDisk(cluster.clock)
  Object.assign(wiped, { disk: empty })
  wiped.consumer.appliedIndex = 0
  wiped.consumer.engineState = new Uint8Array(0)
  wiped.consumer.items = []
  await cluster.start(wiped.id)
  await cluster.clock.until(() => (transport?.shut.length ?? 0) > 0)
  assert.equal(transport?.shut[0]?.peer, wiped.id)
  assert.match(transport?.shut[0]?.reason ?? '', /went back behind/)
})

test('a proposal that is too long is refused where it is made', async () => {
  const cluster = new Cluster(1)
  await cluster.start()
  const leader = await cluster.untilLed()
  assert.throws(() => leader.engine.propose(new Uint8Array(maxProposalBytes + 1)), /too long/)
  leader.engine.propose(new Uint8Array(maxProposalBytes))
  await cluster.untilAllHave(1)
})

test('a replica notes that it has a memory when its log is on the disk, and before it talks to anybody', async () => {
  const clock = new VirtualClock()
  const process = new ProcessClock(clock)
  const disk = new MemoryDisk(process)
  const transport = new MemoryNetwork().attach(1, process)
  const seen: { readonly files: number; readonly talks: boolean }[] = []
  const engine = createEngine({
    self: 1,
    configuration: { faultModel: 'majority', members: [{ id: 1, voter: true, address: 'r1:1' }] },
    disk,
    clock: process,
    random: seededRandom(1),
    transport,
    logger: silentLogger,
    onFatal: (error) => assert.fail(error),
    onOpened: () => seen.push({ files: disk.list('log').length, talks: transport.handler !== null }),
    tuning: { wal: { segmentBytes: 64 * 1024, cacheBytes: 64 * 1024 } },
  })
  await engine.start(new Replica(1, disk).consumer)
  assert.deepEqual(seen, [{ files: 1, talks: false }])
  assert.equal(transport.handler !== null, true)
})

test('fail-stop: the last of three goes on alone, and those that come back are taken in again', async () => {
  const cluster = new Cluster(3, { faultModel: 'fail-stop' })
  await cluster.start()
  const first = await cluster.untilLed()
  first.propose('three')
  await cluster.untilAllHave(1)
  cluster.kill(first.id)
  const second = await cluster.untilLed()
  second.propose('two')
  await cluster.untilAllHave(2)
  cluster.kill(second.id)
  const last = await cluster.untilLed()
  last.propose('one')
  await cluster.untilAllHave(3)
  assert.equal(last.engine.status().mayFail, 0)
  await cluster.start(first.id, second.id)
  await cluster.clock.until(() => last.engine.status().mayFail === 2)
  await cluster.untilAllHave(3)
  cluster.assertHealthy()
})

test('fail-stop: both sides of a cut network go on when each takes the other for dead; when they meet, one halts with what it had', async () => {
  const cluster = new Cluster(3, { faultModel: 'fail-stop', tuning: { compaction: smallLog } })
  await cluster.start()
  const alone = await cluster.untilLed()
  alone.propose('together')
  await cluster.untilAllHave(1)
  const others = cluster.replicas.filter((replica) => replica !== alone)
  for (const other of others) {
    cluster.network.cut(alone.id, other.id)
    alone.process?.transport.handler?.incarnation(other.id, 1, false)
    other.process?.transport.handler?.incarnation(alone.id, 1, false)
  }
  const isLed = () => others.some(({ engine }) => engine.status().role === 'leader')
  await cluster.clock.until(isLed)
  alone.propose('alone')
  for (const other of others) other.propose(`with r${other.id}`)
  await cluster.clock.until(() => [alone, ...others].every(({ consumer }) => consumer.items.length >= 2))
  const before = cluster.replicas.map(({ consumer }) => [...consumer.items])
  for (const other of others) cluster.network.heal(alone.id, other.id)
  const halted = () => cluster.replicas.filter(({ fatal }) => fatal.length > 0)
  await cluster.clock.until(() => halted().length > 0)
  await cluster.clock.pass(2000)
  for (const { fatal } of halted())
    assert.ok(fatal[0] instanceof HaltError && fatal[0].reason === 'diverged', String(fatal[0]))
  for (const [position, { consumer }] of cluster.replicas.entries()) {
    const had = before[position] ?? []
    assert.deepEqual(consumer.items.slice(0, had.length), had, 'nothing that was applied is replaced')
  }
})

test('what all members know goes by one that is being removed too, until it is out: the removal may come to nothing', async () => {
  const cluster = new Cluster(4)
  await cluster.start()
  const leader = await cluster.untilLed()
  await cluster.clock.pass(500)
  const old = cluster.follower(leader)
  // It is not the newest, whose removal would wait for the version.
  assert.ok(old.id < 4)
  cluster.network.versions.set(old.id, 1)
  const status = () => {
    const { members, commonVersion } = leader.engine.status()
    return [members.some(({ id }) => id === old.id), commonVersion]
  }
  assert.deepEqual(status(), [true, 1])
  void leader.engine.change({ kind: 'remove', id: old.id }, 5000)
  await cluster.clock.until(() => status()[0] === false)
  assert.deepEqual(status(), [false, 1])
  await cluster.clock.until(() => leader.engine.isRemoved(old.id))
  assert.deepEqual(status(), [false, newestVersion])
})

test('as long as one replica is of an earlier version, what it could not read is refused and nothing else', async () => {
  const cluster = new Cluster(3, { joiners: 1 })
  await cluster.start()
  const leader = await cluster.untilLed()
  const asked = cluster.follower(leader)
  const old = cluster.replicas.find(({ id }) => id !== leader.id && id !== asked.id)
  assert.ok(old !== undefined && old.id <= 3)
  cluster.network.versions.set(old.id, 1)
  await cluster.start(4)
  const outcomes: string[] = []
  const change = async (by: typeof leader, wanted: ReplicaSetChange): Promise<string> => {
    const count = outcomes.length
    void by.engine.change(wanted, 5000).then((result) => {
      outcomes.push(result.ok ? 'done' : result.refused)
    })
    await cluster.clock.until(() => outcomes.length > count)
    return outcomes.at(-1) ?? ''
  }
  assert.equal(await change(asked, { kind: 'add', id: 0, address: 'r4:1' }), 'done')
  // The removal of the newest replica has to be remembered, whoever is asked for it.
  assert.equal(await change(asked, { kind: 'remove', id: 4 }), 'upgradePending')
  assert.equal(await change(leader, { kind: 'remove', id: 4 }), 'upgradePending')
  assert.equal(await change(leader, { kind: 'handOver', id: old.id }), 'done')
  assert.equal(await change(asked, { kind: 'handOver', id: asked.id }), 'upgradePending')
  assert.equal(await change(asked, { kind: 'move', id: asked.id, address: 'elsewhere:1' }), 'upgradePending')
  cluster.network.versions.delete(old.id)
  assert.equal(await change(asked, { kind: 'remove', id: 4 }), 'done')
  cluster.assertHealthy()
})
