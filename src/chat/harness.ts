import { makeUuidV7 } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import type { Command } from '../gen/parley/v1/command.ts'
import type { Error as ChatError, Target } from '../gen/parley/v1/model.ts'
import { Event } from '../gen/parley/v1/service.ts'
import { openChat, type OpenChatOptions } from './machine.ts'
import type { ChatQueries } from './queries.ts'
import type { Result } from './rejections.ts'
import type { Sql } from './sql.ts'
import type { Applied, ChatMachine } from './types.ts'

export type Op = NonNullable<Command['op']>
type Case = Op['$case']
type Success<C extends Case> =
  Extract<Result, { readonly $case: C }> extends { readonly value: infer V } ? V : never

/** Who sends a command. */
export interface Who {
  readonly account: number
  readonly session: number
}

export const nobody: Who = { account: 0, session: 0 }

/** A state machine for tests, with one command to a batch and one batch to a transaction, a clock that is set by hand, and ids that are counted. */
export class Harness {
  readonly db: Sql
  readonly machine: ChatMachine
  readonly queries: ChatQueries
  nowMs = Date.UTC(2026, 0, 1)
  /** Everything that was applied so far. */
  readonly applied: Applied[] = []
  private batches = 0
  private ids = 0

  constructor(db: Sql, options: OpenChatOptions = {}) {
    this.db = db
    const { machine, queries } = openChat(db, options)
    // As in a cluster that has been up for a moment.
    db.exec(`UPDATE chat_state SET version = ${options.newestVersion ?? newestVersion}`)
    machine.reload()
    this.machine = machine
    this.queries = queries
  }

  newId(timeMs = this.nowMs): Uint8Array {
    this.ids += 1
    const random = new Uint8Array(10)
    new DataView(random.buffer).setUint32(6, this.ids)
    return makeUuidV7(timeMs, random)
  }

  /** A token's hash that no other session has. */
  newTokenHash(): Uint8Array {
    this.ids += 1
    const hash = new Uint8Array(32)
    new DataView(hash.buffer).setUint32(0, this.ids)
    return hash
  }

  command(who: Who, op: Op, id = this.newId(), fingerprint = 1): Command {
    return { id, fingerprint, account: who.account, session: who.session, op }
  }

  /** Applies commands as one batch. */
  apply(...commands: readonly Command[]): readonly Applied[] {
    this.batches += 1
    const batch = {
      origin: 1,
      incarnation: 1,
      number: this.batches,
      atMs: this.nowMs,
      commands,
    }
    this.db.exec('BEGIN')
    const applied = this.machine.applyBatch(batch, false)
    this.machine.flush()
    this.db.exec('COMMIT')
    if (applied === null) throw new Error('the batch was skipped')
    this.applied.push(...applied)
    return applied
  }

  /** Runs one command and returns what it came to. */
  run(who: Who, op: Op, id = this.newId(), fingerprint = 1): Result {
    const outcome = this.apply(this.command(who, op, id, fingerprint))[0]?.outcome.outcome
    if (outcome === undefined) throw new Error('no outcome')
    return outcome
  }

  /** Runs a command that must succeed. */
  do<C extends Case>(who: Who, op: Extract<Op, { readonly $case: C }>): Success<C> {
    const result = this.run(who, op)
    if (result.$case !== op.$case) throw new Error(`${op.$case}: ${JSON.stringify(result)}`)
    return result.value as Success<C>
  }

  /** Runs a command that must be rejected. */
  rejected(who: Who, op: Op, id = this.newId(), fingerprint = 1): ChatError {
    const result = this.run(who, op, id, fingerprint)
    if (result.$case !== 'rejected') throw new Error(`${op.$case} was not rejected`)
    return result.value
  }

  register(name: string): Who {
    const { account, session } = this.do(nobody, {
      $case: 'register',
      value: { name, passwordHash: `hash of ${name}`, device: 'test', tokenHash: this.newTokenHash() },
    })
    return { account: account?.id ?? 0, session }
  }

  logIn(account: number, passwordVersion = 1): Who {
    const { session } = this.do(nobody, {
      $case: 'logIn',
      value: { account, passwordVersion, device: 'test', tokenHash: this.newTokenHash() },
    })
    return { account, session }
  }

  send(who: Who, to: Target, text: string): Success<'sendMessage'> {
    return this.do(who, { $case: 'sendMessage', value: { id: noBytes, to, text } })
  }

  /** The events of the newest command, decoded. */
  lastEvents(): readonly Event[] {
    return this.applied.at(-1)?.events.map(({ bytes }) => Event.decode(bytes)) ?? []
  }
}

const noBytes = new Uint8Array(0)

/** The same database, which tells of each query that asks for many rows its text, and how many it got. */
export function tellingReads(db: Sql, told: (sql: string, rows: number) => void): Sql {
  return {
    exec: (sql) => db.exec(sql),
    prepare(sql) {
      const statement = db.prepare(sql)
      return {
        run: (...values) => statement.run(...values),
        get: (...values) => statement.get(...values),
        all(...values) {
          const rows = statement.all(...values)
          told(sql, rows.length)
          return rows
        },
      }
    },
  }
}

export function toAccount(name: string): Target {
  return { target: { $case: 'account', value: name } }
}

export function toRoom(name: string): Target {
  return { target: { $case: 'room', value: name } }
}

export function toConversation(id: number): Target {
  return { target: { $case: 'conversation', value: id } }
}
