import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { AssertionError } from '../base/assert.ts'
import { seededRandom } from '../base/random.ts'
import { RaftCore } from './core.ts'
import {
  clusterOf,
  configurationOf,
  defaultOptions,
  describeConfiguration,
  Host,
  MemoryLog,
  type Cluster,
} from './harness.ts'
import type { ChangeRefusal, ConfigurationChange, Entry, Message, Ready } from './types.ts'

const status = (cluster: Cluster, id: number) => cluster.host(id).core.status()
const lastReady = (host: Host): Ready => {
  const ready = host.readies.at(-1)
  assert.ok(ready !== undefined)
  return ready
}
const data = (term: number, index: number): Entry => ({
  kind: 'data',
  term,
  index,
  data: new TextEncoder().encode(`${index}.${term}`),
})
const logOf = (...terms: readonly number[]) => terms.map((term, position) => data(term, position + 1))

function change(cluster: Cluster, leader: number, wanted: ConfigurationChange): string | null {
  const host = cluster.host(leader)
  host.step({ kind: 'change', id: 1, change: wanted })
  cluster.ready(leader)
  return lastReady(host).changes.at(-1)?.refused ?? null
}

// What is committed

test('a single voter leads at once and commits only what is on its own disk (etcd 14370)', () => {
  const host = new Host(1, configurationOf([1])).tick()
  host.ready()
  assert.equal(host.core.status().role, 'candidate')
  host.settle()
  assert.equal(host.core.status().role, 'leader')
  host.propose('a')
  host.ready()
  assert.equal(host.core.status().commitIndex, 1)
  host.flush()
  host.settle()
  assert.deepEqual(host.history, ['1/1 noop', '2/1 "a"'])
})

test('a leader counts itself only when its own disk has the entry', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a')
  cluster.ready(1)
  cluster.deliver(({ to }) => to === 2)
  cluster.settle([2])
  cluster.deliver()
  cluster.ready(1)
  assert.equal(status(cluster, 1).commitIndex, 1)
  cluster.flush(1)
  cluster.settle([1, 2])
  assert.equal(status(cluster, 1).commitIndex, 2)
})

test('a leader whose disk is slower than a quorum commits, and applies when its own disk has it', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a')
  cluster.ready(1)
  cluster.deliver()
  cluster.settle([2, 3])
  cluster.deliver()
  cluster.ready(1)
  assert.equal(status(cluster, 1).commitIndex, 2)
  assert.equal(cluster.host(1).appliedIndex, 1)
  cluster.settle()
  assert.equal(cluster.host(1).appliedIndex, 2)
  assert.equal(cluster.host(2).appliedIndex, 2)
})

test('a follower answers only when its disk has the entries and the term', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a')
  cluster.settle([1])
  cluster.deliver(({ to }) => to === 2)
  cluster.ready(2)
  assert.deepEqual(lastReady(cluster.host(2)).send, [])
  assert.equal(lastReady(cluster.host(2)).sendAfterWrite[0]?.kind, 'appendReply')
})

test('a stale report of the disk, for entries that were overwritten since, counts for nothing', () => {
  const host = new Host(1, configurationOf([1, 2, 3, 4]))
  const append = (term: number, from: number, entry: Entry, commit = 0): Message => ({
    kind: 'append',
    from,
    to: 1,
    term,
    prevIndex: 0,
    prevTerm: 0,
    entries: [entry],
    commit,
  })
  host.receive(append(1, 2, data(1, 1))).ready()
  host.receive(append(2, 3, data(2, 1))).ready()
  // The first entry comes back in a third term; the same index and term were written before, and overwritten.
  host.receive(append(3, 4, data(1, 1), 1)).ready()
  host.flush(1)
  host.ready()
  assert.equal(lastReady(host).commitIndex, 0, 'the entry is not on disk, though an earlier one like it was')
  host.flush(1)
  host.ready()
  assert.equal(lastReady(host).commitIndex, 0)
  host.flush()
  host.ready()
  assert.equal(lastReady(host).commitIndex, 1)
})

test('a follower takes over a commit index only as far as its log is known to match', () => {
  const host = new Host(3, configurationOf([1, 2, 3]), {
    hardState: { term: 1, vote: 0 },
    entries: logOf(1, 1, 1),
  })
  host.receive({ kind: 'heartbeat', from: 1, to: 3, term: 2, commit: 3, round: 1 })
  host.settle()
  assert.equal(host.core.status().commitIndex, 0)
  host.receive({ kind: 'append', from: 1, to: 3, term: 2, prevIndex: 1, prevTerm: 1, entries: [], commit: 3 })
  host.settle()
  assert.equal(host.core.status().commitIndex, 1)
})

// Appends

test('old appends, again and in any order, take nothing away (openraft)', () => {
  const appends: Message[] = []
  const cluster = clusterOf([1, 2, 3], { options: { maxAppendBytes: 2 } })
  cluster.onReady = (_, ready) =>
    appends.push(...ready.send.filter(({ kind, to }) => to === 3 && kind === 'append'))
  cluster.elect(1)
  for (const text of ['a', 'b', 'c', 'd', 'e']) {
    cluster.host(1).propose(text, text)
    cluster.settle()
  }
  cluster.elect(2)
  cluster.host(2).propose('f', 'g', 'h')
  cluster.settle()
  const follower = cluster.host(3)
  const { lastIndex, commitIndex } = follower.core.status()
  assert.ok(appends.length > 5 && commitIndex === lastIndex)
  fc.assert(
    fc.property(fc.shuffledSubarray(appends), (again) => {
      for (const message of again) {
        follower.receive(message)
        follower.settle()
      }
      assert.equal(follower.core.status().lastIndex, lastIndex)
      assert.equal(follower.log.lastIndex, lastIndex)
    }),
    { numRuns: 200 },
  )
})

test('an old append of the same term does not shorten what is not committed yet', () => {
  const host = new Host(2, configurationOf([1, 2, 3]))
  const append = (entries: readonly Entry[]): Message => ({
    kind: 'append',
    from: 1,
    to: 2,
    term: 1,
    prevIndex: 0,
    prevTerm: 0,
    entries,
    commit: 0,
  })
  host.receive(append(logOf(1, 1, 1))).receive(append(logOf(1)))
  const sent = host.settle()
  assert.equal(host.core.status().lastIndex, 3)
  assert.deepEqual(
    sent.filter(({ kind }) => kind === 'appendReply').map((reply) => 'index' in reply && reply.index),
    [3],
    'several appends are acknowledged in one reply',
  )
})

test('what was accepted from one leader is not acknowledged to the next', () => {
  const host = new Host(2, configurationOf([1, 2, 3]))
  const append = (from: number, term: number, entries: readonly Entry[]): Message => ({
    kind: 'append',
    from,
    to: 2,
    term,
    prevIndex: 0,
    prevTerm: 0,
    entries,
    commit: 0,
  })
  host.receive(append(1, 1, logOf(1, 1, 1))).receive(append(3, 2, [data(2, 1)]))
  const replies = host.settle()
  assert.deepEqual(
    replies.map((reply) => reply.kind === 'appendReply' && [reply.to, reply.index]),
    [[3, 1]],
  )
})

test('a refusal from long ago does not make the leader go back behind what is acknowledged', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a', 'b')
  cluster.settle()
  cluster.host(1).propose('c')
  cluster.ready(1)
  cluster.network = []
  cluster.host(1).receive({
    kind: 'appendReply',
    from: 2,
    to: 1,
    term: 1,
    accepted: false,
    prevIndex: 4,
    index: 0,
    conflictTerm: 0,
    lastIndex: 0,
  })
  cluster.ready(1)
  const [again] = cluster.network.filter(({ to, kind }) => to === 2 && kind === 'append')
  assert.ok(again?.kind === 'append')
  assert.equal(again.prevIndex, 3)
})

test('an append that contradicts what is committed is a bug, and stops the replica', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const contradicting: Message = {
    kind: 'append',
    from: 3,
    to: 2,
    term: 9,
    prevIndex: 0,
    prevTerm: 0,
    entries: [data(9, 1)],
    commit: 0,
  }
  assert.throws(() => cluster.host(2).receive(contradicting), AssertionError)
})

test('appends are contiguous and complete whatever their limit of size (LogCabin 160)', () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 30 })
  fc.assert(
    fc.property(
      sizes,
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 4 }),
      (texts, limit, window) => {
        const cluster = clusterOf([1, 2], {
          options: { maxAppendBytes: limit, maxInflightMessages: window, maxInflightBytes: 3 * limit },
        }).elect(1)
        cluster.onReady = (_, { send }) => {
          for (const message of send) {
            if (message.kind !== 'append' || message.entries.length < 2) continue
            let bytes = 0
            for (const [offset, entry] of message.entries.entries()) {
              assert.equal(entry.index, message.prevIndex + 1 + offset)
              bytes += entry.kind === 'data' ? entry.data.length : 0
            }
            assert.ok(bytes <= limit, 'only a single entry may be above the limit')
          }
        }
        for (const [position, size] of texts.entries()) {
          cluster.host(1).propose('x'.repeat(size))
          if (position % 3 === 0) cluster.ready(1)
        }
        cluster.settle()
        assert.equal(cluster.host(2).history.length, texts.length + 1)
        assert.deepEqual(cluster.host(2).history, cluster.host(1).history)
      },
    ),
    { numRuns: 60 },
  )
})

// Elections

test('a vote goes to who has the later last term, then to who has the longer log: all pairs (openraft, liferaft)', () => {
  const logs = [[], [1], [1, 1], [1, 1, 1], [1, 2], [2], [2, 2], [1, 1, 3], [3]]
  const place = (log: readonly number[]) => [log.at(-1) ?? 0, log.length] as const
  for (const candidate of logs)
    for (const voter of logs) {
      const [term, length] = place(candidate)
      const [ownTerm, ownLength] = place(voter)
      const isNewEnough = term > ownTerm || (term === ownTerm && length >= ownLength)
      for (const kind of ['vote', 'preVote'] as const) {
        const host = new Host(1, configurationOf([1, 2]), {
          hardState: { term: 3, vote: 0 },
          entries: logOf(...voter),
        })
        const asked = { from: 2, to: 1, term: 4, lastIndex: length, lastTerm: term, transfer: false }
        host.receive(kind === 'vote' ? { kind, ...asked } : { kind, ...asked })
        const reply = host.settle()[0]
        assert.ok(reply?.kind === 'voteReply' || reply?.kind === 'preVoteReply')
        assert.equal(reply.granted, isNewEnough, `${candidate.join()} asks ${voter.join()}`)
      }
    }
})

test('a replica votes once a term, and remembers it after a restart', () => {
  const host = new Host(1, configurationOf([1, 2, 3]))
  const vote = (from: number): Message => ({
    kind: 'vote',
    from,
    to: 1,
    term: 5,
    lastIndex: 0,
    lastTerm: 0,
    transfer: false,
  })
  const answer = (from: number) => {
    host.receive(vote(from))
    const reply = host.settle().find(({ kind }) => kind === 'voteReply')
    return reply?.kind === 'voteReply' && reply.granted
  }
  assert.equal(answer(2), true)
  assert.equal(answer(3), false)
  host.restart()
  assert.equal(host.core.status().term, 5)
  assert.equal(answer(3), false)
  assert.equal(answer(2), true, 'a repeated request gets the same answer')
})

test('a candidate counts its own vote only when it is on its disk', () => {
  const host = new Host(1, configurationOf([1, 2])).receive({ kind: 'timeoutNow', from: 2, to: 1, term: 0 })
  host.ready()
  assert.deepEqual(lastReady(host).send, [], 'nothing leaves before the term is on disk')
  host.receive({ kind: 'voteReply', from: 2, to: 1, term: 1, granted: true })
  assert.equal(host.core.status().role, 'candidate')
  host.flush()
  assert.equal(host.core.status().role, 'leader')
})

test('a candidate or leader that sees a higher term becomes a follower', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).receive({ kind: 'voteReply', from: 2, to: 1, term: 7, granted: false })
  assert.equal(status(cluster, 1).role, 'follower')
  assert.equal(status(cluster, 1).term, 7)
  const candidate = new Host(1, configurationOf([1, 2])).receive({
    kind: 'timeoutNow',
    from: 2,
    to: 1,
    term: 0,
  })
  candidate.receive({
    kind: 'append',
    from: 2,
    to: 1,
    term: 1,
    prevIndex: 0,
    prevTerm: 0,
    entries: [],
    commit: 0,
  })
  assert.equal(candidate.core.status().leader, 2)
})

test('who hears a leader refuses to elect another, unless the leader hands over or its process ended', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const host = cluster.host(2)
  const { lastIndex } = host.core.status()
  const vote = { kind: 'vote', from: 3, to: 2, term: 9, lastIndex, lastTerm: 1 } as const
  const preVote = { kind: 'preVote', from: 3, to: 2, term: 9, lastIndex, lastTerm: 1 } as const
  const grants = () => host.settle().flatMap((reply) => ('granted' in reply ? [reply.granted] : []))
  host.receive(preVote).receive({ ...vote, transfer: false })
  assert.deepEqual(grants(), [false])
  assert.equal(host.core.status().term, 1)
  // r2 would not campaign itself at once, since r1's end makes r3 the second of those who survive.
  host.step({ kind: 'suspect', replica: 1 }).settle()
  host.receive(preVote)
  assert.deepEqual(grants(), [true])
  host.receive({ ...vote, transfer: true })
  assert.deepEqual(grants(), [true])
  assert.equal(host.core.status().term, 9)
})

test('a leader that asks for votes leads no more, so nobody refuses it for its own sake', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).restart()
  cluster.host(1).receive({ kind: 'timeoutNow', from: 9, to: 1, term: 1 })
  cluster.settle()
  assert.equal(status(cluster, 1).role, 'leader')
  assert.equal(status(cluster, 1).term, 2)
})

test('when a later term deposes the leader without an election, it campaigns again at once', () => {
  const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
  cluster.host(5).durable.hardState = { term: 8, vote: 0 }
  cluster.host(5).restart()
  cluster.tick(6)
  assert.equal(status(cluster, 1).role, 'leader')
  assert.equal(status(cluster, 5).leader, 1)
})

test('a replica keeps its role, term and log over a restart: a learner stays a learner (openraft)', () => {
  const cluster = clusterOf([1, 2, 3], { learners: [4] }).elect(1)
  cluster.host(1).propose('a')
  cluster.settle()
  for (const id of [1, 2, 3, 4]) {
    const before = status(cluster, id)
    cluster.host(id).restart()
    const after = status(cluster, id)
    assert.equal(after.role, id === 4 ? 'learner' : 'follower')
    assert.equal(after.term, before.term)
    assert.equal(after.lastIndex, before.lastIndex)
    assert.deepEqual(after.configuration, before.configuration)
  }
  cluster.host(4).tick(100).settle()
  assert.equal(status(cluster, 4).role, 'learner')
  assert.equal(status(cluster, 4).term, 1)
})

test('a leader and a candidate restart as followers and count no old votes', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).restart()
  assert.equal(status(cluster, 1).role, 'follower')
  const candidate = new Host(1, configurationOf([1, 2, 3])).receive({
    kind: 'timeoutNow',
    from: 2,
    to: 1,
    term: 0,
  })
  candidate.settle()
  candidate.restart()
  candidate.receive({ kind: 'voteReply', from: 2, to: 1, term: 1, granted: true })
  candidate.receive({ kind: 'voteReply', from: 3, to: 1, term: 1, granted: true })
  assert.equal(candidate.core.status().role, 'follower')
})

test('the survivors of a leader that died elect one of them without waiting for silence', () => {
  for (const dead of [[1], [1, 2], [1, 5]]) {
    const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
    const alive = [1, 2, 3, 4, 5].filter((id) => !dead.includes(id))
    for (const id of alive) for (const replica of dead) cluster.host(id).step({ kind: 'suspect', replica })
    cluster.settle(alive)
    if (!alive.some((id) => status(cluster, id).role === 'leader')) cluster.tick(3, alive)
    assert.equal(alive.filter((id) => status(cluster, id).role === 'leader').length, 1)
  }
})

test('the survivor with the newest log wins even when another one asks first', () => {
  const cluster = clusterOf([1, 2, 3, 4, 5]).elect(5)
  cluster.host(5).propose('a')
  cluster.settle([5, 3, 4])
  cluster.network = []
  for (const id of [1, 2, 3, 4]) cluster.host(id).step({ kind: 'suspect', replica: 5 })
  cluster.tick(5, [1, 2, 3, 4])
  assert.equal(status(cluster, 3).role, 'leader')
  assert.ok(cluster.host(1).history.includes('2/1 "a"'))
})

test('of two survivors that ask at the same moment one steps back, so that votes do not split', () => {
  const cluster = clusterOf([1, 2, 3, 4]).elect(1)
  const alive = [2, 3, 4]
  for (const id of alive) cluster.host(id).step({ kind: 'suspect', replica: 1 })
  cluster.host(3).tick(2)
  assert.deepEqual(
    alive.map((id) => status(cluster, id).role),
    ['candidate', 'candidate', 'follower'],
  )
  cluster.settle(alive)
  assert.equal(status(cluster, 2).role, 'leader')
  assert.equal(status(cluster, 2).term, 2)
})

// Partitions (Cloudflare 2020)

test('a follower that hears its leader no more, or is not heard by it, disturbs nobody', () => {
  for (const cuts of [['1>3'], ['3>1'], ['1>3', '3>1']]) {
    const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
    for (const cut of cuts) cluster.cuts.add(cut)
    cluster.tick(60)
    assert.equal(status(cluster, 1).role, 'leader', cuts.join())
    assert.equal(status(cluster, 1).term, 1, cuts.join())
    cluster.cuts.clear()
    cluster.host(1).propose('a')
    cluster.tick(40)
    assert.equal(status(cluster, 1).term, 1)
    assert.equal(cluster.host(3).history.at(-1), '2/1 "a"')
  }
})

test('whatever links are cut, a leader that keeps a quorum keeps leading', () => {
  const links = [2, 3, 4, 5].flatMap((a) => [1, 2, 3, 4, 5].filter((b) => a !== b).map((b) => `${a}>${b}`))
  fc.assert(
    fc.property(fc.subarray(links), (cuts) => {
      const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
      for (const cut of cuts) cluster.cuts.add(cut)
      // r2 and r3 are heard by r1, and hear it.
      for (const cut of ['2>1', '3>1', '2>3', '3>2']) cluster.cuts.delete(cut)
      cluster.tick(50)
      assert.equal(status(cluster, 1).term, 1)
      assert.equal(status(cluster, 1).role, 'leader')
    }),
    { numRuns: 40 },
  )
})

test('when the leader is cut off from all but one, those who hear each other elect another', () => {
  const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
  for (const id of [3, 4, 5]) for (const cut of [`1>${id}`, `${id}>1`]) cluster.cuts.add(cut)
  cluster.tick(80)
  const leaders = [2, 3, 4, 5].filter((id) => status(cluster, id).role === 'leader')
  assert.equal(leaders.length, 1)
  assert.notEqual(status(cluster, 1).role, 'leader')
  cluster.cuts.clear()
  cluster.tick(40)
  assert.equal([1, 2, 3, 4, 5].filter((id) => status(cluster, id).role === 'leader').length, 1)
})

test('a leader that hears nobody because only its ears are cut steps down, though its heartbeats arrive', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  for (const cut of ['2>1', '3>1']) cluster.cuts.add(cut)
  cluster.tick(60)
  assert.notEqual(status(cluster, 1).role, 'leader')
  assert.equal([2, 3].filter((id) => status(cluster, id).role === 'leader').length, 1)
})

// Membership

test('a change names the term that it was appended in, even when that is over before anybody hears of it', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1).settle()
  const host = cluster.host(1)
  const { term } = host.core.status()
  host.step({ kind: 'change', id: 7, change: { kind: 'remove', id: 3 } })
  host.step({
    kind: 'message',
    message: { kind: 'heartbeat', from: 2, to: 1, term: term + 1, commit: 0, round: 1 },
  })
  cluster.ready(1)
  const answer = lastReady(host).changes.at(-1)
  assert.equal(answer?.id, 7)
  assert.equal(answer.term, term)
  assert.equal(host.core.status().term, term + 1)
})

test('a leader changes nothing before it has committed in its term (Ongaro 2015)', () => {
  // The schedule of the erratum: r1 appends "add 5" alone; r2 is elected by r3 and must not go on from the older set before its own term is committed.
  const cluster = clusterOf([1, 2, 3, 4]).elect(1)
  assert.equal(change(cluster, 1, { kind: 'addLearner', id: 5, address: 'a5' }), null)
  cluster.network = []
  cluster.host(2).receive({ kind: 'timeoutNow', from: 1, to: 2, term: 1 })
  for (let i = 0; i < 6 && status(cluster, 2).role !== 'leader'; i += 1) {
    for (const id of [2, 3, 4]) {
      cluster.ready(id)
      cluster.flush(id)
    }
    cluster.deliver(({ to }) => to !== 1)
  }
  assert.equal(change(cluster, 2, { kind: 'remove', id: 1 }), 'termNotOpened')
  cluster.settle([2, 3, 4])
  assert.equal(change(cluster, 2, { kind: 'remove', id: 1 }), null)
})

test('an id is never given again, not even the highest one after its replica was removed', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  for (const wanted of [
    { kind: 'addLearner', id: 5, address: 'a5' },
    { kind: 'remove', id: 5 },
  ] as const) {
    assert.equal(change(cluster, 1, wanted), null)
    cluster.settle()
  }
  for (const id of [2, 4, 5])
    assert.equal(
      change(cluster, 1, { kind: 'addLearner', id, address: 'again' }),
      id === 2 ? 'alreadyMember' : 'idUsed',
    )
  // Nor is one given that no log could be read with.
  assert.equal(change(cluster, 1, { kind: 'addLearner', id: 2 ** 31, address: 'a7' }), 'idUsed')
  assert.equal(change(cluster, 1, { kind: 'addLearner', id: 6, address: 'a6' }), null)
})

test('a replica that asks at two others to be let in becomes one member, and its address is free when that is removed', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const asked: readonly (readonly [ConfigurationChange, ChangeRefusal | null])[] = [
    [{ kind: 'addLearner', id: 4, address: 'a4' }, null],
    [{ kind: 'addLearner', id: 5, address: 'a4' }, 'alreadyMember'],
    [{ kind: 'remove', id: 4 }, null],
    [{ kind: 'addLearner', id: 5, address: 'a4' }, null],
  ]
  for (const [wanted, refused] of asked) {
    assert.equal(change(cluster, 1, wanted), refused)
    cluster.settle()
  }
})

test('a change that is asked for at a follower is answered there as the leader answers it', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  assert.equal(change(cluster, 2, { kind: 'addLearner', id: 4, address: 'a4' }), null)
  cluster.settle()
  const host = cluster.host(2)
  assert.equal(describeConfiguration(host.core.status().configuration), '{1 2 3 +4}')
})

test('a question about a change that the leader never answers ends as unanswered', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const host = cluster.host(2)
  host.step({ kind: 'change', id: 9, change: { kind: 'remove', id: 3 } })
  cluster.ready(2)
  cluster.network = []
  host.step({ kind: 'suspect', replica: 1 })
  host.step({ kind: 'reachable', replica: 1 })
  cluster.ready(2)
  assert.deepEqual(
    lastReady(host).changes.map(({ id, index, refused }) => ({ id, index, refused })),
    [{ id: 9, index: null, refused: 'unanswered' }],
  )
})

test('leadership is handed over where a follower was asked for it, and never to who is not heard', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(3).step({ kind: 'transfer', to: 2 })
  cluster.settle()
  assert.equal(status(cluster, 2).role, 'leader')
  cluster.host(2).step({ kind: 'suspect', replica: 3 })
  cluster.host(1).step({ kind: 'transfer', to: 3 })
  cluster.settle()
  assert.equal(status(cluster, 2).role, 'leader')
  cluster.host(2).propose('still taken').ready()
  cluster.settle()
  assert.ok(cluster.host(1).history.some((entry) => entry.includes('still taken')))
})

test('a change that only the dead leader knew to be committed binds its successors (etcd 12359)', () => {
  const cluster = clusterOf([1, 2, 3], { learners: [4] }).elect(1)
  assert.equal(change(cluster, 1, { kind: 'promote', id: 4 }), null)
  // Everybody has the entry on disk, and nobody but r1 hears that it is committed.
  cluster.deliver()
  for (const id of [2, 3, 4]) {
    cluster.ready(id)
    cluster.flush(id)
  }
  cluster.flush(1)
  cluster.deliver()
  cluster.ready(1)
  assert.equal(status(cluster, 1).commitIndex, 2)
  cluster.network = []
  for (const id of [2, 3, 4]) cluster.host(id).step({ kind: 'suspect', replica: 1 })
  cluster.tick(4, [2, 3, 4])
  assert.equal(status(cluster, 2).role, 'leader')
  assert.equal(describeConfiguration(status(cluster, 2).configuration), '{1 2 3 4}')
})

test('a learner that does not know of its promotion gives its vote (etcd 10998)', () => {
  const cluster = clusterOf([1, 2], { learners: [3] }).elect(1)
  assert.equal(change(cluster, 1, { kind: 'promote', id: 3 }), null)
  cluster.settle([1, 2])
  assert.equal(status(cluster, 3).role, 'learner')
  cluster.network = []
  for (const id of [2, 3]) cluster.host(id).step({ kind: 'suspect', replica: 1 })
  cluster.tick(4, [2, 3])
  assert.equal(status(cluster, 2).role, 'leader')
  assert.equal(status(cluster, 3).role, 'follower')
})

test('a removed replica that does not know it cannot disturb the others (hashicorp/raft 524)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  for (const cut of ['1>3', '3>1', '2>3', '3>2']) cluster.cuts.add(cut)
  assert.equal(change(cluster, 1, { kind: 'remove', id: 3 }), null)
  cluster.tick(40)
  cluster.cuts.clear()
  cluster.cuts.add('1>3')
  cluster.tick(60)
  assert.equal(status(cluster, 1).role, 'leader')
  assert.equal(status(cluster, 1).term, 1)
})

test('a leader that is being removed may still be needed, and campaigns (Raft dissertation §4.2.2)', () => {
  const cluster = clusterOf([1, 2]).elect(1)
  assert.equal(change(cluster, 1, { kind: 'remove', id: 1 }), null)
  cluster.settle([1])
  cluster.network = []
  // r2, the only voter that is left, has not got the entry, and r1 must refuse it its vote.
  cluster.tick(16, [1])
  assert.notEqual(status(cluster, 1).role, 'leader')
  cluster.tick(60)
  assert.equal(status(cluster, 2).role, 'leader')
  assert.equal(describeConfiguration(status(cluster, 2).configuration), '{2}')
})

test('the configuration outlives two compactions and a restart (openraft)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.add(4)
  change(cluster, 1, { kind: 'addLearner', id: 4, address: 'a4' })
  cluster.tick(6)
  assert.equal(change(cluster, 1, { kind: 'promote', id: 4 }), null)
  for (let i = 0; i < 2; i += 1) {
    cluster.host(1).propose('a')
    cluster.settle()
    for (const host of cluster.hosts.values()) host.compact(host.appliedIndex)
  }
  for (const host of cluster.hosts.values()) {
    host.restart()
    assert.equal(describeConfiguration(host.core.status().configuration), '{1 2 3 4}')
  }
})

test('a configuration in the log after a compaction is found at start', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  change(cluster, 1, { kind: 'addLearner', id: 4, address: 'a4' })
  cluster.host(1).propose('a')
  cluster.settle()
  for (const host of cluster.hosts.values()) {
    host.compact(1)
    host.restart({ appliedIndex: 1 })
    assert.equal(describeConfiguration(host.core.status().configuration), '{1 2 3 +4}')
  }
})

test('a learner that got only a snapshot in an idle cluster can be promoted (ra 584)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a')
  cluster.settle()
  cluster.add(4)
  change(cluster, 1, { kind: 'addLearner', id: 4, address: 'a4' })
  cluster.settle([1, 2, 3])
  const leader = cluster.host(1)
  leader.compact(leader.appliedIndex)
  cluster.settle()
  assert.deepEqual(leader.wanted, [4])
  assert.equal(change(cluster, 1, { kind: 'promote', id: 4 }), 'notCaughtUp')
  const snapshot = leader.takeSnapshot()
  leader.step({ kind: 'snapshotTaken', to: 4, point: snapshot.point })
  cluster.settle()
  assert.ok(cluster.host(4).install(snapshot))
  leader.step({ kind: 'snapshotSent', to: 4, index: snapshot.point.index, ok: true })
  cluster.settle()
  assert.equal(change(cluster, 1, { kind: 'promote', id: 4 }), null)
  cluster.settle()
  assert.equal(status(cluster, 4).role, 'follower')
})

test('a leader that is deposed in the middle of a change answers no reads, and its change is undone (canonical/raft 323)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  for (const cut of ['1>2', '1>3', '2>1', '3>1']) cluster.cuts.add(cut)
  assert.equal(change(cluster, 1, { kind: 'remove', id: 3 }), null)
  cluster.host(1).step({ kind: 'readIndex', id: 5 })
  cluster.settle([1])
  cluster.tick(15, [2, 3])
  cluster.elect(2, [2, 3])
  cluster.host(2).propose('new')
  cluster.settle([2, 3])
  cluster.tick(15, [1])
  const reads = () => cluster.host(1).readies.flatMap((ready) => ready.reads)
  assert.deepEqual(reads(), [{ id: 5, index: null }])
  cluster.cuts.clear()
  cluster.tick(10)
  assert.equal(describeConfiguration(status(cluster, 1).configuration), '{1 2 3}')
  assert.ok(cluster.host(1).history.some((entry) => entry.endsWith('"new"')))
})

// Handing over

test('leadership is handed over in the middle of a change (raft-rs 221)', () => {
  const cluster = clusterOf([1, 2, 3], { learners: [4] }).elect(1)
  assert.equal(change(cluster, 1, { kind: 'promote', id: 4 }), null)
  cluster.host(1).step({ kind: 'transfer', to: 2 })
  assert.equal(change(cluster, 1, { kind: 'remove', id: 3 }), 'notLeader')
  cluster.settle()
  assert.equal(status(cluster, 2).role, 'leader')
  assert.equal(describeConfiguration(status(cluster, 2).configuration), '{1 2 3 4}')
})

test('leadership is not handed to who is being removed', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  assert.equal(change(cluster, 1, { kind: 'remove', id: 3 }), null)
  cluster.host(1).step({ kind: 'transfer', to: 3 })
  cluster.settle()
  assert.equal(status(cluster, 1).role, 'leader')
})

test('a leader without room looks for a successor that has room', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(2).step({ kind: 'full', full: true })
  cluster.host(1).step({ kind: 'full', full: true })
  cluster.settle()
  assert.equal(status(cluster, 2).role, 'follower')
  cluster.tick(35)
  assert.equal(status(cluster, 3).role, 'leader')
})

test('leadership is handed over under a stream of writes, and nothing of it is lost unnoticed (hashicorp/raft 581)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const noticed = new Map<number, number>()
  cluster.onReady = (host, ready) => {
    if (ready.interrupted) noticed.set(host.id, host.readies.length)
  }
  for (let i = 0; i < 20; i += 1) {
    if (i === 5) cluster.host(1).step({ kind: 'transfer', to: 2 })
    for (const id of [1, 3]) {
      cluster.host(id).propose(`${id}.${i}`)
      cluster.ready(id)
      cluster.deliver()
    }
  }
  cluster.settle()
  assert.equal(status(cluster, 2).role, 'leader')
  assert.deepEqual([...noticed.keys()].sort(), [1, 3])
})

test('while nobody takes proposals, those who made some are told once, when somebody does', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  let told = 0
  cluster.onReady = (host, ready) => {
    if (host.id === 2 && ready.interrupted) told += 1
  }
  const others = [2, 3]
  cluster.tick(15, others)
  for (let i = 0; i < 10; i += 1) cluster.host(2).propose(`${i}`)
  cluster.settle(others)
  cluster.network = []
  assert.equal(told, 0)
  cluster.elect(3, others)
  assert.equal(told, 1)
})

test('a proposal that is dropped for want of room is asked for again only when there is room for it', () => {
  const cluster = clusterOf([1, 2, 3], { options: { maxUncommittedBytes: 100 } }).elect(1)
  let told = 0
  cluster.onReady = (host, ready) => {
    if (host.id === 1 && ready.interrupted) told += 1
  }
  cluster.host(1).propose('small')
  cluster.host(1).propose('x'.repeat(99))
  cluster.ready(1)
  assert.equal(told, 0)
  cluster.settle()
  assert.equal(told, 1)
  cluster.host(1).propose('x'.repeat(99))
  cluster.settle()
  assert.equal(status(cluster, 1).commitIndex, 3)
  assert.equal(told, 1)
})

test('a follower whose answers were lost gets a snapshot when the log no longer reaches back to it', () => {
  const cluster = clusterOf([1, 2, 3], { options: { maxInflightMessages: 1 } }).elect(1)
  cluster.cuts.add('3>1')
  for (const text of ['a', 'b']) {
    cluster.host(1).propose(text)
    cluster.settle()
  }
  cluster.host(1).compact(status(cluster, 1).commitIndex)
  cluster.cuts.clear()
  cluster.tick(10)
  assert.deepEqual(cluster.host(1).wanted, [3])
})

// Reads

test('reads of all replicas share one round, and see what was committed before they began', () => {
  const cluster = clusterOf([1, 2, 3, 4, 5]).elect(1)
  cluster.host(1).propose('a')
  cluster.settle()
  let rounds = 0
  cluster.onReady = (_, ready) => {
    rounds += ready.send.filter((message) => message.kind === 'heartbeat' && message.round > 0).length
  }
  for (const id of [1, 2, 3])
    for (let i = 0; i < 10; i += 1) cluster.host(id).step({ kind: 'readIndex', id: i })
  for (const id of [2, 3]) cluster.ready(id)
  cluster.deliver()
  cluster.settle()
  assert.equal(rounds, 4, 'one heartbeat to each of the others')
  for (const id of [1, 2, 3]) {
    const reads = cluster.host(id).readies.flatMap((ready) => ready.reads)
    assert.equal(reads.length, 10)
    assert.ok(reads.every(({ index }) => index === 2))
  }
})

test('the first operation on a new leader is a read, and it sees everything (ra 340, rqlite)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a')
  // r2 has the entry, and does not know that it is committed.
  cluster.ready(1)
  cluster.flush(1)
  cluster.deliver()
  cluster.ready(2)
  cluster.flush(2)
  cluster.deliver()
  cluster.ready(1)
  assert.equal(status(cluster, 1).commitIndex, 2)
  cluster.network = []
  cluster.host(2).receive({ kind: 'timeoutNow', from: 1, to: 2, term: 1 })
  cluster.host(2).step({ kind: 'readIndex', id: 1 })
  for (let i = 0; i < 20 && status(cluster, 2).role !== 'leader'; i += 1) {
    for (const id of [2, 3]) {
      cluster.ready(id)
      cluster.flush(id)
    }
    cluster.deliver(({ to }) => to !== 1)
  }
  cluster.host(2).step({ kind: 'readIndex', id: 2 })
  // Heartbeats go out, and are answered, before the term is open.
  cluster.host(2).tick(3)
  cluster.ready(2)
  cluster.deliver(({ kind }) => kind === 'heartbeat')
  cluster.ready(3)
  cluster.deliver(({ kind }) => kind === 'heartbeatReply')
  cluster.settle([2, 3])
  const reads = cluster.host(2).readies.flatMap((ready) => ready.reads)
  assert.deepEqual(reads[0], { id: 1, index: null }, 'asked while there was no leader')
  assert.equal(reads[1]?.id, 2)
  assert.ok((reads[1]?.index ?? 0) >= 2)
})

test('an answer to a read from before a restart is not taken for one of now', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const follower = cluster.host(2)
  follower.step({ kind: 'readIndex', id: 1 })
  cluster.ready(2)
  const [question] = cluster.network.splice(0)
  assert.ok(question?.kind === 'readIndex')
  follower.restart()
  cluster.tick(3)
  follower.step({ kind: 'readIndex', id: 1 })
  cluster.ready(2)
  const before = follower.readies.length
  follower.receive({ kind: 'readIndexReply', from: 1, to: 2, term: 1, id: question.id, index: 1 })
  cluster.ready(2)
  assert.deepEqual(
    follower.readies.slice(before).flatMap((ready) => ready.reads),
    [],
  )
  cluster.settle()
  assert.equal(follower.readies.flatMap((ready) => ready.reads).length, 1)
})

test('a question to a leader that never answers ends by itself', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.cuts.add('2>1')
  cluster.host(2).step({ kind: 'readIndex', id: 1 })
  cluster.tick(15)
  assert.deepEqual(
    cluster.host(2).readies.flatMap((ready) => ready.reads),
    [{ id: 1, index: null }],
  )
})

// Disks

test('a leader whose disk hangs hands over, and does not come back before its disk does (hashicorp/raft 503)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  const tick = () => {
    for (const host of cluster.hosts.values()) host.tick()
    for (let i = 0; i < 5; i += 1) {
      cluster.ready(1)
      cluster.settle([2, 3])
      cluster.deliver()
    }
  }
  cluster.host(1).propose('a')
  for (let i = 0; i < 20; i += 1) tick()
  assert.notEqual(status(cluster, 1).role, 'leader')
  assert.ok([2, 3].some((id) => status(cluster, id).role === 'leader'))
  for (let i = 0; i < 60; i += 1) tick()
  assert.notEqual(status(cluster, 1).role, 'leader')
  cluster.settle()
  cluster.tick(10)
  assert.equal(cluster.host(1).history.length, cluster.host(2).history.length)
})

test('a slow disk is no hanging one', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  for (let i = 0; i < 60; i += 1) {
    cluster.host(1).propose(`${i}`)
    cluster.ready(1)
    for (const host of cluster.hosts.values()) host.tick()
    if (i % 5 === 0) {
      cluster.host(1).flush(1)
      cluster.ready(1)
    }
    cluster.deliver()
    cluster.settle([2, 3])
    cluster.deliver()
  }
  assert.equal(status(cluster, 1).role, 'leader')
})

test('a replica whose disk was replaced by an older one is told apart, and counts no more (etcd 13509)', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a', 'b')
  cluster.settle()
  const old = cluster.host(3)
  // A backup from before the proposals.
  old.durable.log.write([{ kind: 'noop', term: 1, index: 1 }])
  old.history.length = 1
  old.restart()
  cluster.network = []
  cluster.tick(6)
  assert.deepEqual(
    cluster.host(1).readies.flatMap((ready) => ready.regressed),
    [3],
  )
  cluster.cuts.add('1>2').add('2>1')
  cluster.host(1).propose('c')
  cluster.tick(3, [1, 3])
  assert.equal(status(cluster, 1).commitIndex, 3, 'r3 does not help to commit')
})

test('a leader that has lost its quorum to a replaced disk resigns with the next tick, and does not call it quiet', () => {
  const cluster = clusterOf([1, 2, 3]).elect(1)
  cluster.host(1).propose('a', 'b')
  cluster.settle()
  cluster.cuts.add('1>2').add('2>1')
  cluster.tick(20, [1, 3])
  const old = cluster.host(3)
  old.durable.log.write([{ kind: 'noop', term: 1, index: 1 }])
  old.history.length = 1
  old.restart()
  cluster.network = []
  const { core, readies } = cluster.host(1)
  for (let i = 0; i < 10 && !readies.some(({ regressed }) => regressed.length > 0); i += 1)
    cluster.tick(1, [1, 3])
  assert.equal(core.status().role, 'leader')
  assert.equal(core.quietTicks(), 0)
  core.step({ kind: 'tick' })
  assert.equal(core.status().role, 'follower')
})

test('answers that come late, twice or in another order are no sign of a replaced disk', () => {
  const cluster = clusterOf([1, 2, 3])
  const replies: Message[] = []
  cluster.onReady = (_, ready) =>
    replies.push(
      ...[...ready.send, ...ready.sendAfterWrite].filter(({ kind, to }) => to === 1 && /Reply/.test(kind)),
    )
  cluster.elect(1)
  for (let i = 0; i < 5; i += 1) {
    cluster.host(1).propose(`${i}`)
    cluster.tick(3)
  }
  fc.assert(
    fc.property(fc.shuffledSubarray(replies), (again) => {
      for (const reply of again) cluster.host(1).receive(reply)
      cluster.settle()
      assert.deepEqual(
        cluster.host(1).readies.flatMap((ready) => ready.regressed),
        [],
      )
    }),
    { numRuns: 50 },
  )
})

// Snapshots

test('a snapshot that is offered while the log catches up is not taken over: all orders of the steps (openraft)', () => {
  const steps = ['offer', 'append', 'install', 'append again'] as const
  const orders = steps.flatMap((_, i) =>
    [...steps.slice(i), ...steps.slice(0, i)].flatMap((order) => [order]),
  )
  assert.ok(orders.length > 0)
  fc.assert(
    fc.property(fc.shuffledSubarray([...steps], { minLength: 4 }), (order) => {
      const host = new Host(2, configurationOf([1, 2, 3]))
      const point = { index: 3, term: 1, configuration: configurationOf([1, 2, 3]) }
      const append = (count: number): Message => ({
        kind: 'append',
        from: 1,
        to: 2,
        term: 1,
        prevIndex: 0,
        prevTerm: 0,
        entries: logOf(1, 1, 1, 1, 1).slice(0, count),
        commit: 2,
      })
      let acknowledged = 0
      for (const step of order) {
        if (step === 'offer') host.receive({ kind: 'snapshot', from: 1, to: 2, term: 1, point })
        else if (step === 'append') host.receive(append(2))
        else if (step === 'append again') host.receive(append(5))
        else host.install({ point, history: ['1/1 "1.1"', '2/1 "2.1"', '3/1 "3.1"'] })
        for (const reply of host.settle())
          if (reply.kind === 'appendReply' && reply.accepted)
            acknowledged = Math.max(acknowledged, reply.index)
        assert.ok(host.core.status().lastIndex >= acknowledged, 'what was acknowledged stays')
        assert.ok(host.appliedIndex >= host.log.start.index)
      }
    }),
  )
})

test('a snapshot that is not needed is answered when what makes it needless is on disk', () => {
  const host = new Host(2, configurationOf([1, 2, 3]))
  const configuration = configurationOf([1, 2, 3])
  host.receive({
    kind: 'append',
    from: 1,
    to: 2,
    term: 1,
    prevIndex: 0,
    prevTerm: 0,
    entries: logOf(1, 1),
    commit: 0,
  })
  host.ready()
  host.receive({ kind: 'snapshot', from: 1, to: 2, term: 1, point: { index: 2, term: 1, configuration } })
  host.ready()
  assert.equal(
    host.core.status().commitIndex,
    2,
    'the log matches, so it is committed as far as the snapshot',
  )
  assert.deepEqual(host.offers, [])
  assert.ok(!host.outbox.some(({ kind }) => kind === 'snapshotReply'))
  assert.ok(host.settle().some((reply) => reply.kind === 'snapshotReply' && reply.index === 2))
})

test('a core refuses to start on a state that is behind the log, or ahead of it (dragonboat 369)', () => {
  const point = { index: 2, term: 1, configuration: configurationOf([1, 2, 3]) }
  const start = (appliedIndex: number) =>
    new RaftCore(
      { ...defaultOptions, self: 1, incarnation: 1 },
      new MemoryLog(point, [data(1, 3), data(1, 4)]),
      { hardState: { term: 1, vote: 0 }, configuration: point.configuration, appliedIndex },
      seededRandom(1),
    )
  assert.throws(() => start(1), AssertionError)
  assert.throws(() => start(5), AssertionError)
  for (const appliedIndex of [2, 3, 4]) assert.equal(start(appliedIndex).status().commitIndex, appliedIndex)
})

test('a core refuses to start on a log of a later term than its hard state', () => {
  assert.throws(
    () => new Host(1, configurationOf([1]), { hardState: { term: 1, vote: 0 }, entries: logOf(1, 2) }),
    AssertionError,
  )
})
