import type { DatabaseSync } from 'node:sqlite'

import { assert } from '../base/assert.ts'
import { makeUuidV7 } from '../base/ids.ts'
import { seededRandom } from '../base/random.ts'
import type { ChatMachine } from '../chat/types.ts'
import type { Command, Outcome } from '../gen/parley/v1/command.ts'
import type { MessageRef } from '../gen/parley/v1/model.ts'

export interface TestAccount {
  readonly name: string
  readonly account: number
  readonly session: number
}

const random = seededRandom(1)

/** A client's id at this moment of the test. */
export function testId(atMs: number): Uint8Array {
  return makeUuidV7(
    atMs,
    Uint8Array.from({ length: 10 }, () => random.below(256)),
  )
}

/** What an account asks, as a command. */
export function commandOf(who: TestAccount | null, id: Uint8Array, op: NonNullable<Command['op']>): Command {
  return { id, fingerprint: 1, account: who?.account ?? 0, session: who?.session ?? 0, op }
}

export function registerCommand(name: string, atMs: number): Command {
  const tokenHash = Uint8Array.from({ length: 32 }, () => random.below(256))
  return commandOf(null, testId(atMs), {
    $case: 'register',
    value: { name, passwordHash: '$argon2id$', device: 'test', tokenHash },
  })
}

export function sendCommand(who: TestAccount, to: string, text: string, atMs: number): Command {
  const id = testId(atMs)
  const value = { id, to: { target: { $case: 'account', value: to } as const }, text }
  return commandOf(who, id, { $case: 'sendMessage', value })
}

/** Applies commands to a state machine, one transaction each. */
export class ChatScript {
  private readonly machine: ChatMachine
  private readonly db: DatabaseSync
  private number = 0
  private nowMs = 1_700_000_000_000

  constructor(machine: ChatMachine, db: DatabaseSync) {
    this.machine = machine
    this.db = db
  }

  accounts<const N extends readonly string[]>(...names: N): { readonly [I in keyof N]: TestAccount } {
    // Each name becomes an account, so there are as many of one as of the other.
    return names.map((name) => this.register(name)) as unknown as { readonly [I in keyof N]: TestAccount }
  }

  send(who: TestAccount, to: string, text: string): MessageRef {
    const { outcome } = this.apply(sendCommand(who, to, text, this.nowMs))
    assert(outcome?.$case === 'sendMessage', 'the message was sent', { outcome })
    return { conversation: outcome.value.conversation, seq: outcome.value.seq }
  }

  edit(who: TestAccount, message: MessageRef, text: string): void {
    const id = testId(this.nowMs)
    const { outcome } = this.apply(commandOf(who, id, { $case: 'editMessage', value: { id, message, text } }))
    assert(outcome?.$case === 'editMessage', 'the message was edited', { outcome })
  }

  remove(who: TestAccount, message: MessageRef): void {
    const id = testId(this.nowMs)
    const value = { id, message, forAll: true }
    const { outcome } = this.apply(commandOf(who, id, { $case: 'deleteMessage', value }))
    assert(outcome?.$case === 'deleteMessage', 'the message was deleted', { outcome })
  }

  private register(name: string): TestAccount {
    const { outcome } = this.apply(registerCommand(name, this.nowMs))
    assert(outcome?.$case === 'register', 'the account was made', { outcome })
    return { name, account: outcome.value.account?.id ?? 0, session: outcome.value.session }
  }

  private apply(command: Command): Outcome {
    this.number += 1
    this.nowMs += 1
    this.db.exec('BEGIN')
    const batch = { origin: 1, incarnation: 1, number: this.number, atMs: this.nowMs, commands: [command] }
    const applied = this.machine.applyBatch(batch, false)?.[0]
    this.machine.flush()
    this.db.exec('COMMIT')
    assert(applied !== undefined, 'the command was applied')
    return applied.outcome
  }
}
