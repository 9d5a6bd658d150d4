import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import type { Request } from '../gen/parley/v1/frames.ts'
import { Policy, Reason } from '../gen/parley/v1/model.ts'
import { newId, plainPasswords, signUp, startTestApi, TestClient, type TestApi } from './test-support.ts'

const operatorToken = randomBytes(32)
let server: TestApi
let port: number
let ann: Awaited<ReturnType<typeof signUp>>
let bob: Awaited<ReturnType<typeof signUp>>

before(async () => {
  server = await startTestApi({ operatorToken })
  port = server.api.httpPort
  ann = await signUp(port, 'ann')
  bob = await signUp(port, 'bob')
})
after(async () => {
  await server.close()
  assert.deepEqual(server.errors, [])
})

const toBob = { target: { $case: 'account', value: 'bob' } } as const
const id = newId()
const draftId = newId()
const long = 'x'.repeat(51)
const newReplica = { replica: 0, peerAddress: 'h:1', httpAddress: 'h:2', grpcAddress: '[::1]:3' }

/** A request that is wrong, the field that the error must name, and what it must say of the limit. */
const wrong: readonly (readonly [Request['op'], string, RegExp])[] = [
  [{ $case: 'lookUpName', value: { name: '' } }, 'name', /1 to 50/],
  [
    { $case: 'register', value: { id, name: 'a b', password: 'p', device: '', token: id } },
    'name',
    /1 to 50/,
  ],
  [
    { $case: 'register', value: { id, name: long, password: 'p', device: '', token: new Uint8Array() } },
    'name',
    /1 to 50/,
  ],
  [
    { $case: 'register', value: { id, name: 'x', password: '', device: '', token: new Uint8Array() } },
    'password',
    /not be empty/,
  ],
  [
    {
      $case: 'register',
      value: { id, name: 'x', password: 'é'.repeat(513), device: '', token: new Uint8Array() },
    },
    'password',
    /1024 bytes/,
  ],
  [
    {
      $case: 'register',
      value: { id, name: 'x', password: 'p', device: 'd'.repeat(101), token: new Uint8Array() },
    },
    'device',
    /100 bytes/,
  ],
  [
    { $case: 'register', value: { id, name: 'x', password: 'p', device: '', token: new Uint8Array(31) } },
    'token',
    /32 bytes/,
  ],
  [
    {
      $case: 'register',
      value: { id: new Uint8Array(15), name: 'x', password: 'p', device: '', token: new Uint8Array() },
    },
    'id',
    /UUIDv7 of 16 bytes/,
  ],
  [{ $case: 'logOut', value: { id: new Uint8Array(16) } }, 'id', /UUIDv7/],
  [
    { $case: 'changePassword', value: { id, oldPassword: 'p', newPassword: '' } },
    'new_password',
    /not be empty/,
  ],
  [{ $case: 'deleteAccount', value: { id, confirmName: '' } }, 'confirm_name', /1 to 50/],
  [
    { $case: 'listAccounts', value: { pattern: 'x'.repeat(101), pageSize: 0, pageToken: '' } },
    'pattern',
    /100/,
  ],
  [{ $case: 'listAccounts', value: { pattern: '', pageSize: 501, pageToken: '' } }, 'page_size', /0 to 500/],
  [
    { $case: 'listConversations', value: { pageSize: 0, pageToken: 'x'.repeat(201) } },
    'page_token',
    /200 bytes/,
  ],
  [{ $case: 'getConversation', value: { conversation: undefined } }, 'conversation', /must name/],
  [
    { $case: 'getConversation', value: { conversation: { target: { $case: 'room', value: '#x' } } } },
    'conversation.room',
    /1 to 50/,
  ],
  [{ $case: 'createRoom', value: { id, name: 'no spaces', topic: '', private: false } }, 'name', /1 to 50/],
  [{ $case: 'createRoom', value: { id, name: 'x', topic: 't'.repeat(251), private: false } }, 'topic', /250/],
  [{ $case: 'joinRoom', value: { id, name: '' } }, 'name', /1 to 50/],
  [{ $case: 'leaveRoom', value: { id, name: '' } }, 'name', /1 to 50/],
  [{ $case: 'inviteToRoom', value: { id, name: 'x', account: long } }, 'account', /1 to 50/],
  [{ $case: 'sendMessage', value: { id, to: undefined, text: 'hi' } }, 'to', /must name/],
  [{ $case: 'sendMessage', value: { id, to: toBob, text: ' \n' } }, 'text', /not be empty/],
  [{ $case: 'editMessage', value: { id, message: undefined, text: 'hi' } }, 'message', /must name/],
  [
    { $case: 'deleteMessage', value: { id, message: { conversation: 1, seq: 0 }, forAll: false } },
    'message',
    /must name/,
  ],
  [
    { $case: 'markRead', value: { id, conversation: 0, mark: { $case: 'upTo', value: 1 } } },
    'conversation',
    /given/,
  ],
  [{ $case: 'markRead', value: { id, conversation: 1, mark: undefined } }, 'mark', /up_to/],
  [
    {
      $case: 'listMessages',
      value: {
        conversation: { target: { $case: 'conversation', value: 1 } },
        beforeSeq: 1,
        afterSeq: 1,
        pageSize: 0,
      },
    },
    'after_seq',
    /before_seq/,
  ],
  [
    { $case: 'searchMessages', value: { query: '', conversation: undefined, pageSize: 0, pageToken: '' } },
    'query',
    /not be empty/,
  ],
  [
    {
      $case: 'searchMessages',
      value: { query: 'q'.repeat(201), conversation: undefined, pageSize: 0, pageToken: '' },
    },
    'query',
    /200 bytes/,
  ],
  [{ $case: 'openInbox', value: { id, count: 0, conversation: 0 } }, 'count', /1 to 500/],
  [{ $case: 'openInbox', value: { id, count: 501, conversation: 0 } }, 'count', /1 to 500/],
  [
    {
      $case: 'saveDraft',
      value: { id, draftId: new Uint8Array(3), baseVersion: 0, text: '', recipients: [] },
    },
    'draft_id',
    /UUIDv7/,
  ],
  [
    {
      $case: 'saveDraft',
      value: { id, draftId, baseVersion: 0, text: '', recipients: Array.from({ length: 101 }, () => toBob) },
    },
    'recipients',
    /at most 100/,
  ],
  [{ $case: 'sendDrafts', value: { id, draftIds: [] } }, 'draft_ids', /not be empty/],
  [
    { $case: 'sendDrafts', value: { id, draftIds: Array.from({ length: 101 }, () => draftId) } },
    'draft_ids',
    /at most 100/,
  ],
  [{ $case: 'deleteDrafts', value: { id, draftIds: [] } }, 'draft_ids', /not be empty/],
  [
    { $case: 'deleteDrafts', value: { id, draftIds: [draftId, new Uint8Array(1_000_000)] } },
    'draft_ids[1]',
    /UUIDv7 of 16 bytes/,
  ],
  [
    { $case: 'sendDrafts', value: { id, draftIds: [new Uint8Array(17)] } },
    'draft_ids[0]',
    /UUIDv7 of 16 bytes/,
  ],
  [
    {
      $case: 'setPolicy',
      value: {
        id,
        policy: Policy.fromPartial({ sessionLifetimeS: 3600, maxMessageBytes: 100 }),
        fields: Array.from({ length: 8 }, () => 'single_session'),
      },
    },
    'fields',
    /at most 7/,
  ],
  [{ $case: 'revokeSession', value: { id, session: 0 } }, 'session', /given/],
  [{ $case: 'setPolicy', value: { id, policy: undefined, fields: [] } }, 'policy', /given/],
  [{ $case: 'addReplica', value: { ...newReplica, peerAddress: 'here' } }, 'peer_address', /host:port/],
  [{ $case: 'addReplica', value: { ...newReplica, httpAddress: 'a b:1' } }, 'http_address', /host:port/],
  [{ $case: 'addReplica', value: { ...newReplica, grpcAddress: 'h:0' } }, 'grpc_address', /host:port/],
  [{ $case: 'addReplica', value: { ...newReplica, grpcAddress: 'h:65536' } }, 'grpc_address', /host:port/],
  [{ $case: 'addReplica', value: { ...newReplica, replica: 2 ** 31 } }, 'replica', /0 to 1000000/],
  [{ $case: 'promoteReplica', value: { replica: 0 } }, 'replica', /1 to/],
  [{ $case: 'listConversations', value: { pageSize: 0, pageToken: 'x' } }, 'page_token', /given out/],
  [{ $case: 'listDrafts', value: { pageSize: 0, pageToken: '1' } }, 'page_token', /given out/],
  [
    { $case: 'searchMessages', value: { query: 'a', conversation: undefined, pageSize: 0, pageToken: '-1' } },
    'page_token',
    /given out/,
  ],
]

for (const [op, field, limit] of wrong)
  test(`${op?.$case} with a wrong ${field} names the field and the limit`, async () => {
    const position = server.replica.position
    const error = await ann.fail(op)
    assert.equal(error.reason, Reason.INVALID_ARGUMENT)
    const violation = error.violations.find((found) => found.field === field)
    assert.ok(violation !== undefined, `${field} is named in ${JSON.stringify(error.violations)}`)
    assert.match(violation.description, limit)
    assert.notEqual(error.message, '')
    assert.equal(server.replica.position, position, 'nothing went into the log')
  })

test('a text above what any policy allows is too large, with the field and the limit', async () => {
  for (const op of [
    { $case: 'sendMessage', value: { id, to: toBob, text: 'é'.repeat(32_769) } },
    { $case: 'editMessage', value: { id, message: { conversation: 2, seq: 1 }, text: 'x'.repeat(65_537) } },
  ] as const) {
    const error = await ann.fail(op)
    assert.equal(error.reason, Reason.MESSAGE_TOO_LARGE)
    assert.deepEqual(
      error.violations.map(({ field }) => field),
      ['text'],
    )
    assert.match(error.violations[0]?.description ?? '', /65536 bytes/)
  }
})

test('a text above the present policy is refused by the state machine with its limit', async () => {
  const error = await ann.fail({
    $case: 'sendMessage',
    value: { id: newId(), to: toBob, text: 'x'.repeat(16_385) },
  })
  assert.equal(error.reason, Reason.MESSAGE_TOO_LARGE)
  assert.match(JSON.stringify(error), /16384/)
})

test('a wrong password and an unknown account get the same error, and the same work is done for both', async () => {
  const client = await new TestClient(port).ready()
  const verifiedBefore = plainPasswords.verified
  const errors = []
  for (const name of ['ann', 'nobody'])
    errors.push(
      await client.fail({
        $case: 'logIn',
        value: { id: newId(), name, password: 'wrong', device: '', token: new Uint8Array() },
      }),
    )
  assert.equal(errors[0]?.reason, Reason.WRONG_CREDENTIALS)
  assert.deepEqual(errors[0], errors[1])
  assert.equal(plainPasswords.verified, verifiedBefore + 2)
  client.close()
})

test('who guesses passwords has to wait, and is told for how long', async () => {
  const client = await new TestClient(port).ready()
  await signUp(port, 'guessed')
  const attempt = (password: string) =>
    client.ask({
      $case: 'logIn',
      value: { id: newId(), name: 'guessed', password, device: '', token: new Uint8Array() },
    })
  const reasons: string[] = []
  for (let i = 0; i < 6; i += 1) {
    const result = await attempt(`guess ${i}`)
    if (result.$case === 'error') reasons.push(result.value.reason)
  }
  assert.deepEqual(reasons, [
    ...Array.from({ length: 5 }, () => Reason.WRONG_CREDENTIALS),
    Reason.RATE_LIMITED,
  ])
  const limited = await attempt("guessed's password")
  assert.equal(limited.$case, 'error', 'a right guess has to wait too')
  assert.ok(limited.$case === 'error' && limited.value.retryAfterMs > 0)
  server.clock.advance(1000)
  assert.equal((await attempt("guessed's password")).$case, 'logIn')
  client.close()
})

test('passwords that are guessed at once get no further than those guessed one after another', async () => {
  const client = await new TestClient(port).ready()
  await signUp(port, 'flooded')
  const guesses = Array.from({ length: 60 }, (_, i) =>
    client.make({
      $case: 'logIn',
      value: { id: newId(), name: 'flooded', password: `guess ${i}`, device: '', token: new Uint8Array() },
    }),
  )
  client.send(guesses.map(({ request }) => request))
  const reasons = (await Promise.all(guesses.map(({ answer }) => answer))).map((result) =>
    result.$case === 'error' ? result.value.reason : result.$case,
  )
  assert.equal(reasons.filter((reason) => reason === Reason.WRONG_CREDENTIALS).length, 5)
  assert.equal(reasons.filter((reason) => reason === Reason.RATE_LIMITED).length, 55)
  client.close()
})

test('tokens that are short, foreign, revoked or expired sign nobody in', async () => {
  const client = await new TestClient(port).ready()
  const reasonFor = async (token: Uint8Array) =>
    (await client.fail({ $case: 'authenticate', value: { token } })).reason
  assert.equal(await reasonFor(new Uint8Array(5)), Reason.NOT_SIGNED_IN)
  assert.equal(await reasonFor(randomBytes(32)), Reason.NOT_SIGNED_IN)

  const token = randomBytes(32)
  const { session } = await client.get('logIn', {
    id: newId(),
    name: 'bob',
    password: "bob's password",
    device: '',
    token,
  })
  await bob.get('revokeSession', { id: newId(), session })
  assert.equal(await reasonFor(token), Reason.NOT_SIGNED_IN)
  client.close()
})

test('after a session was revoked its connection is nobody’s', async () => {
  const other = await new TestClient(port).ready()
  const token = randomBytes(32)
  const { session } = await other.get('logIn', {
    id: newId(),
    name: 'bob',
    password: "bob's password",
    device: '',
    token,
  })
  await other.get('authenticate', { token })
  await other.get('getMe', {})
  await bob.get('revokeSession', { id: newId(), session })
  assert.equal((await other.fail({ $case: 'getMe', value: {} })).reason, Reason.NOT_SIGNED_IN)
  const send = { $case: 'sendMessage', value: { id: newId(), to: toBob, text: 'hi' } } as const
  assert.equal((await other.fail(send)).reason, Reason.NOT_SIGNED_IN)
  other.close()
})

test('without signing in nothing works but what sign-in needs', async () => {
  const client = await new TestClient(port).ready()
  assert.equal((await client.get('lookUpName', { name: 'ANN' })).exists, true)
  assert.equal((await client.get('lookUpName', { name: 'nobody' })).exists, false)
  assert.equal((await client.get('getPolicy', {})).policy?.registrationOpen, true)
  assert.equal((await client.get('getStatus', {})).replica, 1)
  const closed: readonly Request['op'][] = [
    { $case: 'getMe', value: {} },
    { $case: 'listAccounts', value: { pattern: '', pageSize: 0, pageToken: '' } },
    { $case: 'sendMessage', value: { id: newId(), to: toBob, text: 'hi' } },
    { $case: 'searchMessages', value: { query: 'hi', conversation: undefined, pageSize: 0, pageToken: '' } },
    { $case: 'changePassword', value: { id: newId(), oldPassword: 'a', newPassword: 'b' } },
    { $case: 'subscribe', value: { cursor: 0 } },
    { $case: 'joinRoom', value: { id: newId(), name: 'room' } },
  ]
  for (const op of closed) assert.equal((await client.fail(op)).reason, Reason.NOT_SIGNED_IN)
  client.close()
})

test('another account’s message cannot be edited, or deleted for all', async () => {
  const { conversation, seq } = await ann.get('sendMessage', { id: newId(), to: toBob, text: 'mine' })
  const message = { conversation, seq }
  for (const op of [
    { $case: 'editMessage', value: { id: newId(), message, text: 'forged' } },
    { $case: 'deleteMessage', value: { id: newId(), message, forAll: true } },
  ] as const)
    assert.equal((await bob.fail(op)).reason, Reason.NOT_YOUR_MESSAGE)
})

test('the same id again returns the first result; with other content it is refused', async () => {
  const value = { id: newId(), to: toBob, text: 'once' }
  const first = await ann.get('sendMessage', value)
  assert.deepEqual(await ann.get('sendMessage', value), first)
  const reused = await ann.fail({ $case: 'sendMessage', value: { ...value, text: 'twice' } })
  assert.equal(reused.reason, Reason.ID_REUSED)
})

test('registration repeated with its token returns the same session; with another token it is refused', async () => {
  const client = await new TestClient(port).ready()
  const value = { id: newId(), name: 'carl', password: 'p', device: '', token: randomBytes(32) }
  const first = await client.get('register', value)
  assert.deepEqual(Buffer.from(first.token), value.token)
  assert.deepEqual(await client.get('register', value), first)
  const reused = await client.fail({ $case: 'register', value: { ...value, token: randomBytes(32) } })
  assert.equal(reused.reason, Reason.ID_REUSED)
  client.close()
})

test('the id of a request that set a password is refused with another password', async () => {
  const client = await new TestClient(port).ready()
  const registering = { id: newId(), name: 'gus', password: 'one', device: '', token: randomBytes(32) }
  const changing = { id: newId(), oldPassword: 'one', newPassword: 'two' }
  const { token } = await client.get('register', registering)
  await client.get('authenticate', { token })
  await client.get('changePassword', changing)
  for (const op of [
    { $case: 'register', value: { ...registering, password: 'three' } },
    { $case: 'changePassword', value: { ...changing, oldPassword: 'two', newPassword: 'three' } },
  ] as const)
    assert.equal((await client.fail(op)).reason, Reason.ID_REUSED)
  // The requests themselves may still be repeated.
  assert.deepEqual((await client.get('register', registering)).token, token)
  await client.get('changePassword', changing)
  client.close()
})

test('while registration is closed an administrator can make accounts, and nobody else', async () => {
  const setOpen = async (registrationOpen: boolean) => {
    const { policy } = await ann.get('getPolicy', {})
    assert.ok(policy !== undefined)
    const changed = { ...policy, registrationOpen }
    await ann.get('setPolicy', { id: newId(), policy: changed, fields: ['registration_open'] })
  }
  const make = (name: string) => ({ id: newId(), name, password: 'p', device: '', token: randomBytes(32) })
  const nobody = await new TestClient(port).ready()
  await setOpen(false)
  for (const client of [bob, nobody])
    assert.equal(
      (await client.fail({ $case: 'register', value: make('fay') })).reason,
      Reason.REGISTRATION_CLOSED,
    )
  const value = make('fay')
  const made = await ann.get('register', value)
  assert.equal(made.account?.name, 'fay')
  // The same request again, whether or not somebody is signed in by then.
  for (const client of [ann, bob, nobody]) assert.deepEqual(await client.get('register', value), made)
  await nobody.get('authenticate', { token: value.token })
  await setOpen(true)
  nobody.close()
})

test('a client that sends no token is given one that works', async () => {
  const client = await new TestClient(port).ready()
  const { token, session } = await client.get('register', {
    id: newId(),
    name: 'dora',
    password: 'p',
    device: '',
    token: new Uint8Array(),
  })
  assert.equal(token.length, 32)
  assert.equal((await client.get('authenticate', { token })).session, session)
  client.close()
})

test('a change of password whose answer was lost can be repeated, and changes nothing the second time', async () => {
  const eve = await signUp(port, 'eve')
  const value = { id: newId(), oldPassword: "eve's password", newPassword: 'new' }
  await eve.get('changePassword', value)
  await eve.get('changePassword', value)
  const logIn = (password: string) =>
    eve.ask({
      $case: 'logIn',
      value: { id: newId(), name: 'eve', password, device: '', token: new Uint8Array() },
    })
  assert.equal((await logIn('new')).$case, 'logIn')
  const wrongOne = await eve.fail({
    $case: 'changePassword',
    value: { id: newId(), oldPassword: 'guess', newPassword: 'other' },
  })
  assert.equal(wrongOne.reason, Reason.WRONG_CREDENTIALS)
  // The new password in place of the old one is no way around knowing the old one.
  const sameOne = await eve.fail({
    $case: 'changePassword',
    value: { id: newId(), oldPassword: 'guess', newPassword: 'new' },
  })
  assert.equal(sameOne.reason, Reason.WRONG_CREDENTIALS)
  eve.close()
})

test('targets that do not exist are told apart by what they are', async () => {
  const reasonFor = async (target: { $case: 'account' | 'room'; value: string }) =>
    (await ann.fail({ $case: 'getConversation', value: { conversation: { target } } })).reason
  assert.equal(await reasonFor({ $case: 'account', value: 'nobody' }), Reason.ACCOUNT_NOT_FOUND)
  assert.equal(await reasonFor({ $case: 'room', value: 'nowhere' }), Reason.ROOM_NOT_FOUND)
  const unused = { target: { $case: 'account', value: 'dora' } } as const
  const page = await ann.get('listMessages', { conversation: unused, beforeSeq: 0, afterSeq: 0, pageSize: 0 })
  assert.deepEqual(page.messages, [])
})

test('a page of large messages is cut, and going on from it leads through all of them', async () => {
  await signUp(port, 'reader')
  const to = { target: { $case: 'account', value: 'reader' } } as const
  const sent = 40
  for (let i = 0; i < sent; i += 1)
    await ann.get('sendMessage', { id: newId(), to, text: 'x'.repeat(16_000) })
  const forwards: number[] = []
  for (let more = true; more;) {
    const page = await ann.get('listMessages', {
      conversation: to,
      beforeSeq: 0,
      afterSeq: forwards.at(-1) ?? 0,
      pageSize: 500,
    })
    assert.ok(page.messages.length < sent)
    if (forwards.length === 0) {
      // Without after_seq a page ends with the newest message.
      assert.equal(page.lastSeq, sent)
      assert.equal(page.firstSeq, page.messages[0]?.seq)
      const before = await ann.get('listMessages', {
        conversation: to,
        beforeSeq: page.firstSeq,
        afterSeq: 0,
        pageSize: 500,
      })
      assert.equal(before.lastSeq, page.firstSeq - 1)
      forwards.push(1)
      continue
    }
    assert.equal(page.messages[0]?.seq, (forwards.at(-1) ?? 0) + 1)
    forwards.push(...page.messages.map(({ seq }) => seq))
    assert.equal(page.lastSeq, forwards.at(-1))
    more = page.more
  }
  assert.deepEqual(
    forwards,
    Array.from({ length: sent }, (_, i) => i + 1),
  )
})

test('an operation from the future is answered with UNIMPLEMENTED', async () => {
  assert.equal((await ann.fail(undefined)).reason, Reason.UNIMPLEMENTED)
})

test('a read with the position of a write sees it', async () => {
  const { request, answer } = ann.make({
    $case: 'sendMessage',
    value: { id: newId(), to: toBob, text: 'see me' },
  })
  ann.send([request])
  const sent = await answer
  assert.equal(sent.$case, 'sendMessage')
  const result = await ann.ask(
    {
      $case: 'listMessages',
      value: { conversation: toBob, beforeSeq: 0, afterSeq: 0, pageSize: 1 },
    },
    { local: true, minPosition: server.replica.position },
  )
  assert.ok(result.$case === 'listMessages' && result.value.messages[0]?.text === 'see me')
})

test('without a quorum writes and linearizable reads are refused at once, and local reads go on', async () => {
  server.setQuorum(false)
  const send = { $case: 'sendMessage', value: { id: newId(), to: toBob, text: 'hi' } } as const
  const refused = await ann.fail(send)
  assert.equal(refused.reason, Reason.NO_QUORUM)
  assert.ok(refused.retryAfterMs > 0)
  assert.equal((await ann.fail({ $case: 'getMe', value: {} })).reason, Reason.NO_QUORUM)
  assert.equal((await ann.ask({ $case: 'getMe', value: {} }, { local: true })).$case, 'getMe')
  assert.equal((await ann.get('getStatus', {})).quorum, false)
  server.setQuorum(true)
  await server.ready()
  assert.equal((await ann.ask(send)).$case, 'sendMessage')
})

test('a write that is under way when its time runs out has an unknown outcome, and may be asked for again', async () => {
  server.hold(true)
  const value = { id: newId(), to: toBob, text: 'late' }
  const { request, answer } = ann.make({ $case: 'sendMessage', value }, { timeoutMs: 1000 })
  ann.send([request])
  await ann.get('ping', {})
  server.clock.advance(1100)
  const result = await answer
  assert.ok(result.$case === 'error' && result.value.reason === Reason.OUTCOME_UNKNOWN)
  server.hold(false)
  await ann.get('sendMessage', value)
})

test('a backup says up to where all is in it, and not what came while it was made', async () => {
  const { replica } = server
  const before = replica.position
  const takeCopy = replica.takeCopy.bind(replica)
  replica.takeCopy = async () => {
    await ann.ask({ $case: 'sendMessage', value: { id: newId(), to: toBob, text: 'while it is made' } })
    const read = (): Promise<Uint8Array> => Promise.resolve(new Uint8Array(0))
    return { id: `1-${'ab'.repeat(32)}`, index: 1, sizeBytes: 0, read, close: () => Promise.resolve() }
  }
  try {
    const started = await ann.ask({ $case: 'startBackup', value: {} })
    assert.ok(started.$case === 'startBackup')
    assert.equal(started.value.position, before)
    assert.ok(replica.position > before)
  } finally {
    replica.takeCopy = takeCopy
  }
})

test('only administrators change the replica set, and who can read the data folder', async () => {
  const op = { $case: 'addReplica', value: newReplica } as const
  const stranger = await new TestClient(port).ready()
  try {
    assert.equal((await stranger.fail(op)).reason, Reason.NOT_SIGNED_IN)
    assert.equal((await bob.fail(op)).reason, Reason.NOT_PERMITTED)
    const added = await ann.ask(op)
    assert.ok(added.$case === 'addReplica' && added.value.replica === 7)
    await stranger.ask({ $case: 'authenticate', value: { token: operatorToken } })
    assert.equal((await stranger.ask(op)).$case, 'addReplica')
    const led = await stranger.ask({ $case: 'transferLeadership', value: { replica: 3 } })
    assert.ok(led.$case === 'transferLeadership' && led.value.leader === 3)
    // It is not an account, and so cannot chat.
    assert.equal((await stranger.fail({ $case: 'getMe', value: {} })).reason, Reason.NOT_SIGNED_IN)
  } finally {
    stranger.close()
  }
})

test('a change of the replica set that is refused says why', async () => {
  const error = await ann.fail({ $case: 'removeReplica', value: { replica: 9 } })
  assert.equal(error.reason, Reason.QUORUM_AT_RISK)
  assert.match(error.message, /r9 is the only replica with a vote/)
})
