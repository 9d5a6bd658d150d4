import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FakeNetwork } from '../client/testing.ts'
import { Message } from '../gen/parley/v1/model.ts'
import { bar, StatusLine } from './catch-up.ts'
import { CliError } from './io.ts'
import { runCli, verbs } from './program.ts'
import { FakeProcess, FakeTerminal, finish } from './testing.ts'
import { recipientsFrom } from './verbs/drafts.ts'

const noTalk = (): Promise<number> => Promise.resolve(0)
const statePath = '/home/ann/.local/state/parley/default.json'

function start(replicas = 1): {
  readonly network: FakeNetwork
  readonly fake: FakeProcess
  readonly run: (...argv: readonly string[]) => Promise<number>
} {
  const network = new FakeNetwork(replicas)
  const fake = new FakeProcess(network)
  network.chat.passwords.set('ann', 'secret')
  fake.environment['PARLEY_SERVER'] = network.addresses.join(',')
  return { network, fake, run: (...argv) => finish(network, runCli(argv, fake.io, noTalk)) }
}

test('signing in, sending and signing out, with the password from the environment', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  assert.equal(await run('login', 'ann'), 0)
  assert.deepEqual(fake.outLines, ['Welcome back, ann: you have 3 new messages.'])
  assert.match(fake.files.get(statePath) ?? '', /^\{"name":"ann","token":"[0-9a-f]{64}"\}\n$/)
  assert.equal(await run('send', 'bob', 'are', 'you', 'there?'), 0)
  assert.equal(fake.outLines[1], 'delivered')
  assert.equal(network.chat.messages[0]?.text, 'are you there?')
  assert.equal(await run('logout'), 0)
  assert.equal(fake.files.size, 0)
  assert.equal(network.chat.tokens.size, 0)
  assert.deepEqual(fake.errLines, [])
})

test('a command line that was signed in finds the cluster when all replicas that it was given are gone, and no other cluster', async () => {
  const { network, fake, run } = start(2)
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  fake.environment['PARLEY_SERVER'] = 'r1:7400'
  network.replica(1).addresses = network.addresses
  assert.equal(await run('login', 'ann'), 0)
  network.replica(1).kill()
  assert.equal(await run('send', 'bob', 'still', 'there?'), 0)
  assert.equal(network.replica(2).seenOps.at(-1), 'sendMessage')

  // Whoever names another server may mean another cluster, which must not get to see the token.
  const { length } = network.replica(2).seen
  assert.equal(await run('send', 'bob', 'and', 'now?', '--server', 'elsewhere:7400', '--timeout', '1'), 5)
  assert.equal(network.replica(2).seen.length, length)
})

test('a search whose first page is empty goes on, and says that nothing was found only when there is no more', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  const found = Message.create({ conversation: 7, seq: 3, sender: 9, senderName: 'bob', text: 'lunch?' })
  const linesOf = async (...pages: readonly (readonly Message[])[]): Promise<readonly string[]> => {
    network.chat.searchPages.splice(0, Infinity, ...pages)
    const { length } = fake.outLines
    assert.equal(await run('search', 'lunch', '--limit', '2'), 0)
    return fake.outLines.slice(length)
  }
  assert.match((await linesOf([], [], [found])).join('\n'), /^[^\n]*lunch\?$/)
  assert.match((await linesOf([found], [found], [found])).join('\n'), /^\(there are more\)(\n.*lunch\?){2}$/)
  assert.deepEqual(await linesOf([], []), ['Nothing found.'])
})

test('who signs in as somebody else, at another replica too, is signed in as that one', async () => {
  const { network, fake, run } = start(2)
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  network.chat.passwords.set('bob', 'secret')
  fake.environment['PARLEY_SERVER'] = 'r1:7400'
  for (const id of [1, 2]) network.replica(id).addresses = network.addresses
  assert.equal(await run('login', 'ann'), 0)
  assert.equal(await run('login', 'bob', '--server', 'r2:7400'), 0)
  assert.match(fake.files.get(statePath) ?? '', /^\{"name":"bob",/)
  assert.equal(await run('whoami', '--server', 'r2:7400'), 0)
})

test('without a quorum a conversation can be read; only that it was read is not noted', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  await run('send', 'bob', 'hello')
  assert.equal(await run('read', 'bob'), 0)
  assert.equal(network.replica(1).seenOps.at(-1), 'markRead')
  network.replica(1).quorum = false
  assert.equal(await run('read', 'bob'), 0)
  assert.match(fake.outLines.at(-1) ?? '', /hello$/)
  assert.equal(network.replica(1).seenOps.filter((name) => name === 'markRead').length, 1)
  assert.deepEqual(fake.errLines, [])
})

test('a conversation can be read while nothing can be written: only that it was read is not noted', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  await run('send', 'bob', 'hello')
  network.replica(1).fault = ({ op }) => (op?.$case === 'markRead' ? { refuse: 'REASON_NO_SPACE' } : null)
  assert.equal(await run('read', 'bob'), 0)
  assert.match(fake.outLines.at(-1) ?? '', /hello$/)
})

test('what was taken out of the inbox is shown, whatever goes wrong then', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  for (let seq = 1; seq <= 600; seq += 1)
    network.chat.inbox.push(
      Message.create({ conversation: 7, seq, text: `number ${seq}`, senderName: 'bob' }),
    )
  const replica = network.replica(1)
  let opened = 0
  replica.fault = ({ op }) =>
    op?.$case === 'openInbox' && (opened += 1) === 2 ? { refuse: 'REASON_UNIMPLEMENTED' } : null
  assert.equal(await run('open', 'all'), 1)
  assert.equal(fake.outLines.filter((line) => line.includes('number ')).length, 500)
  assert.match(fake.errLines.at(-1) ?? '', /^parley: /)

  replica.fault = ({ op }) => (op?.$case === 'markRead' ? { refuse: 'REASON_UNIMPLEMENTED' } : null)
  assert.equal(await run('open', '3', '--json'), 1)
  const printed = JSON.parse(fake.outLines.at(-1) ?? '') as { messages: unknown[]; remaining: number }
  assert.deepEqual([printed.messages.length, printed.remaining], [3, 97])
})

test('a program that is not signed in is told so by the same reason that a replica gives', async () => {
  const { fake, run } = start()
  assert.equal(await run('inbox', '--json'), 4)
  const { error } = JSON.parse(fake.errLines[0] ?? '') as { readonly error: { readonly reason: string } }
  assert.equal(error.reason, 'NOT_SIGNED_IN')
})

test('the password is asked for on a terminal, after the greeting', async () => {
  const { fake, run } = start()
  fake.canAsk = true
  fake.answers.push('ann', 'secret')
  assert.equal(await run('login'), 0)
  assert.deepEqual(fake.asked, ['Name', 'Password'])
  assert.deepEqual(fake.errLines, ['Welcome back, ann.'])
})

test('a password from standard input loses its line end and nothing else', async () => {
  const { network, fake, run } = start()
  network.chat.passwords.set('ann', ' s p ')
  fake.input = ' s p \n'
  assert.equal(await run('login', 'ann', '--password-stdin'), 0)
})

test('there is no flag for a password', async () => {
  const { run } = start()
  assert.equal(await run('login', 'ann', '--password', 'x'), 2)
  for (const verb of verbs)
    for (const [flags] of verb.options) assert.doesNotMatch(flags, /--password(?!-stdin|-memory)/, verb.name)
})

test('nothing is asked without a terminal: exit code 2 and how else', async () => {
  const { fake, run } = start()
  assert.equal(await run('login'), 2)
  assert.equal(await run('login', 'ann'), 2)
  assert.match(fake.errLines[1] ?? '', /--password-stdin or in PARLEY_PASSWORD/)
  assert.equal(await run(), 2)
  assert.deepEqual(fake.outLines, [])
})

test('who is not signed in gets exit code 4 before anything is sent', async () => {
  const { network, fake, run } = start()
  for (const argv of [
    ['send', 'bob', 'hi'],
    ['inbox'],
    ['whoami'],
    ['drafts'],
    ['rooms'],
    ['sessions'],
    ['watch'],
  ])
    assert.equal(await run(...argv), 4, argv.join(' '))
  assert.equal(fake.errLines[0], 'parley: You are not signed in: parley login')
  assert.deepEqual(network.replica(1).seenOps, [])
})

test('a session that was ended gets exit code 4', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  network.chat.tokens.clear()
  assert.equal(await run('send', 'bob', 'hi'), 4)
})

test('a rejection gets exit code 1 and its reason, also as JSON', async () => {
  const { fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'wrong'
  assert.equal(await run('login', 'ann', '--json'), 1)
  assert.deepEqual(fake.outLines, [])
  const { error } = JSON.parse(fake.errLines[0] ?? '') as { error: Record<string, unknown> }
  assert.deepEqual([error['reason'], error['outcome']], ['WRONG_CREDENTIALS', 'notDone'])
})

test('a session that cannot be kept is ended, and people are told why', async () => {
  const { network, fake } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  const writePrivate = (): void => {
    throw new Error("EACCES: permission denied, mkdir '/home/ann/.local'")
  }
  const io = { ...fake.io, files: { ...fake.io.files, writePrivate } }
  const ended: (string | undefined)[] = []
  network.replica(1).fault = ({ op }) => {
    if (op?.$case === 'logOut') ended.push(op.$case)
    return null
  }
  assert.equal(await finish(network, runCli(['login', 'ann'], io, noTalk)), 1)
  assert.match(fake.errLines.at(-1) ?? '', /^parley: You cannot stay signed in: .*EACCES.*XDG_STATE_HOME/)
  assert.deepEqual(ended, ['logOut'])
})

test('a folder of a replica that may not be read is not taken for one that is none', async () => {
  const { fake } = start()
  const read = (path: string): string | null => {
    if (!path.startsWith('data/')) return null
    throw new CliError(`cannot read ${path}: EACCES: permission denied`)
  }
  const io = { ...fake.io, files: { ...fake.io.files, read } }
  assert.equal(await runCli(['token', 'create', '--data', 'data'], io, noTalk), 1)
  assert.equal(fake.errLines.at(-1), 'parley: cannot read data/operator.json: EACCES: permission denied')
})

test('a name that is taken is told before the password is asked for', async () => {
  const { fake, run } = start()
  fake.canAsk = true
  fake.answers.push('secret', 'secret')
  assert.equal(await run('register', 'ann', '--json'), 1)
  const { error } = JSON.parse(fake.errLines.at(-1) ?? '') as { error: Record<string, unknown> }
  assert.equal(error['reason'], 'NAME_TAKEN')
  assert.deepEqual(fake.asked, [])
})

test('when no replica answers the exit code is 5', async () => {
  const { network, fake, run } = start(2)
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  for (const replica of network.replicas.values()) replica.kill()
  assert.equal(await run('send', 'bob', 'hi', '--timeout', '1'), 5)
  assert.match(fake.errLines.at(-1) ?? '', /no replica could be reached within 1 s/)
  assert.equal(await run('status'), 5)
})

test('status asks all replicas at once and waits for none that the others cannot reach', async () => {
  const { network, fake, run } = start(5)
  network.replica(2).kill()
  network.replica(3).silent = true
  const beganMs = network.clock.monotonicMs()
  assert.equal(await run('status', '--json', '--server', 'r1:7400,r2:7400,r3:7400'), 0)
  const { replicas } = JSON.parse(fake.outLines[0] ?? '') as { replicas: Record<string, unknown>[] }
  assert.deepEqual(
    replicas.map((one) => [one['id'], one['reachable']]),
    [1, 2, 3, 4, 5].map((id) => [id, id !== 2 && id !== 3]),
  )
  assert.ok(network.clock.monotonicMs() - beganMs < 500, 'virtual time')
})

test('status says what the leader waits for, of which its followers know nothing', async () => {
  const { network, fake, run } = start(3)
  network.replica(1).quorum = false
  network.replica(1).waitingFor = [3]
  network.replica(3).silent = true
  assert.equal(await run('status', '--server', 'r1:7400,r2:7400,r3:7400'), 5)
  assert.match(fake.outLines.join('\n'), /No quorum: waiting for r3/)
})

test('a message whose outcome is unknown gets exit code 5 and says so', async () => {
  const { network, fake, run } = start()
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'loseAnswer' : null)
  assert.equal(await run('send', 'bob', 'hi', '--timeout', '1', '--json'), 5)
  const { error } = JSON.parse(fake.errLines.at(-1) ?? '') as { error: Record<string, unknown> }
  assert.equal(error['outcome'], 'unknown')
})

test('a replica that dies under a verb is not noticed', async () => {
  const { network, fake, run } = start(2)
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  network.replica(1).fault = (request) => (request.op?.$case === 'sendMessage' ? 'dieAfter' : null)
  assert.equal(await run('send', 'bob', 'hi'), 0)
  assert.equal(network.chat.messages.length, 1)
})

test('a replica whose folder cannot be made is not taken in, nor is another one removed for it', async () => {
  const { network, fake, run } = start(2)
  fake.environment['PARLEY_PASSWORD'] = 'secret'
  await run('login', 'ann')
  network.replica(2).kill()
  const asked: (string | undefined)[] = []
  network.replica(1).fault = ({ op }) => {
    asked.push(op?.$case)
    return null
  }
  const grow = ['--data', '/dev/null/r3', '--http', 'h:1', '--grpc', 'h:2', '--peer', 'h:3']
  for (const verb of [['add'], ['replace', 'r2']]) {
    assert.equal(await run('replica', ...verb, ...grow), 1)
    assert.match(fake.errLines.at(-1) ?? '', /\/dev\/null\/r3 cannot be made: a part of its path is a file/)
  }
  assert.deepEqual(
    asked.filter((name) => name === 'addReplica' || name === 'removeReplica'),
    [],
  )
})

test('a line of progress takes one row, however narrow the terminal is', () => {
  const { fake } = start()
  const terminal = new FakeTerminal(20)
  fake.terminalShown = terminal
  fake.canAsk = true
  const line = new StatusLine(fake.io)
  for (const part of [0.1, 0.5, 1]) line.show(`r2 ${bar(part)}  1.5 MiB of the state`)
  for (const text of fake.errLines) terminal.output.write(`${text}\n`)
  assert.deepEqual(terminal.rows, [`r2 [${'#'.repeat(15)}…`])
})

test('recover says where there is something to give up when there is nothing at this replica', async () => {
  const { network, fake, run } = start(2)
  const token = 'ab'.repeat(32)
  network.chat.addSession(Uint8Array.from(Buffer.from(token, 'hex')), 5, 50)
  const says = async (id: number): Promise<string> => {
    fake.files.set(`data/r${id}/operator.json`, JSON.stringify({ token, http: `r${id}:7400` }))
    assert.equal(await run('recover', '--data', `data/r${id}`, '--force'), 1)
    return fake.errLines.at(-1) ?? ''
  }
  assert.match(await says(1), /In the fault model majority no replica can be given up/)
  for (const replica of network.replicas.values()) replica.faultModel = 'fail-stop'
  assert.match(await says(1), /r1 waits for no other replica, so there is nothing to give up/)
  assert.match(await says(2), /r2 waits for no other replica\. Should r1, which leads, wait for one/)
  network.replica(1).kill()
  assert.equal(await run('recover', '--data', 'data/r1', '--force'), 5)
  assert.match(fake.errLines.at(-1) ?? '', /No replica of data\/r1 answers\. Start it first/)
  fake.files.set('data/cluster.json', JSON.stringify({ replicas: [{ id: 1 }, { id: 2 }] }))
  assert.equal(await run('recover', '--data', 'data'), 2)
  assert.match(fake.errLines.at(-1) ?? '', /Name the folder of one: data\/r1/)
})

for (const [argv, says] of [
  [['serve'], /which replica/],
  [['sned', 'bob', 'hi'], /unknown command 'sned'[\s\S]*send/],
  [['rooms', 'crate', 'x'], /unknown command 'rooms crate'\n\(Did you mean rooms create\?\)/],
  [
    ['replica', 'remvoe', 'r2', '--data', 'x'],
    /unknown command 'replica remvoe'\n\(Did you mean replica remove\?\)/,
  ],
  [['replica', 'xyzzy'], /unknown command 'replica xyzzy'$/m],
  [['replica', 'list', 'r2'], /too many arguments for 'list'/],
  [['replica', '--data', 'x'], /unknown option '--data'/],
  [['send'], /say to whom/],
  [['send', 'bob'], /say what to send/],
  [['send', 'no body', 'hi'], /"no body" names nobody/],
  [['open', 'some'], /a number, or all/],
  [['read'], /missing required argument/],
  [['join', '--host', 'x'], /parley join -.*PARLEY_JOIN_TOKEN/],
  [['read', 'bob', '--before', 'x'], /whole number/],
  [['delete', 'bob'], /bob\/12/],
  [['edit', 'bob/1'], /missing required argument|new text/],
  [['policy', 'set', 'nonsense=1'], /registration_open/],
  [['policy', 'set', 'registration_open=maybe'], /true or false/],
  [['drafts', 'rm'], /say which drafts/],
  [['sessions', 'revoke', 'x'], /the number/],
  [['completion', 'tcsh'], /bash, zsh, fish/],
  [['send', 'bob', 'hi', '--timeout', 'x'], /seconds/],
  [['--nonsense'], /unknown option/],
] as const)
  test(`"${argv.join(' ')}" is a usage error: exit code 2`, async () => {
    const { network, fake, run } = start()
    assert.equal(await run(...argv), 2)
    assert.match(fake.errLines.join('\n'), says)
    assert.deepEqual(fake.outLines, [])
    assert.deepEqual(network.replica(1).seenOps, [])
  })

test('with --json every complaint is one JSON object on stderr', async () => {
  for (const argv of [
    ['sned'],
    ['send', 'bob'],
    ['read'],
    ['send', 'bob', 'hi'],
    ['login', 'ann', '--nonsense'],
  ]) {
    const { fake, run } = start()
    assert.notEqual(await run(...argv, '--json'), 0)
    assert.equal(fake.errLines.length, 1, argv.join(' '))
    const { error } = JSON.parse(fake.errLines[0] ?? '') as { error: Record<string, unknown> }
    assert.equal(typeof error['message'], 'string')
  }
})

test('help of every verb works and shows what it takes', async () => {
  for (const verb of verbs) {
    const { fake, run } = start()
    assert.equal(await run(...verb.name.split(' '), '--help'), 0)
    const help = fake.outLines.join('\n')
    assert.ok(help.includes(verb.summary.split(' ')[0] ?? ''), verb.name)
    for (const [flags] of verb.options)
      assert.ok(help.includes(flags.split(' ')[0] ?? ''), `${verb.name} ${flags}`)
  }
})

test('all verbs are there', () => {
  const names = verbs.map(({ name }) => name)
  const wanted = `register, login, logout, whoami, passwd, send, inbox, open, read, delete, edit, search, watch, list, drafts new, drafts edit, drafts list,
    drafts send, drafts rm, rooms list, rooms create, rooms join, rooms leave, rooms invite, rooms members, account delete, sessions list, sessions revoke,
    policy get, policy set, up, serve, status, completion`
  for (const name of wanted.split(/,\s+/)) assert.ok(names.includes(name), name)
})

test('what cannot be meant so is quoted without control characters', async () => {
  const { fake, run } = start()
  assert.equal(await run('rooms', 'create', '\u001B[31m'), 2)
  assert.equal(fake.errLines.join('').includes('\u001B'), false)
})

test('a draft goes once to whom it names twice', () => {
  assert.deepEqual(
    recipientsFrom('ann, #dev,ANN,@ann,#Dev')?.map(({ target }) => target?.$case),
    ['account', 'room'],
  )
})

test('the interactive client runs when nothing is said, on a terminal', async () => {
  const { network, fake } = start()
  fake.canAsk = true
  let profile = ''
  const code = await finish(
    network,
    runCli(['--profile', 'bob'], fake.io, ({ settings }) => {
      profile = settings.profile
      return Promise.resolve(7)
    }),
  )
  assert.deepEqual([code, profile], [7, 'bob'])
})
