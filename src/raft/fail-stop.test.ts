import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReplicaId } from '../base/ids.ts'
import { Cluster, configurationOf, describeConfiguration, type Host } from './harness.ts'

/** A cluster in the fail-stop model, with the links between its processes. */
class FailStop {
  readonly cluster = new Cluster()
  private readonly down = new Set<ReplicaId>()

  constructor(size: number) {
    const ids = Array.from({ length: size }, (_, i) => i + 1)
    for (const id of ids) this.cluster.add(id, configurationOf(ids, [], 'fail-stop'))
    this.greet()
    this.pass()
  }

  host(id: ReplicaId): Host {
    return this.cluster.host(id)
  }

  get up(): readonly ReplicaId[] {
    return [...this.cluster.hosts.keys()].filter((id) => !this.down.has(id))
  }

  get leader(): ReplicaId {
    return this.up.find((id) => this.host(id).core.status().role === 'leader') ?? 0
  }

  /** Time for elections and for taking back who has returned. */
  pass(ticks = 80): this {
    this.cluster.tick(ticks, this.up)
    return this
  }

  /** The same, message by message, until `holds`. */
  passUntil(ticks: number, holds: () => boolean): this {
    const { cluster, up } = this
    for (let tick = 0; tick < ticks; tick += 1) {
      for (const id of up) this.host(id).step({ kind: 'tick' })
      for (let moves = true; moves;) {
        moves = false
        for (const id of up)
          while (cluster.ready(id) || this.host(id).writes.length > 0) {
            moves = true
            cluster.flush(id)
            if (holds()) return this
          }
        moves = cluster.deliver(({ from, to }) => up.includes(from) && up.includes(to)) || moves
        if (holds()) return this
      }
    }
    return this
  }

  /** The process ends, and the others find out: nobody listens there. */
  crash(...ids: readonly ReplicaId[]): this {
    for (const id of ids) {
      this.down.add(id)
      const dead = this.host(id).incarnation
      this.host(id).restart()
      this.cluster.network = this.cluster.network.filter(({ from, to }) => from !== id && to !== id)
      for (const other of this.up)
        this.host(other).step({ kind: 'incarnation', replica: id, incarnation: dead, lives: false })
    }
    this.cluster.settle(this.up)
    return this
  }

  start(...ids: readonly ReplicaId[]): this {
    for (const id of ids) this.down.delete(id)
    this.greet()
    return this
  }

  propose(text: string): this {
    this.host(this.leader).propose(text)
    this.cluster.settle(this.up)
    return this
  }

  has(id: ReplicaId, text: string): boolean {
    return this.host(id).history.some((entry) => entry.endsWith(`"${text}"`))
  }

  waitingFor(id: ReplicaId): readonly ReplicaId[] {
    return this.host(id).core.status().waitingFor
  }

  voters(id: ReplicaId): string {
    return describeConfiguration(this.host(id).core.status().configuration)
  }

  private greet(): void {
    for (const id of this.up)
      for (const other of this.up) {
        if (id === other) continue
        const { incarnation } = this.host(other)
        this.host(id).step({ kind: 'incarnation', replica: other, incarnation, lives: true })
        this.host(id).step({ kind: 'reachable', replica: other })
      }
    this.cluster.settle(this.up)
  }
}

test('a cluster begins when all its replicas are there, each with the incarnation that it has', () => {
  const cluster = new FailStop(3)
  assert.notEqual(cluster.leader, 0)
  const { configuration } = cluster.host(cluster.leader).core.status()
  assert.deepEqual(
    configuration.members.map(({ id, voter, incarnation }) => ({ id, voter, incarnation })),
    [1, 2, 3].map((id) => ({ id, voter: true, incarnation: 1 })),
  )
})

test('A and B crash, C acknowledges, C crashes, A and B start: they refuse and name C', () => {
  const cluster = new FailStop(3).propose('first').crash(1, 2).pass().propose('only C has it')
  assert.equal(cluster.leader, 3)
  assert.ok(cluster.has(3, 'only C has it'))
  cluster.crash(3).start(1, 2).pass(200)
  assert.equal(cluster.leader, 0)
  assert.deepEqual(cluster.waitingFor(1), [3])
  assert.deepEqual(cluster.waitingFor(2), [3])
  cluster.start(3).pass(200)
  assert.equal(cluster.voters(3), '{1 2 3}')
  for (const id of [1, 2, 3]) assert.ok(cluster.has(id, 'only C has it'))
})

test('the last survivor of crashes one by one can restart alone', () => {
  const cluster = new FailStop(3).crash(2).pass().crash(1).pass().propose('alone').crash(3).start(3).pass()
  assert.equal(cluster.leader, 3)
  assert.equal(cluster.host(3).core.status().mayFail, 0)
  cluster.propose('alone again')
  assert.ok(cluster.has(3, 'alone again'))
})

test('after a crash of all at once all must come back, and who is missing is named', () => {
  const cluster = new FailStop(3).propose('m').crash(1, 2, 3).start(1).pass(100)
  assert.deepEqual(cluster.waitingFor(1), [2, 3])
  cluster.start(3).pass(100)
  assert.equal(cluster.leader, 0)
  assert.deepEqual(cluster.waitingFor(3), [2])
  cluster.start(2).pass(100)
  assert.notEqual(cluster.leader, 0)
  for (const id of [1, 2, 3]) assert.ok(cluster.has(id, 'm'))
})

test('in all six orders two of three crash, and the third goes on', () => {
  for (const first of [1, 2, 3])
    for (const second of [1, 2, 3]) {
      if (first === second) continue
      const cluster = new FailStop(3).propose('a').crash(first).pass(20).propose('b')
      cluster.crash(second).pass(20).propose('c')
      const last = 6 - first - second
      assert.equal(cluster.leader, last)
      for (const text of ['a', 'b', 'c']) assert.ok(cluster.has(last, text))
      cluster.start(first, second).pass()
      assert.equal(cluster.voters(last), '{1 2 3}')
    }
})

test('who has restarted is a learner until it is taken in again and knows it', () => {
  const cluster = new FailStop(3)
  const follower = cluster.leader === 1 ? 2 : 1
  cluster.crash(follower).pass(5)
  cluster.start(follower)
  assert.equal(cluster.host(follower).core.status().role, 'learner')
  cluster.pass()
  const { members } = cluster.host(follower).core.status().configuration
  assert.deepEqual(
    members.find(({ id }) => id === follower),
    { id: follower, voter: true, address: `a${follower}`, incarnation: 2 },
  )
})

test('who has caught up is taken in again although another one that is back is far behind', () => {
  const cluster = new FailStop(3)
  const { leader } = cluster
  const [behind = 0, caughtUp = 0] = [1, 2, 3].filter((id) => id !== leader)
  cluster.crash(behind).pass().propose('missed').pass()
  cluster.host(leader).compact(cluster.host(leader).appliedIndex)
  cluster.crash(caughtUp).pass().start(behind, caughtUp).pass()
  // Here the copy of the state that it waits for never comes.
  assert.deepEqual(cluster.host(leader).wanted, [behind])
  const { members } = cluster.host(leader).core.status().configuration
  assert.deepEqual(
    members.filter(({ voter }) => !voter).map(({ id }) => id),
    [behind],
  )
})

test('who says that another one may fail can go on when it does, also while it is being taken in again', () => {
  const cluster = new FailStop(3)
  const { leader } = cluster
  const [back = 0, away = 0] = [1, 2, 3].filter((id) => id !== leader)
  cluster.crash(away).crash(back).pass().start(back)
  const mayFail = (): number => cluster.host(back).core.status().mayFail
  assert.equal(mayFail(), 0)
  cluster.passUntil(500, () => mayFail() > 0)
  assert.ok(mayFail() > 0)
  cluster.crash(leader).pass()
  assert.equal(cluster.leader, back)
})

test('silence alone excludes nobody: writes wait, and who is silent is named', () => {
  const cluster = new FailStop(3)
  const { leader } = cluster
  const silent = leader === 3 ? 2 : 3
  const others = cluster.up.filter((id) => id !== silent)
  cluster.host(leader).propose('waits')
  cluster.cluster.tick(60, others)
  assert.ok(!cluster.has(leader, 'waits'))
  assert.deepEqual(cluster.waitingFor(leader), [silent])
  assert.equal(cluster.host(leader).core.status().available, false)
  assert.equal(cluster.host(leader).core.status().mayFail, -1)
  cluster.pass(10)
  assert.ok(cluster.has(leader, 'waits'))
})

test('an operator can say that a silent replica is dead', () => {
  const cluster = new FailStop(3)
  const { leader } = cluster
  const silent = leader === 3 ? 2 : 3
  const others = cluster.up.filter((id) => id !== silent)
  cluster.host(leader).propose('waits')
  cluster.cluster.tick(30, others)
  cluster.host(leader).step({ kind: 'giveUp', replicas: [silent] })
  cluster.cluster.tick(5, others)
  assert.ok(cluster.has(leader, 'waits'))
})

test('an operator can give up who has gone on alone; what it alone has is lost, and the others go on', () => {
  const cluster = new FailStop(3).propose('first').crash(1, 2).pass().propose('lost').crash(3).start(1, 2)
  cluster.pass(100)
  cluster.host(2).step({ kind: 'giveUp', replicas: [3] })
  cluster.pass(100)
  assert.notEqual(cluster.leader, 0)
  assert.ok(cluster.has(cluster.leader, 'first') && !cluster.has(cluster.leader, 'lost'))
  assert.equal(cluster.voters(cluster.leader), '{1 2 +3}')
})

test('a voter that lives is not removed: it could go on alone without knowing', () => {
  const cluster = new FailStop(3)
  const other = cluster.leader === 1 ? 2 : 1
  const leader = cluster.host(cluster.leader)
  leader.step({ kind: 'change', id: 7, change: { kind: 'remove', id: other } })
  cluster.cluster.settle(cluster.up)
  assert.deepEqual(
    leader.readies.flatMap(({ changes }) => changes.map(({ refused }) => refused)),
    ['stillAlive'],
  )
  cluster.crash(other).pass()
  leader.step({ kind: 'change', id: 8, change: { kind: 'remove', id: other } })
  cluster.pass(5)
  assert.ok(!cluster.voters(cluster.leader).includes(String(other)))
})

test('a leader whose term is not open campaigns again instead of excluding', () => {
  const all = new FailStop(3)
  const { cluster } = all
  const old = all.leader
  const [heir = 0, other = 0] = all.up.filter((id) => id !== old)
  const { term } = all.host(heir).core.status()
  all.host(heir).receive({ kind: 'timeoutNow', from: old, to: heir, term })
  // The votes are asked for and given; what opens the term stays on the way.
  for (const ids of [[heir], [old, other], [heir]]) {
    for (const id of ids) {
      cluster.ready(id)
      cluster.flush(id)
    }
    cluster.deliver(({ kind }) => kind === 'vote' || kind === 'voteReply')
  }
  const leader = all.host(heir)
  assert.equal(leader.core.status().role, 'leader')
  const unopened = leader.core.status().term
  all.crash(other).pass(30)
  const entries = leader.log.all.filter((entry) => entry.term === unopened)
  assert.ok(entries.length <= 1, 'nobody was excluded in the term that was never opened')
  assert.equal(all.voters(all.leader).includes(`+${other}`), true)
  assert.ok(all.host(all.leader).core.status().term > unopened)
  all.propose('goes on')
  assert.ok(all.has(all.leader, 'goes on'))
})
