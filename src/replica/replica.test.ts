import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'

import { makeUuidV7 } from '../base/ids.ts'
import { silentLogger } from '../base/logger.ts'
import { openChat } from '../chat/machine.ts'
import { CommandBatch, type Command } from '../gen/parley/v1/command.ts'
import { Policy } from '../gen/parley/v1/model.ts'
import { Event } from '../gen/parley/v1/service.ts'
import type {
  LogConsumer,
  LogStatus,
  ReplicaSetChange,
  ReplicaSetResult,
  ReplicatedLog,
} from '../log/port.ts'
import { ManualClock } from './manual-clock.ts'
import { commitMs, createReplica, type ReplicaStore } from './replica.ts'
import { commandOf, registerCommand, sendCommand, testId, type TestAccount } from './testing.ts'
import type { Executed } from './types.ts'

/** A log of one replica whose entries are committed when the test says so, and lost when it says so. */
class TestLog implements ReplicatedLog {
  available = true
  full = false
  leader = 1
  unreachable = 0
  /** What replica 2 knows; 0 = it was not met. */
  otherVersion = 1
  /** So many entries are committed elsewhere that have not come here. */
  ahead = 0
  clocksMs: (number | null)[] = []
  readonly changes: ReplicaSetChange[] = []
  changeResult: ReplicaSetResult = { ok: true, id: 2 }
  /** Proposed and not committed. */
  waiting: Uint8Array[] = []
  private consumer: LogConsumer | null = null
  private index = 0

  start(consumer: LogConsumer): Promise<void> {
    this.consumer = consumer
    consumer.statusChanged()
    return Promise.resolve()
  }

  propose(data: Uint8Array): void {
    this.waiting.push(data)
  }

  readBarrier(_timeoutMs: number, done: (index: number | null) => void): void {
    done(this.available ? this.index + this.waiting.length + this.ahead : null)
  }

  /** Commits these entries, or all that were proposed. */
  commit(entries: readonly Uint8Array[] = this.waiting.splice(0)): 'applied' | 'later' {
    if (entries.length === 0) return 'applied'
    const numbered = entries.map((data, i) => ({ index: this.index + i + 1, data }))
    const result = this.consumer?.apply(numbered, Uint8Array.of(7)) ?? 'later'
    if (result === 'applied') this.index += entries.length
    return result
  }

  interrupt(): void {
    this.consumer?.interrupted()
  }

  setAvailable(available: boolean): void {
    this.available = available
    this.consumer?.statusChanged()
  }

  change(change: ReplicaSetChange): Promise<ReplicaSetResult> {
    this.changes.push(change)
    return Promise.resolve(this.changeResult)
  }

  isRemoved(): boolean {
    return false
  }

  status(): LogStatus {
    const member = { voter: true, version: 2, roundTripUs: 0, matchIndex: 0, copy: null }
    return {
      available: this.available,
      full: this.full,
      leader: this.available ? this.leader : 0,
      self: 1,
      faultModel: 'majority',
      role: 'leader',
      term: 1,
      commitIndex: this.index,
      firstIndex: 1,
      lastIndex: this.index,
      logBytes: 0,
      voters: 2,
      mayFail: 0,
      waitingFor: [],
      commonVersion: Math.min(member.version, this.otherVersion),
      members: [
        { ...member, id: 1, address: 'h:1 h:2 h:3', reachable: true },
        {
          ...member,
          id: 2,
          address: 'h:4 h:5 h:6',
          reachable: this.unreachable !== 2,
          version: this.otherVersion,
        },
      ],
    }
  }

  otherClocksMs(): readonly (number | null)[] {
    return this.clocksMs
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }
}

interface TestStore {
  appliedIndex: number
  engineState: Uint8Array
  /** Why commits fail. */
  problem: Error | null
  hasRoom: boolean
  /** So many commits were tried. */
  attempts: number
}

async function setUp(poison: (command: Command) => void = () => undefined) {
  const clock = new ManualClock()
  const log = new TestLog()
  const db = new DatabaseSync(':memory:')
  const store: TestStore = {
    appliedIndex: 0,
    engineState: new Uint8Array(0),
    problem: null,
    hasRoom: true,
    attempts: 0,
  }
  const replicaStore: ReplicaStore = {
    db,
    get appliedIndex() {
      return store.appliedIndex
    },
    get engineState() {
      return store.engineState
    },
    sizeBytes: 0,
    freeBytes: 0,
    get hasRoom() {
      return store.hasRoom
    },
    begin: () => db.exec('BEGIN'),
    commit(index, engineState) {
      store.attempts += 1
      if (store.problem !== null) throw store.problem
      db.exec('COMMIT')
      store.appliedIndex = index
      store.engineState = engineState
    },
    rollback: () => db.exec('ROLLBACK'),
    checkpoint: () => undefined,
    takeSnapshot: () => Promise.reject(new Error('not here')),
    receiveSnapshot: () => Promise.reject(new Error('not here')),
  }
  const fatal: unknown[] = []
  const replica = createReplica({
    self: 1,
    incarnation: 3,
    clusterId: new Uint8Array(16),
    clock,
    logger: silentLogger,
    log,
    store: replicaStore,
    openChat: (sql) => openChat(sql, { beforeCommand: poison }),
    search: null,
    vitals: () => ({ pid: 1, version: '1', residentBytes: 0, cpuUs: 0, searchBytes: 0, problem: '' }),
    onFatal: (error) => fatal.push(error),
  })
  await replica.start()
  const results: string[] = []
  const note =
    (name: string) =>
    (result: Executed): void => {
      results.push(`${name}: ${describe(result)}`)
    }
  /** Lets things happen until nothing is under way any more. */
  const settle = (): void => {
    for (let i = 0; i < 10; i += 1) {
      clock.run(50)
      log.commit()
    }
  }
  settle()
  const signUp = (name: string): TestAccount => {
    let who: TestAccount = { name, account: 0, session: 0 }
    replica.execute(registerCommand(name, clock.wallMs()), 1000, (result) => {
      const outcome = result.kind === 'applied' ? result.outcome.outcome : undefined
      if (outcome?.$case === 'register')
        who = { name, account: outcome.value.account?.id ?? 0, session: outcome.value.session }
    })
    settle()
    return who
  }
  const send = (who: TestAccount, to: string, text: string): void =>
    replica.execute(sendCommand(who, to, text, clock.wallMs()), 10_000, note(text))
  const texts = (who: TestAccount, to: string): string[] => {
    const target = { target: { $case: 'account', value: to } } as const
    const conversation = replica.queries.conversation(who.account, target)?.id ?? 0
    const range = { beforeSeq: 0, afterSeq: 0, pageSize: 100 }
    return (replica.queries.messages(who.account, conversation, range)?.messages ?? []).map(
      ({ text }) => text,
    )
  }
  return { clock, log, store, replica, fatal, results, settle, signUp, send, texts }
}

function describe(result: Executed): string {
  if (result.kind !== 'applied') return `${result.kind} ${result.why}`
  const { outcome } = result.outcome
  return outcome?.$case === 'rejected' ? String(outcome.value.reason) : String(outcome?.$case)
}

test('a command is answered with its outcome once it has been applied here', async () => {
  const { clock, log, results, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  send(alice, 'bob', 'one')
  send(alice, 'nobody', 'two')
  clock.run(100)
  assert.deepEqual(results, [])
  log.commit()
  assert.deepEqual(results, ['one: sendMessage', 'two: REASON_ACCOUNT_NOT_FOUND'])
  assert.deepEqual(texts(alice, 'bob'), ['one'])
})

test('what a change of leader lost is proposed again and takes effect once, in order', async () => {
  const { clock, log, results, settle, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  for (const text of ['one', 'two', 'three']) {
    send(alice, 'bob', text)
    clock.run()
  }
  const [first, second, third] = log.waiting.splice(0)
  assert.ok(first !== undefined && second !== undefined && third !== undefined)
  // The second is lost, and the others come twice.
  log.commit([first, third])
  log.setAvailable(false)
  log.interrupt()
  clock.run(500)
  assert.deepEqual(log.waiting, [])
  log.setAvailable(true)
  settle()
  assert.deepEqual(results, ['one: sendMessage', 'two: sendMessage', 'three: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two', 'three'])
})

test('what was lost without a word is proposed again after a while', async () => {
  const { clock, log, results, settle, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  for (const text of ['one', 'two']) {
    send(alice, 'bob', text)
    clock.run()
  }
  const [, second] = log.waiting.splice(0)
  assert.ok(second !== undefined)
  log.commit([second])
  assert.deepEqual(results, [])
  clock.run(3000)
  settle()
  assert.deepEqual(results, ['one: sendMessage', 'two: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two'])
})

test('an entry that holds no batch is skipped, and so is a batch that came twice', async () => {
  const { clock, log, results, settle, signUp, send, texts, store } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  settle()
  const before = store.appliedIndex
  send(alice, 'bob', 'one')
  clock.run()
  const [batch] = log.waiting.splice(0)
  assert.ok(batch !== undefined)
  assert.equal(log.commit([Uint8Array.of(0xff, 0xff), batch, batch]), 'applied')
  assert.deepEqual(results, ['one: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['one'])
  clock.run(commitMs)
  assert.equal(store.appliedIndex, before + 3)
})

test('a command that throws while it is applied is rejected, and its neighbours take effect', async () => {
  const { results, settle, signUp, send, texts, fatal } = await setUp(({ op }) => {
    if (op?.$case === 'sendMessage' && op.value.text === 'poison') throw new TypeError('a bug')
  })
  const alice = signUp('alice')
  signUp('bob')
  for (const text of ['one', 'poison', 'two']) send(alice, 'bob', text)
  settle()
  assert.deepEqual(results, ['one: sendMessage', 'poison: REASON_COMMAND_FAILED', 'two: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two'])
  assert.deepEqual(fatal, [])
})

test('what was applied is committed a little later, all of it at once', async () => {
  const { clock, log, store, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const before = store.appliedIndex
  for (const text of ['one', 'two', 'three']) {
    send(alice, 'bob', text)
    clock.run()
    log.commit()
  }
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two', 'three'])
  assert.equal(store.appliedIndex, before)
  clock.run(commitMs)
  assert.equal(store.appliedIndex, before + 3)
})

test('a poisonous command takes back nothing that was applied before it and not committed yet', async () => {
  const { clock, log, store, results, signUp, send, texts, fatal } = await setUp(({ op }) => {
    if (op?.$case === 'sendMessage' && op.value.text === 'poison') throw new TypeError('a bug')
  })
  const alice = signUp('alice')
  signUp('bob')
  const before = store.appliedIndex
  for (const text of ['one', 'poison', 'two']) {
    send(alice, 'bob', text)
    clock.run()
    log.commit()
  }
  assert.deepEqual(results, ['one: sendMessage', 'poison: REASON_COMMAND_FAILED', 'two: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two'])
  clock.run(commitMs)
  assert.equal(store.appliedIndex, before + 3)
  assert.deepEqual(fatal, [])
})

const outOfSpace = (): Error => Object.assign(new Error('database or disk is full'), { errcode: 13 })

test('without space nothing more is applied, what was stays, and all is well once there is some', async () => {
  const { clock, log, store, replica, results, settle, signUp, send, texts, fatal } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const before = store.appliedIndex
  store.problem = outOfSpace()
  send(alice, 'bob', 'one')
  clock.run()
  log.commit()
  // The commit fails, and so takes back what was applied.
  clock.run(commitMs)
  assert.deepEqual(texts(alice, 'bob'), ['one'])
  send(alice, 'bob', 'two')
  clock.run()
  assert.equal(log.commit(log.waiting), 'later')
  assert.deepEqual(texts(alice, 'bob'), ['one'])
  assert.equal(store.appliedIndex, before)
  store.problem = null
  clock.run(1050)
  assert.equal(store.appliedIndex, before + 1)
  assert.equal(log.commit(log.waiting), 'applied')
  settle()
  clock.run(1050)
  assert.equal(store.appliedIndex, replica.status().replicas[0]?.appliedIndex)
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two'])
  assert.equal(results.length, 2)
  assert.deepEqual(fatal, [])
})

test('no more is applied than is committed now and then, also when there is no room from the first commit on', async () => {
  const { clock, log, store, signUp, send, fatal } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  store.problem = outOfSpace()
  let sent = 0
  const commitOne = (): 'applied' | 'later' => {
    send(alice, 'bob', 'x'.repeat(16_000))
    sent += 1
    clock.run()
    return log.commit(log.waiting)
  }
  while (commitOne() === 'applied') log.waiting.splice(0)
  assert.ok(sent > 10 && sent < 100, `${sent} were applied`)
  assert.deepEqual(fatal, [])
})

test('while the disk says that it has no room no commit is tried in vain', async () => {
  const { clock, log, store, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  store.problem = outOfSpace()
  send(alice, 'bob', 'one')
  clock.run()
  log.commit()
  clock.run(commitMs)
  const { attempts } = store
  store.hasRoom = false
  send(alice, 'bob', 'two')
  for (let i = 0; i < 5; i += 1) {
    clock.run(1050)
    assert.equal(log.commit(log.waiting), 'later')
  }
  assert.equal(store.attempts, attempts)
  // As behind a quota: the disk has room, and a commit fails nevertheless.
  store.hasRoom = true
  clock.run(2100)
  assert.equal(store.attempts, attempts + 2)
  store.problem = null
  clock.run(1050)
  assert.equal(log.commit(log.waiting), 'applied')
  assert.deepEqual(texts(alice, 'bob'), ['one', 'two'])
})

test('a database that fails ends the replica, which applies nothing any more', async () => {
  const { clock, log, store, results, signUp, send, fatal } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  send(alice, 'bob', 'one')
  clock.run()
  log.commit()
  assert.deepEqual(results, ['one: sendMessage'])
  const before = store.appliedIndex
  store.problem = Object.assign(new Error('disk I/O error'), { errcode: 10 })
  clock.run(commitMs)
  assert.equal(fatal.length, 1)
  store.problem = null
  send(alice, 'bob', 'two')
  clock.run()
  assert.equal(log.commit(), 'later')
  clock.run(1000)
  assert.equal(fatal.length, 1)
  assert.equal(store.appliedIndex, before)
  assert.deepEqual(results, ['one: sendMessage'])
})

test('a short loss of the quorum is not told, a longer one is, to all who wait', async () => {
  const { clock, log, replica, results, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const states: boolean[] = []
  replica.onStateChange(() => states.push(replica.state.quorum))
  log.setAvailable(false)
  clock.run(500)
  log.setAvailable(true)
  clock.run(5000)
  assert.equal(states.includes(false), false)
  send(alice, 'bob', 'under way')
  clock.run()
  log.setAvailable(false)
  clock.run(3000)
  assert.equal(replica.state.quorum, false)
  send(alice, 'bob', 'too late')
  clock.run(10)
  assert.deepEqual(results, ['under way: outcomeUnknown noQuorum', 'too late: refused noQuorum'])
})

test('without a quorum no disk is blamed for what does not come back, and nobody is refused for that afterwards', async () => {
  const { clock, log, results, replica, settle, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const problem = (): string | undefined => replica.status().replicas.find(({ id }) => id === 1)?.problem
  send(alice, 'bob', 'one')
  clock.run(100)
  log.setAvailable(false)
  clock.run(20_000)
  assert.equal(replica.status().quorum, false)
  assert.equal(problem(), '')
  log.waiting.splice(0)
  log.setAvailable(true)
  send(alice, 'bob', 'two')
  settle()
  send(alice, 'bob', 'three')
  settle()
  assert.deepEqual(results, ['one: outcomeUnknown noQuorum', 'two: refused catchingUp', 'three: sendMessage'])
})

test('with a quorum the disks are blamed for what does not come back', async () => {
  const { clock, replica, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  send(alice, 'bob', 'one')
  clock.run(20_000)
  const [own] = replica.status().replicas
  assert.equal(own?.problem, 'nothing is written: the disks of other replicas are full, or hang')
})

test('the loss of the quorum is told once even if the timer fires before its time', async () => {
  const { clock, log, replica } = await setUp()
  const states: boolean[] = []
  replica.onStateChange(() => states.push(replica.state.quorum))
  clock.earlyMs = 3
  log.setAvailable(false)
  clock.run(1998)
  assert.deepEqual(states.slice(-1), [false])
})

test('a read waits until the replica has applied what was committed when it began', async () => {
  const { clock, log, replica, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const told: string[] = []
  send(alice, 'bob', 'one')
  clock.run()
  const { position } = replica
  replica.whenReadable({ local: false, timeoutMs: 1000 }, (failure) => told.push(`read ${failure}`))
  replica.whenReadable({ local: true, minPosition: 0, timeoutMs: 1000 }, () => told.push('local'))
  replica.whenReadable({ local: true, minPosition: position + 1, timeoutMs: 1000 }, (failure) =>
    told.push(`position ${failure}`),
  )
  replica.whenReadable({ local: true, minPosition: position + 9, timeoutMs: 100 }, (failure) =>
    told.push(`never ${failure}`),
  )
  clock.run(1)
  assert.deepEqual(told, ['local'])
  log.commit()
  assert.deepEqual(told, ['local', 'read null', 'position null'])
  clock.run(500)
  assert.deepEqual(told.slice(3), ['never deadline'])
  log.setAvailable(false)
  clock.run(3000)
  replica.whenReadable({ local: false, timeoutMs: 1000 }, (failure) => told.push(`read ${failure}`))
  clock.run(10)
  assert.deepEqual(told.slice(4), ['read noQuorum'])
})

test('an account is shown as connected while a subscription of it is open, whatever happens to its replica', async () => {
  const { settle, log, replica, clock, signUp } = await setUp()
  const alice = signUp('alice')
  const isOnline = (): boolean | undefined => replica.queries.account(alice.account)?.online
  const receiver = { events: () => true, ended: () => undefined }
  const first = replica.subscribe(alice, 0, receiver)
  const second = replica.subscribe(alice, 0, receiver)
  settle()
  assert.equal(isOnline(), true)
  first.close()
  settle()
  assert.equal(isOnline(), true)
  // Another replica took this one for dead.
  const gone = { $case: 'replicaGone', value: { replica: 1, incarnation: 3 } } as const
  const commands = [{ id: new Uint8Array(0), fingerprint: 0, account: 0, session: 0, op: gone }]
  log.commit([
    CommandBatch.encode({ origin: 2, incarnation: 1, number: 1, atMs: clock.wallMs(), commands }).finish(),
  ])
  assert.equal(isOnline(), false)
  settle()
  assert.equal(isOnline(), true)
  second.close()
  settle()
  clock.run(8000)
  settle()
  assert.equal(isOnline(), true, 'it may come back')
  clock.run(4000)
  settle()
  assert.equal(isOnline(), false)
})

test('a session that reconnects soon is not told to have gone', async () => {
  const { clock, settle, replica, signUp } = await setUp()
  const alice = signUp('alice')
  const receiver = { events: () => true, ended: () => undefined }
  let open = replica.subscribe(alice, 0, receiver)
  settle()
  const { position } = replica
  for (let i = 0; i < 20; i += 1) {
    open.close()
    // As long as it may take when thousands look for another replica at once.
    clock.run(8000)
    settle()
    open = replica.subscribe(alice, 0, receiver)
    settle()
  }
  assert.equal(replica.position, position, 'nothing was written')
  assert.equal(replica.queries.account(alice.account)?.online, true)
})

test('a session that came while nothing could be written is told when that is possible again', async () => {
  const { clock, log, settle, replica, signUp } = await setUp()
  const alice = signUp('alice')
  log.setAvailable(false)
  clock.run(3000)
  replica.subscribe(alice, 0, { events: () => true, ended: () => undefined })
  clock.run(3000)
  log.setAvailable(true)
  settle()
  clock.run(2000)
  settle()
  assert.equal(replica.queries.account(alice.account)?.online, true)
})

test('a session that leaves while nobody knows whether its coming took effect is told to have gone', async () => {
  const { clock, log, settle, replica, signUp } = await setUp()
  const alice = signUp('alice')
  const open = replica.subscribe(alice, 0, { events: () => true, ended: () => undefined })
  clock.run(100)
  const [told] = log.waiting.splice(0)
  assert.ok(told !== undefined)
  open.close()
  // The replica gives up waiting; then the command takes effect all the same.
  clock.run(11_000)
  log.waiting = []
  log.commit([told])
  settle()
  clock.run(12_000)
  settle()
  assert.equal(replica.queries.account(alice.account)?.online, false)
})

test('the leader clears the connections of a replica that cannot be reached', async () => {
  const { clock, log, replica, settle, signUp } = await setUp()
  const alice = signUp('alice')
  const value = { replica: 2, incarnation: 5, connected: [alice.session], disconnected: [] }
  const presence = { $case: 'presence', value } as const
  const commands = [{ id: new Uint8Array(0), fingerprint: 0, account: 0, session: 0, op: presence }]
  log.commit([
    CommandBatch.encode({ origin: 2, incarnation: 5, number: 1, atMs: clock.wallMs(), commands }).finish(),
  ])
  log.unreachable = 2
  log.setAvailable(true)
  clock.run(18_000)
  settle()
  assert.equal(replica.queries.account(alice.account)?.online, true, 'it may come back elsewhere')
  clock.run(10_000)
  settle()
  assert.equal(replica.queries.account(alice.account)?.online, false)
})

test('the leader clears the connections of a replica that is none of the cluster any more', async () => {
  const { clock, log, replica, settle, signUp } = await setUp()
  const alice = signUp('alice')
  const value = { replica: 3, incarnation: 5, connected: [alice.session], disconnected: [] }
  const presence = { $case: 'presence', value } as const
  const commands = [{ id: new Uint8Array(0), fingerprint: 0, account: 0, session: 0, op: presence }]
  log.commit([
    CommandBatch.encode({ origin: 3, incarnation: 5, number: 1, atMs: clock.wallMs(), commands }).finish(),
  ])
  assert.equal(replica.queries.account(alice.account)?.online, true)
  clock.run(4000)
  settle()
  assert.equal(replica.queries.account(alice.account)?.online, false)
})

test('a cluster in which nothing happens writes nothing', async () => {
  const { clock, log, signUp } = await setUp()
  signUp('alice')
  clock.run(3_600_000)
  assert.deepEqual(log.waiting, [])
})

test('the answer to a command and its event carry the same position, which a local read can wait for', async () => {
  const { settle, replica, signUp, clock } = await setUp()
  const alice = signUp('alice')
  const bob = signUp('bob')
  const positions: number[] = []
  const receiver = {
    events: (encoded: readonly Uint8Array[]) => {
      for (const bytes of encoded) {
        const { position, event } = Event.decode(bytes)
        if (event?.$case === 'message') positions.push(position)
      }
      return true
    },
    ended: () => undefined,
  }
  replica.subscribe(bob, 0, receiver)
  settle()
  replica.execute(sendCommand(alice, 'bob', 'hello', clock.wallMs()), 1000, (result) => {
    if (result.kind === 'applied') positions.push(result.position)
  })
  settle()
  assert.equal(positions.length, 2)
  assert.equal(positions[0], positions[1])
})

test('where the clock of another replica is far ahead, clients are given its time for their ids', async () => {
  const { clock, log, replica, results, settle, signUp } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const days = 30 * 86_400_000
  const endSessions = { $case: 'endSessions', value: {} } as const
  const commands = [{ id: new Uint8Array(0), fingerprint: 0, account: 0, session: 0, op: endSessions }]
  const atMs = clock.wallMs() + days
  log.commit([CommandBatch.encode({ origin: 2, incarnation: 1, number: 1, atMs, commands }).finish()])
  for (const ms of [clock.wallMs(), replica.nowMs]) {
    replica.execute(sendCommand(alice, 'bob', 'hello', ms), 1000, (result) => results.push(describe(result)))
    settle()
  }
  assert.deepEqual(results, ['REASON_ID_OUT_OF_WINDOW', 'sendMessage'])
})

test('a replica that drains refuses what is new and finishes what is under way', async () => {
  const { clock, log, replica, results, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  send(alice, 'bob', 'one')
  clock.run()
  let drained = false
  void replica.drain(5000).then(() => {
    drained = true
  })
  send(alice, 'bob', 'two')
  clock.run(100)
  await Promise.resolve()
  assert.equal(drained, false)
  log.commit()
  clock.run(100)
  await Promise.resolve()
  assert.equal(drained, true)
  assert.deepEqual(results, ['two: refused draining', 'one: sendMessage'])
  assert.equal(replica.state.draining, true)
})

test('a replica whose clock runs far ahead of the others ends no session, and says what is wrong', async () => {
  const { clock, log, replica, results, settle, signUp, send, texts } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const startMs = replica.nowMs
  log.clocksMs = [clock.wallMs(), clock.wallMs()]
  clock.wallAheadMs = 91 * 24 * 60 * 60 * 1000
  replica.execute(sendCommand(alice, 'bob', 'still here', replica.nowMs), 10_000, (result) =>
    results.push(describe(result)),
  )
  settle()
  clock.run(5000)
  assert.deepEqual(results, ['sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['still here'])
  assert.ok(replica.nowMs - startMs < 60_000, 'the cluster’s clock goes on as the others do')
  const own = replica.status().replicas.find(({ id }) => id === 1)
  assert.match(own?.problem ?? '', /^its clock is 91 days ahead of most others/)

  clock.wallAheadMs = 0
  log.clocksMs = [clock.wallMs(), clock.wallMs()]
  clock.run(2000)
  send(alice, 'bob', 'two')
  settle()
  assert.deepEqual(results, ['sendMessage', 'two: sendMessage'])
  assert.equal(replica.status().replicas.find(({ id }) => id === 1)?.problem, '')
})

for (const [name, failure] of [
  ['a database that cannot read its file', Object.assign(new Error('disk I/O error'), { errcode: 10 })],
  ['no memory for the database', Object.assign(new Error('out of memory'), { errcode: 7 })],
  ['no memory for an array', new RangeError('Array buffer allocation failed')],
  ['no memory for Node', Object.assign(new Error('no memory'), { code: 'ERR_MEMORY_ALLOCATION_FAILED' })],
  ['a file that cannot be opened', Object.assign(new Error('too many open files'), { code: 'EMFILE' })],
  ['a database that is closed', Object.assign(new Error('not open'), { code: 'ERR_INVALID_STATE' })],
] as const)
  test(`a failure that only this replica has is never taken for a poisonous command: ${name}`, async () => {
    const { fatal, results, settle, signUp, send, texts } = await setUp(({ op }) => {
      if (op?.$case === 'sendMessage' && op.value.text === 'unlucky') throw failure
    })
    const alice = signUp('alice')
    signUp('bob')
    send(alice, 'bob', 'unlucky')
    settle()
    assert.deepEqual(fatal, [failure])
    assert.deepEqual(results, [])
    assert.deepEqual(texts(alice, 'bob'), [])
  })

test('a failure of memory that has passed when the command is applied again changes nothing', async () => {
  let failures = 1
  const { fatal, results, settle, signUp, send, texts } = await setUp(({ op }) => {
    if (op?.$case !== 'sendMessage' || failures === 0) return
    failures -= 1
    throw new RangeError('Array buffer allocation failed')
  })
  const alice = signUp('alice')
  signUp('bob')
  send(alice, 'bob', 'lucky')
  settle()
  assert.deepEqual(fatal, [])
  assert.deepEqual(results, ['lucky: sendMessage'])
  assert.deepEqual(texts(alice, 'bob'), ['lucky'])
})

test('the leader raises the version once it has met all replicas and all know it', async () => {
  const { log, replica, settle } = await setUp()
  for (const otherVersion of [0, 1, 2]) {
    log.otherVersion = otherVersion
    log.setAvailable(true)
    settle()
    assert.equal(replica.versionInUse, Math.max(1, otherVersion))
    assert.equal(replica.status().versionInUse, replica.versionInUse)
  }
})

test('a replica that does not lead leaves the version alone', async () => {
  const { clock, log, replica, settle } = await setUp()
  log.leader = 2
  log.otherVersion = 2
  log.setAvailable(true)
  clock.run(10_000)
  settle()
  assert.equal(replica.versionInUse, 1)
})

test('a replica that comes back sends its clients elsewhere until it has caught up, and again after a long cut', async () => {
  const { clock, log, replica, results, settle, signUp, send } = await setUp()
  const alice = signUp('alice')
  signUp('bob')
  const states: boolean[] = []
  replica.onStateChange(() => states.push(replica.state.hindered))
  log.setAvailable(false)
  clock.run(1000)
  log.setAvailable(true)
  settle()
  assert.equal(states.includes(true), false, 'a short cut matters to nobody')

  log.setAvailable(false)
  clock.run(3000)
  log.ahead = 2
  log.setAvailable(true)
  settle()
  assert.equal(replica.state.hindered, true)
  send(alice, 'bob', 'too early')
  settle()
  assert.deepEqual(results, ['too early: refused catchingUp'])
  const entry = CommandBatch.encode({ origin: 9, incarnation: 1, number: 1, atMs: 0, commands: [] }).finish()
  log.commit([entry])
  settle()
  assert.equal(replica.state.hindered, true)
  log.commit([entry])
  log.ahead = 0
  settle()
  assert.equal(replica.state.hindered, false)
  send(alice, 'bob', 'hello')
  settle()
  assert.deepEqual(results, ['too early: refused catchingUp', 'hello: sendMessage'])
})

test('a replica without room on its disk sends its clients elsewhere', async () => {
  const { log, replica, settle } = await setUp()
  settle()
  assert.equal(replica.state.hindered, false)
  log.full = true
  log.setAvailable(true)
  assert.equal(replica.state.hindered, true)
  log.full = false
  log.setAvailable(true)
  assert.equal(replica.state.hindered, false)
})

test('the leader has messages removed that are too old, step by step until none is left', async () => {
  const { clock, log, replica, settle, signUp, send, texts } = await setUp()
  log.otherVersion = 2
  log.setAvailable(true)
  settle()
  const alice = signUp('alice')
  signUp('bob')
  for (let i = 0; i < 450; i += 1) send(alice, 'bob', `old ${i}`)
  settle()
  const id = makeUuidV7(clock.wallMs(), new Uint8Array(10))
  const policy = Policy.fromPartial({ retentionS: 60 })
  const op = { $case: 'setPolicy', value: { id, policy, fields: ['retention_s'] } } as const
  const results: string[] = []
  replica.execute(
    { id, fingerprint: 1, account: alice.account, session: alice.session, op },
    1000,
    (result) => results.push(describe(result)),
  )
  settle()
  assert.deepEqual(results, ['setPolicy'])
  clock.run(61_000)
  assert.equal(replica.status().replicas[0]?.messagesDue, 450)
  send(alice, 'bob', 'new')
  for (let i = 0; i < 20; i += 1) {
    clock.run(2000)
    settle()
  }
  assert.deepEqual(texts(alice, 'bob'), ['new'])
  assert.equal(replica.status().replicas[0]?.messagesDue, 0)
})

test('a command that some replica may not know is refused before it is proposed', async () => {
  const { clock, log, replica, settle, signUp } = await setUp()
  const alice = signUp('alice')
  const id = makeUuidV7(clock.wallMs(), new Uint8Array(10))
  const op = { $case: 'setRoomRetention', value: { id, name: 'everyone', retentionS: 60 } } as const
  const results: string[] = []
  const command = { id, fingerprint: 1, account: alice.account, session: alice.session, op }
  replica.execute(command, 1000, (result) => results.push(describe(result)))
  clock.run(0)
  assert.deepEqual([results, log.waiting], [['refused upgradePending'], []])
  settle()
})

/** A replica that leads a cluster in which sessions end that are idle for so long. */
async function setUpIdleLogout(idleLogoutS: number, leadsAfterMs: number) {
  const all = await setUp()
  const { clock, log, replica, signUp } = all
  const leads = (leader: number): void => {
    log.leader = leader
    log.setAvailable(true)
  }
  log.otherVersion = 2
  leads(1)
  const busy: number[] = []
  const pass = (ms: number): void => {
    for (let leftMs = ms; leftMs > 0; leftMs -= 100) {
      for (const session of busy) replica.touch(session)
      clock.run(100)
      log.commit()
    }
  }
  pass(3000)
  const admin = signUp('admin')
  // Somebody else does something all the time.
  busy.push(signUp('bob').session)
  // It leads from later on only, so it looks for sessions at other moments than those at which it tells what they do, as the leader does for those of other replicas.
  leads(2)
  pass(leadsAfterMs)
  leads(1)
  const setIdleLogout = (idleLogoutS: number): void => {
    const id = testId(clock.wallMs())
    const value = { id, policy: Policy.create({ idleLogoutS }), fields: ['idle_logout_s'] }
    replica.execute(commandOf(admin, id, { $case: 'setPolicy', value }), 1000, () => undefined)
    pass(1000)
    assert.deepEqual([replica.queries.policy().idleLogoutS, replica.versionInUse], [idleLogoutS, 2])
  }
  setIdleLogout(idleLogoutS)
  return { ...all, admin, pass, setIdleLogout }
}

for (const idleLogoutS of [3, 60, 100])
  test(`who does something within ${idleLogoutS} s is not signed out for having idled so long, and who does nothing is`, async () => {
    for (let leadsAfterMs = 15_000; leadsAfterMs < 32_000; leadsAfterMs += 2000) {
      const { replica, admin, pass } = await setUpIdleLogout(idleLogoutS, leadsAfterMs)
      for (let pauseMs = idleLogoutS * 1000 - 100; pauseMs > idleLogoutS * 500; pauseMs -= idleLogoutS * 17) {
        replica.touch(admin.session)
        pass(pauseMs)
        assert.ok(replica.queries.sessionExists(admin.session), `signed out after ${pauseMs} ms`)
      }
      pass((idleLogoutS + 60) * 1000)
      assert.ok(!replica.queries.sessionExists(admin.session))
    }
  })

test('after a time without writes nobody is signed out for idling before all replicas could tell what was done', async () => {
  const { log, replica, admin, pass } = await setUpIdleLogout(60, 23_000)
  pass(40_000)
  log.setAvailable(false)
  pass(300_000)
  log.setAvailable(true)
  // As the word of a replica that notices a little later that it can write.
  pass(5000)
  replica.touch(admin.session)
  pass(60_000)
  assert.ok(replica.queries.sessionExists(admin.session))
})

test('when idle log-out is turned on nobody is signed out for idling before all replicas could tell what was done', async () => {
  for (let phaseMs = 0; phaseMs < 15_000; phaseMs += 2500) {
    const { clock, log, replica, signUp, pass, setIdleLogout } = await setUpIdleLogout(0, 15_000)
    const carol = signUp('carol')
    clock.run(200_000 + phaseMs)
    log.commit()
    setIdleLogout(60)
    // As the word of a replica at which carol has been reading.
    pass(12_000)
    const value = { sessions: [carol.session] }
    const touch = { $case: 'touchSessions', value } as const
    const commands = [{ id: new Uint8Array(0), fingerprint: 0, account: 0, session: 0, op: touch }]
    log.commit([
      CommandBatch.encode({ origin: 2, incarnation: 1, number: 1, atMs: clock.wallMs(), commands }).finish(),
    ])
    pass(60_000)
    assert.ok(replica.queries.sessionExists(carol.session), `signed out in phase ${phaseMs} ms`)
  }
})

test('who idles is signed out, however often the time for that is changed', async () => {
  const { replica, admin, signUp, pass, setIdleLogout } = await setUpIdleLogout(60, 23_000)
  const { session } = signUp('carol')
  for (let i = 0; i < 15; i += 1) {
    setIdleLogout(60 + (i % 2))
    pass(9000)
  }
  assert.ok(!replica.queries.sessionExists(session))
  assert.ok(replica.queries.sessionExists(admin.session))
})

test('activity that could not be told is told later', async () => {
  const { clock, log, replica, admin, pass } = await setUpIdleLogout(60, 23_000)
  pass(50_000)
  replica.touch(admin.session)
  // What is told is lost on the way.
  for (let i = 0; i < 200; i += 1) {
    clock.run(100)
    log.waiting = []
  }
  pass(40_000)
  assert.ok(replica.queries.sessionExists(admin.session))
})
