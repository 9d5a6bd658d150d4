import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { runInteractive } from '../src/cli/interactive/run.ts'
import { runCli } from '../src/cli/program.ts'
import { FakeProcess, FakeTerminal } from '../src/cli/testing.ts'
import { startCluster, type TestCluster } from './support/cluster.ts'
import { until as eventually } from './support/ledger.ts'

const entry = resolve(import.meta.dirname, '../bin/parley.js')

/** A person at a command line, in this process; all else is real. */
class Person {
  readonly name: string
  readonly fake = new FakeProcess(null)

  constructor(name: string, cluster: TestCluster) {
    this.name = name
    this.fake.environment['PARLEY_SERVER'] = cluster.addresses.join(',')
    this.fake.environment['PARLEY_TIMEOUT'] = '20'
    this.fake.environment['PARLEY_PASSWORD'] = `password of ${name}`
  }

  /** Runs a verb; returns what it printed. Fails when it does not end with `exitCode`. */
  async run(argv: readonly string[], exitCode = 0): Promise<string[]> {
    const { fake } = this
    fake.outLines.length = 0
    fake.errLines.length = 0
    const code = await runCli(argv, fake.io, runInteractive)
    assert.equal(code, exitCode, `${this.name}: parley ${argv.join(' ')}: ${fake.errLines.join('\n')}`)
    return [...fake.outLines]
  }

  /** The one object that a verb prints with `--json`. */
  async json(argv: readonly string[], exitCode = 0): Promise<Record<string, unknown>> {
    const lines = await this.run([...argv, '--json'], exitCode)
    assert.equal(lines.length, 1)
    return JSON.parse(lines[0] ?? '') as Record<string, unknown>
  }
}

/** Checks names and kinds of the members of an object: programs rely on them. */
function assertShape(
  value: unknown,
  shape: Readonly<Record<string, string>>,
): asserts value is Record<string, unknown> {
  assert.ok(typeof value === 'object' && value !== null)
  const kinds = Object.entries(value).map(([name, member]) => [
    name,
    member === null ? 'null' : Array.isArray(member) ? 'array' : typeof member,
  ])
  assert.deepEqual(Object.fromEntries(kinds), shape)
}

const messageShape = {
  message: 'string',
  conversation: 'string',
  conversationId: 'number',
  seq: 'number',
  id: 'string',
  sender: 'string',
  senderId: 'number',
  text: 'string',
  at: 'string',
  editedAt: 'null',
  deleted: 'boolean',
  read: 'boolean',
}

function first(list: unknown): unknown {
  assert.ok(Array.isArray(list))
  return list[0]
}

/** The next message of `watch --json`; people who come and go are passed over. */
async function nextMessage(lines: AsyncIterator<string>): Promise<unknown> {
  for (;;) {
    const { value, done } = await lines.next()
    if (done === true) return null
    const event = JSON.parse(String(value)) as Record<string, unknown>
    if (event['event'] === 'message') return event
  }
}

/** Resolves when it holds; the test's time limit is the limit. */
async function until(what: string, holds: () => boolean, shown: () => string): Promise<void> {
  for (let i = 0; i < 600; i += 1) {
    if (holds()) return
    await new Promise((done) => {
      setTimeout(done, 50)
    })
  }
  assert.fail(`${what}: did not happen\n${shown()}`)
}

describe('the command line against a real cluster', () => {
  let cluster: TestCluster
  before(async () => {
    cluster = await startCluster({ replicas: 3 })
  })
  after(() => cluster.close())

  test('two people talk: greetings, delivery, inbox, edit, delete, search', async () => {
    const ann = new Person('ann', cluster)
    const bob = new Person('bob', cluster)
    assert.deepEqual(await ann.run(['register', 'ann']), ['Welcome, ann.'])
    assert.deepEqual(await bob.run(['register', 'bob']), ['Welcome, bob.'])
    assert.deepEqual(await ann.run(['send', 'bob', 'are', 'you', 'there?']), [
      'will be delivered when they sign in',
    ])
    await ann.run(['send', 'bob', 'call me'])
    assert.deepEqual(await bob.run(['login', 'bob']), ['Welcome back, bob: you have 2 new messages.'])
    assertShape(await bob.json(['inbox']), { count: 'number', conversations: 'array' })
    const [opened, left] = await bob.run(['open', '1'])
    assert.match(opened ?? '', /ann\/1 {2}ann: are you there\?$/)
    assert.equal(left, '1 message left.')
    const rest = await bob.json(['open', 'all'])
    assertShape(rest, { messages: 'array', remaining: 'number' })
    assertShape(first(rest['messages']), messageShape)
    const read = await bob.json(['read', 'ann'])
    assertShape(read, { messages: 'array', more: 'boolean' })
    assertShape(await ann.json(['edit', 'bob/2', 'call', 'me', 'tomorrow']), {
      ...messageShape,
      editedAt: 'string',
    })
    assert.match(
      (await bob.run(['search', 'tomorrow'])).join('\n'),
      /ann\/2 {2}ann: call me tomorrow \(edited\)/,
    )
    assertShape(await ann.json(['delete', 'bob/2', '--for-all']), {
      deleted: 'boolean',
      conversationId: 'number',
      seq: 'number',
      forAll: 'boolean',
    })
    assert.match((await bob.run(['read', 'ann'])).join('\n'), /ann\/2 {2}ann: \(deleted\)/)
    assert.deepEqual(await bob.run(['delete', 'ann/1', '--for-all'], 1), [])
    assert.deepEqual(await ann.run(['send', 'nobody-of-that-name', 'hi'], 1), [])
    assert.match(ann.fake.errLines[0] ?? '', /does not exist, or has deleted their account/)
    ann.fake.input = 'several\nlines\n'
    const sent = await ann.json(['send', '--all', '-'])
    assertShape(sent, {
      to: 'string',
      message: 'string',
      conversationId: 'number',
      seq: 'number',
      at: 'string',
      delivered: 'boolean',
    })
    assert.match((await bob.run(['open', 'all'])).join('\n'), /ann: several\n {4}lines/)
    assertShape(await ann.json(['whoami']), {
      account: 'object',
      session: 'number',
      inbox: 'number',
      profile: 'string',
      replica: 'number',
    })
    assert.match((await ann.run(['list', 'B*'])).join('\n'), /^bob +offline$/)
  })

  test('drafts are sent in one go, and which could not be delivered is told', async () => {
    const dora = new Person('dora', cluster)
    await dora.run(['register', 'dora'])
    await dora.run(['register', 'eve'])
    await dora.run(['login', 'dora'])
    assertShape(await dora.json(['drafts', 'new', 'to both', '--to', 'eve,nobody']), {
      draft: 'object',
      conflictCopy: 'null',
    })
    const listed = await dora.json(['drafts'])
    const draft = first(listed['drafts'])
    assertShape(draft, {
      draft: 'string',
      id: 'string',
      text: 'string',
      recipients: 'array',
      version: 'number',
      updatedAt: 'string',
      conflictOf: 'null',
    })
    await dora.run(['drafts', 'edit', String(draft['draft']), 'to', 'both', 'again'])
    const lines = await dora.run(['drafts', 'send', '--all'], 1)
    assert.match(lines.join('\n'), /to eve: will be delivered when they sign in/)
    assert.match(lines.join('\n'), /to nobody: not sent: nobody does not exist, or has deleted their account/)
    assert.match(lines.join('\n'), /1 of 2 could not be sent/)
    const kept = await dora.json(['drafts', 'list'])
    const again = first(kept['drafts'])
    assertShape(again, {
      draft: 'string',
      id: 'string',
      text: 'string',
      recipients: 'array',
      version: 'number',
      updatedAt: 'string',
      conflictOf: 'null',
    })
    assert.deepEqual([again['text'], again['recipients']], ['to both again', ['nobody']])
    assert.deepEqual(await dora.json(['drafts', 'rm', '--all']), { deleted: 1 })
  })

  test('rooms, sessions, policy, password and the end of an account', async () => {
    const fay = new Person('fay', cluster)
    const gus = new Person('gus', cluster)
    await fay.run(['register', 'fay'])
    await gus.run(['register', 'gus'])
    const roomShape = {
      conversation: 'string',
      id: 'number',
      name: 'string',
      topic: 'string',
      private: 'boolean',
      members: 'number',
      member: 'boolean',
      lastSeq: 'number',
      unread: 'number',
    }
    assertShape(await fay.json(['rooms', 'create', 'garden', '--topic', 'plants']), roomShape)
    assertShape(first((await gus.json(['rooms', 'list', 'gar*']))['rooms']), roomShape)
    await gus.run(['rooms', 'join', '#garden'])
    await fay.run(['send', '#garden', 'roses'])
    assert.match((await gus.run(['read', '#garden'])).join('\n'), /#garden\/1 {2}fay: roses/)
    assert.equal((await fay.run(['rooms', 'members', 'garden'])).length, 2)
    await gus.run(['rooms', 'leave', 'garden'])
    assert.deepEqual(await gus.run(['send', '#garden', 'tulips'], 1), [])
    await fay.run(['rooms', 'invite', 'garden', 'gus'])
    await gus.run(['send', '#garden', 'tulips'])

    const sessions = await fay.json(['sessions'])
    assertShape(first(sessions['sessions']), {
      id: 'number',
      device: 'string',
      current: 'boolean',
      online: 'boolean',
      createdAt: 'string',
      lastActiveAt: 'string',
      expiresAt: 'string',
    })
    assertShape(await gus.json(['policy']), {
      registration_open: 'boolean',
      single_session: 'boolean',
      idle_logout_s: 'number',
      max_message_bytes: 'number',
      messages_per_minute: 'number',
      retention_s: 'number',
      session_lifetime_s: 'number',
    })
    assert.deepEqual(
      await gus.run(['policy', 'set', 'registration_open=false'], 1),
      [],
      'only administrators',
    )
    fay.fake.input = 'password of fay\nanother password\n'
    await fay.run(['passwd', '--password-stdin'])
    await fay.run(['login', 'fay'], 1)
    fay.fake.input = 'another password\n'
    await fay.run(['login', 'fay', '--password-stdin'])
    await fay.run(['account', 'delete'], 2)
    await fay.run(['account', 'delete', '--confirm', 'gus'], 1)
    assert.deepEqual(await fay.json(['account', 'delete', '--confirm', 'fay']), { deleted: 'fay' })
    await fay.run(['whoami'], 4)
    await gus.run(['send', 'fay', 'hello?'], 1)
    await gus.run(['logout'])
    await gus.run(['inbox'], 4)
  })

  test('bench measures sends, and leaves no room behind', async () => {
    const person = new Person('ben', cluster)
    await person.run(['bench'], 4)
    await person.run(['register', 'ben'])
    for (const wrong of [
      ['--seconds', '0'],
      ['--outstanding', '1,x'],
      ['--bytes', '-1'],
    ])
      await person.run(['bench', ...wrong], 2)
    const measured = await person.json(['bench', '--seconds', '1', '--outstanding', '1,20'])
    assert.equal(measured['messageBytes'], 256)
    const steps = measured['steps'] as readonly Record<string, unknown>[]
    assert.deepEqual(
      steps.map(({ outstanding, failed }) => [outstanding, failed]),
      [
        [1, 0],
        [20, 0],
      ],
    )
    for (const { completed, latencyMs } of steps) {
      assert.ok(Number(completed) > 0)
      assertShape(latencyMs, { mean: 'number', p50: 'number', p99: 'number', max: 'number' })
    }
    assert.deepEqual((await person.json(['rooms', 'list', 'bench*']))['rooms'], [])
    assert.deepEqual((await person.json(['inbox']))['count'], 0)
  })

  test('when the cluster goes in the middle of bench, it tells what failed, and that its room is still there', async () => {
    const person = new Person('bea', cluster)
    await person.run(['register', 'bea'])
    const leader = await cluster.untilServing()
    const position = async (): Promise<number> => {
      const metrics = await (await fetch(`http://${cluster.addresses[leader - 1]}/metrics`)).text()
      return Number(/^parley_position (\S+)$/m.exec(metrics)?.[1])
    }
    const enough = (await position()) + 20
    person.fake.environment['PARLEY_TIMEOUT'] = '2'
    const running = person.run(['bench', '--seconds', '4', '--outstanding', '4'], 1)
    await eventually(async () => (await position()) >= enough, 'bench sends', 20_000)
    const others = [1, 2, 3].filter((id) => id !== leader)
    await Promise.all(others.map((id) => cluster.end(id, 'SIGKILL')))
    const lines = await running.finally(() => {
      for (const id of others) cluster.start(id)
    })
    const said = [...lines, ...person.fake.errLines].join('\n')
    assert.match(said, /^parley: |\d failed/m)
    const name = /parley rooms leave (bench-\S+)$/m.exec(said)?.[1]
    assert.ok(name !== undefined, said)
    await cluster.untilServing()
    person.fake.environment['PARLEY_TIMEOUT'] = '20'
    await person.run(['rooms', 'leave', name])
  })

  test('bad input gets the field and the limit', async () => {
    const person = new Person('hal', cluster)
    await person.run(['register', 'not a name'], 1)
    assert.match(person.fake.errLines.join('\n'), /name/)
    await person.run(['register', 'hal'])
    person.fake.input = 'x'.repeat(20_000)
    await person.run(['send', '--all', '-'], 1)
    assert.match(person.fake.errLines.join('\n'), /16384/)
  })

  test('an export does nothing to a terminal, whatever has been written', async () => {
    await new Person('olga', cluster).run(['register', 'olga'])
    const person = new Person('ivo', cluster)
    await person.run(['register', 'ivo'])
    const text = 'turned \u202E around, red \u009B31m, naïve 你好'
    await person.run(['send', 'olga', text])
    const lines = (await person.run(['export'])).flatMap((page) => page.split('\n'))
    assert.doesNotMatch(lines.join(''), /[\u007F-\u009F\u202E]/)
    const all = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    assert.ok(all.some((one) => one['type'] === 'message' && one['text'] === text))
  })

  test('each verb is a process: exit codes, streams, files', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'parley-cli-'))
    const environment = {
      ...process.env,
      NODE_TEST_CONTEXT: undefined,
      XDG_CONFIG_HOME: join(folder, 'config'),
      XDG_STATE_HOME: join(folder, 'state'),
      PARLEY_SERVER: cluster.addresses.join(','),
      PARLEY_PASSWORD: undefined,
    }
    const run = (input: string, ...argv: readonly string[]) =>
      spawnSync(process.execPath, [entry, ...argv], { encoding: 'utf8', input, env: environment })
    const keepSending = async (signal: AbortSignal): Promise<void> => {
      const hugo = new Person('hugo', cluster)
      await hugo.run(['register', 'hugo'])
      while (!signal.aborted) await hugo.run(['send', 'iris', 'are you listening?'])
    }
    try {
      const none = run('', 'whoami')
      assert.deepEqual([none.status, none.stdout], [4, ''])
      const registered = run('secret of iris\n', 'register', 'iris', '--password-stdin', '--json')
      assert.equal(registered.status, 0, registered.stderr)
      assertShape(JSON.parse(registered.stdout), {
        account: 'object',
        session: 'number',
        inbox: 'number',
        new: 'boolean',
      })
      assert.equal(statSync(join(folder, 'state/parley/default.json')).mode & 0o777, 0o600)
      if (existsSync('/dev/full')) {
        const full = openSync('/dev/full', 'w')
        for (const argv of [
          ['whoami', '--json'],
          ['export', '--json'],
          ['--help', '--json'],
        ]) {
          const lost = spawnSync(process.execPath, [entry, ...argv], {
            encoding: 'utf8',
            stdio: ['ignore', full, 'pipe'],
            env: environment,
          })
          assert.equal(lost.status, 1, argv.join(' '))
          assert.match(
            (JSON.parse(String(lost.stderr)) as { error: { message: string } }).error.message,
            /ENOSPC/,
          )
        }
        closeSync(full)
      }
      assert.equal(run('', 'sned', 'x').status, 2)
      assert.equal(run('', 'whoami', '--server', '127.0.0.1:9', '--timeout', '0.3').status, 5)
      // The reader goes after the first line, as `head -1` does.
      const watching = spawn(process.execPath, [entry, 'watch', '--json'], {
        env: environment,
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      const lines = createInterface({ input: watching.stdout })[Symbol.asyncIterator]()
      // Whether it has begun to listen cannot be seen from outside, so several are sent.
      const heard = nextMessage(lines)
      const sending = new AbortController()
      const sent = keepSending(sending.signal)
      const line = await heard
      sending.abort()
      await sent
      assertShape(line, {
        event: 'string',
        position: 'number',
        ...messageShape,
      })
      watching.stdout.destroy()
      run('', 'send', '--all', 'nobody reads this')
      const [code] = (await once(watching, 'exit')) as [number | null]
      assert.equal(code, 0)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  async function quitsWithUnsent(person: Person): Promise<void> {
    const terminal = new FakeTerminal(100)
    person.fake.canAsk = true
    person.fake.terminalShown = terminal
    const code = runCli([], person.fake.io, runInteractive)
    const sees = (what: string): Promise<void> =>
      until(
        what,
        () => terminal.rows.join('\n').includes(what),
        () => terminal.rows.join('\n'),
      )
    await sees('[no quorum: read-only] parley')
    await terminal.type('/msg jan one\r')
    await terminal.type('/msg jan two\r')
    await sees('2 messages queued')
    await terminal.type('/quit\r')
    assert.equal(await code, 0)
    assert.equal(
      person.fake.errLines.at(-1),
      'You have quit before it was known that these were sent:\njan  you: one\njan  you: two',
    )
  }

  test('the interactive client: lines, commands, people that come in, replicas that go', async () => {
    const jan = new Person('jan', cluster)
    const kim = new Person('kim', cluster)
    await kim.run(['register', 'kim'])
    const terminal = new FakeTerminal(100)
    jan.fake.canAsk = true
    jan.fake.terminalShown = terminal
    jan.fake.answers.push('jan')
    const code = runCli([], jan.fake.io, runInteractive)
    const shown = (): string => terminal.rows.join('\n')
    const sees = (what: string): Promise<void> => until(what, () => shown().includes(what), shown)
    await sees('parley>')
    assert.match(jan.fake.errLines.join('\n'), /Welcome, new user/)
    await terminal.type('hello?\r')
    await sees('No conversation is open')
    await terminal.type('/msg kim first\r')
    await sees('kim/1  you: first ✓ will be delivered when they sign in')
    await terminal.type('/query kim\r')
    await sees('kim>')
    await terminal.type('this is being ty')
    await kim.run(['send', 'jan', 'an \u001B[31minjection\u0007'])
    await sees('kim/2  kim: an ␛[31minjection␇')
    await terminal.type('ped\r')
    await sees('kim/3  you: this is being typed ✓')
    await terminal.type('/serach typed\r')
    await sees('did you mean /search?')
    await terminal.type('/drafts new kim later\r')
    await sees('is kept, to kim')
    await terminal.type('/drafts send all\r')
    await sees('to kim: will be delivered')

    const leader = await cluster.untilServing()
    await cluster.end(leader, 'SIGKILL')
    await terminal.type('after the leader was killed\r')
    await sees('you: after the leader was killed ✓')
    const others = [...cluster.running.keys()]
    await cluster.end(others[0] ?? 0, 'SIGKILL')
    await sees('no quorum: read-only')
    await terminal.type('while there is no quorum\r')
    await sees('… kim  you: while there is no quorum')
    await sees('[no quorum: read-only, 1 message queued] kim>')
    await terminal.type('/status\r')
    await sees('1 replica must come back')
    await quitsWithUnsent(kim)
    cluster.start(leader, others[0] ?? 0)
    await sees('you: while there is no quorum ✓')
    const texts = shown().match(/you: (while|after)/g)
    assert.deepEqual(texts, ['you: after', 'you: while'], shown())
    await terminal.type('/quit\r')
    assert.equal(await code, 0)
    await cluster.untilServing()
  })

  test('status asks every replica, and tells how many may fail', async () => {
    const person = new Person('operator', cluster)
    const shape = {
      clusterId: 'string',
      faultModel: 'string',
      leader: 'number',
      quorum: 'boolean',
      mayFail: 'number',
      waitingFor: 'array',
      position: 'number',
      versionInUse: 'number',
      replicas: 'array',
    }
    const leader = await cluster.untilServing()
    const whole = await person.json(['status'])
    assertShape(whole, shape)
    assert.deepEqual([whole['leader'], whole['mayFail']], [leader, 1])
    const rows = whole['replicas'] as readonly Record<string, unknown>[]
    assert.deepEqual(
      rows.map((row) => [row['id'], row['reachable'], row['pid']]),
      [1, 2, 3].map((id) => [id, true, cluster.running.get(id)]),
    )
    assertShape(rows[0], {
      id: 'number',
      name: 'string',
      role: 'string',
      voter: 'boolean',
      reachable: 'boolean',
      term: 'number',
      commitIndex: 'number',
      appliedIndex: 'number',
      firstIndex: 'number',
      lastIndex: 'number',
      logBytes: 'number',
      stateBytes: 'number',
      stateFreeBytes: 'number',
      searchBytes: 'number',
      messagesDue: 'number',
      messagesDueBytes: 'number',
      newestVersion: 'number',
      httpAddress: 'string',
      grpcAddress: 'string',
      peerAddress: 'string',
      pid: 'number',
      latencyMs: 'number',
      uptimeS: 'number',
      version: 'string',
      connections: 'number',
      residentBytes: 'number',
      cpuUs: 'number',
      appliedCommands: 'number',
      problem: 'null',
    })
    const victim = leader === 1 ? 2 : 1
    await cluster.end(victim, 'SIGKILL')
    const lines = (await person.run(['status'])).join('\n')
    assert.match(lines, new RegExp(`r${victim} +not reachable`))
    assert.match(lines, /none may fail now/)
    cluster.start(victim)
    await cluster.untilServing()
  })
})
