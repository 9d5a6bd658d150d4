import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { MessageRef } from '../gen/parley/v1/model.ts'
import { digest } from './digest.ts'
import { Harness, toConversation, toRoom, type Op, type Who } from './harness.ts'

// What accounts have read and opened, against a model that keeps nothing but sets.

interface ModelMessage {
  readonly sender: number
  readonly sentAs: number
  text: string
  deleted: boolean
}

interface ModelMember {
  readonly read: Set<number>
  /** Out of the inbox. */
  readonly opened: Set<number>
}

interface ModelConversation {
  readonly messages: ModelMessage[]
  readonly members: Map<number, ModelMember>
  readonly hidden: Map<number, Set<number>>
}

class Model {
  readonly conversations = new Map<number, ModelConversation>()
  private sent = 0

  conversation(id: number): ModelConversation {
    const known = this.conversations.get(id)
    if (known !== undefined) return known
    const made = { messages: [], members: new Map(), hidden: new Map() }
    this.conversations.set(id, made)
    return made
  }

  join(id: number, account: number): void {
    const conversation = this.conversation(id)
    const all = conversation.messages.map((_, i) => i + 1)
    conversation.members.set(account, { read: new Set(all), opened: new Set(all) })
  }

  send(id: number, sender: number, text: string): void {
    this.sent += 1
    this.conversation(id).messages.push({ sender, sentAs: this.sent, text, deleted: false })
  }

  isHidden(id: number, account: number, seq: number): boolean {
    return this.conversation(id).hidden.get(account)?.has(seq) === true
  }

  /** Numbers of the messages of others that are shown to the account. */
  shownOfOthers(id: number, account: number): readonly number[] {
    return this.conversation(id).messages.flatMap(({ sender, deleted }, i) =>
      sender === account || deleted || this.isHidden(id, account, i + 1) ? [] : [i + 1],
    )
  }

  unread(id: number, account: number): readonly number[] {
    const read = this.conversation(id).members.get(account)?.read
    return this.shownOfOthers(id, account).filter((seq) => read?.has(seq) === false)
  }

  unopened(id: number, account: number): readonly number[] {
    const opened = this.conversation(id).members.get(account)?.opened
    return this.shownOfOthers(id, account).filter((seq) => opened?.has(seq) === false)
  }

  inbox(account: number): readonly { readonly conversation: number; readonly seq: number }[] {
    const found = [...this.conversations].flatMap(([conversation, { messages, members }]) =>
      members.has(account)
        ? this.unopened(conversation, account).map((seq) => ({
            conversation,
            seq,
            sentAs: messages[seq - 1]?.sentAs ?? 0,
          }))
        : [],
    )
    return found.sort((a, b) => a.sentAs - b.sentAs).map(({ conversation, seq }) => ({ conversation, seq }))
  }
}

const kinds = [
  'send',
  'send',
  'send',
  'edit',
  'delete',
  'hide',
  'upTo',
  'read',
  'read',
  'unread',
  'openedUpTo',
  'openInbox',
  'join',
  'leave',
] as const

interface Step {
  readonly kind: (typeof kinds)[number]
  readonly who: number
  readonly conversation: number
  readonly seq: number
}

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...kinds),
    // Much of it by one account in one conversation, so that commands meet.
    who: fc.constantFrom(0, 0, 0, 1, 1, 2),
    conversation: fc.constantFrom(1, 1, 1, 2, 3),
    seq: fc.integer({ min: 1, max: 6 }),
  }),
  { minLength: 30, maxLength: 90 },
)

const noBytes = new Uint8Array(0)

function opOf({ kind, conversation, seq }: Step, text: string): Op {
  const message = { conversation, seq }
  switch (kind) {
    case 'send':
      return { $case: 'sendMessage', value: { id: noBytes, to: toConversation(conversation), text } }
    case 'edit':
      return { $case: 'editMessage', value: { id: noBytes, message, text } }
    case 'delete':
      return { $case: 'deleteMessage', value: { id: noBytes, message, forAll: true } }
    case 'hide':
      return { $case: 'deleteMessage', value: { id: noBytes, message, forAll: false } }
    case 'openInbox':
      return {
        $case: 'openInbox',
        value: { id: noBytes, count: Math.ceil(seq / 3), conversation: seq % 2 === 0 ? conversation : 0 },
      }
    case 'join':
      return { $case: 'joinRoom', value: { id: noBytes, name: 'room' } }
    case 'leave':
      return { $case: 'leaveRoom', value: { id: noBytes, name: 'room' } }
    default:
      return { $case: 'markRead', value: { id: noBytes, conversation, mark: { $case: kind, value: seq } } }
  }
}

/** What a command that succeeded means. */
function follow(model: Model, account: number, step: Step, text: string): void {
  const conversation = model.conversation(step.conversation)
  const member = conversation.members.get(account)
  const message = conversation.messages[step.seq - 1]
  const isShown = model.shownOfOthers(step.conversation, account).includes(step.seq)
  switch (step.kind) {
    case 'send':
      model.send(step.conversation, account, text)
      return
    case 'edit':
      if (message !== undefined) message.text = text
      return
    case 'delete':
      if (message !== undefined) {
        message.deleted = true
        message.text = ''
      }
      return
    case 'hide': {
      const hidden = conversation.hidden.get(account) ?? new Set()
      conversation.hidden.set(account, hidden.add(step.seq))
      return
    }
    case 'upTo':
      for (let seq = 1; seq <= step.seq; seq += 1) {
        member?.read.add(seq)
        member?.opened.add(seq)
      }
      return
    case 'read':
      if (!isShown) return
      member?.read.add(step.seq)
      member?.opened.add(step.seq)
      return
    case 'unread':
      if (isShown) member?.read.delete(step.seq)
      return
    case 'openedUpTo':
      for (let seq = 1; seq <= step.seq; seq += 1) member?.opened.add(seq)
      return
    case 'join':
      model.join(roomId, account)
      return
    case 'leave':
      model.conversation(roomId).members.delete(account)
      return
    case 'openInbox':
    // Done where the answer is compared.
  }
}

const roomId = 3

/** Mostly the sender, where another one would be rejected. */
function whoOf(model: Model, people: readonly Who[], step: Step): Who | undefined {
  const sender = model.conversation(step.conversation).messages[step.seq - 1]?.sender
  const isSendersBusiness = step.kind === 'edit' || step.kind === 'delete'
  return isSendersBusiness && step.seq % 3 !== 0
    ? people.find(({ account }) => account === sender)
    : people[step.who]
}

function compare(chat: Harness, model: Model, people: readonly Who[]): void {
  for (const { account } of people) {
    assert.equal(chat.queries.inboxCount(account), model.inbox(account).length, 'inbox')
    for (const [id, { members, messages }] of model.conversations) {
      if (!members.has(account)) continue
      const page = chat.queries.messages(account, id, { beforeSeq: 0, afterSeq: 0, pageSize: 500 })
      assert.equal(page?.marks.unreadCount, model.unread(id, account).length, 'unread')
      assert.equal(page.marks.unopenedCount, model.unopened(id, account).length, 'unopened')
      const unread = new Set(model.unread(id, account))
      assert.deepEqual(
        page.messages.map(({ seq, text, deleted, read }) => ({ seq, text, deleted, read: deleted || read })),
        messages.flatMap(({ text, deleted }, i) =>
          model.isHidden(id, account, i + 1)
            ? []
            : [{ seq: i + 1, text, deleted, read: deleted || !unread.has(i + 1) }],
        ),
      )
      const shown = chat.queries.conversation(account, toConversation(id))
      assert.equal(shown?.unread, unread.size)
      assert.equal(shown.unopened, page.marks.unopenedCount)
    }
  }
}

/** The digest without what every command changes. */
function digestOfChat(chat: Harness): string {
  return digest(chat.db)
    .split('\n')
    .filter((line) => !/^(chat_state|origin|outcome|session) /.test(line))
    .join('\n')
}

test('counts, marks and the inbox are those of a model that keeps a set for each account', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const chat = new Harness(new DatabaseSync(':memory:'))
      const model = new Model()
      const people: readonly Who[] = ['ann', 'ben', 'cleo'].map((name) => chat.register(name))
      const [ann, ben] = people
      if (ann === undefined || ben === undefined) throw new Error('nobody')
      chat.send(ann, { target: { $case: 'account', value: 'ben' } }, 'first')
      chat.do(ann, {
        $case: 'createRoom',
        value: { id: noBytes, name: 'room', topic: '', private: false },
      })
      for (const { account } of people) model.join(1, account)
      for (const { account } of [ann, ben]) model.join(2, account)
      model.send(2, ann.account, 'first')
      model.join(roomId, ann.account)
      assert.equal(chat.queries.conversation(ann.account, toRoom('room'))?.id, roomId)
      for (const seq of [1, 2, 3, 4, 5]) {
        const sender = people[seq % 3] ?? ann
        chat.send(sender, toConversation(1), `begun ${seq}`)
        model.send(1, sender.account, `begun ${seq}`)
      }

      for (const [i, step] of list.entries()) {
        const who: Who = whoOf(model, people, step) ?? ann
        const text = `text ${i}`
        const before = digestOfChat(chat)
        const result = chat.run(who, opOf(step, text))
        if (result.$case === 'rejected') {
          assert.equal(digestOfChat(chat), before, 'a rejected command changes nothing')
          assert.deepEqual(chat.lastEvents(), [])
          continue
        }
        if (result.$case === 'openInbox') {
          const op = opOf(step, text)
          const only = op.$case === 'openInbox' ? op.value.conversation : 0
          const wanted: readonly MessageRef[] = model
            .inbox(who.account)
            .filter(({ conversation }) => only === 0 || conversation === only)
            .slice(0, op.$case === 'openInbox' ? op.value.count : 0)
          assert.deepEqual(
            result.value.messages.map(({ conversation, seq }) => ({ conversation, seq })),
            wanted,
          )
          for (const { conversation, seq } of wanted)
            model.conversation(conversation).members.get(who.account)?.opened.add(seq)
          assert.equal(result.value.remaining, model.inbox(who.account).length)
        }
        follow(model, who.account, step, text)
        if (i % 7 === 0) compare(chat, model, people)
      }
      compare(chat, model, people)
    }),
    { numRuns: 60 },
  )
})
