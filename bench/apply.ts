// What applying costs: microseconds of CPU for one message that is sent, in batches and transactions of 500, in a database on disk.
// `node bench/apply.ts [MESSAGES]`
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { makeUuidV7 } from '../src/base/ids.ts'
import { seededRandom } from '../src/base/random.ts'
import { openChat } from '../src/chat/machine.ts'
import { CommandBatch, type Command } from '../src/gen/parley/v1/command.ts'
import type { Target } from '../src/gen/parley/v1/model.ts'

const messages = Number(process.argv[2] ?? 200_000)
const batchSize = 500
const accounts = 100
const text = 'x'.repeat(256)

const targets: Readonly<Record<string, (sender: number) => Target>> = {
  'to #everyone': () => ({ target: { $case: 'conversation', value: 1 } }),
  'to 50 direct conversations, by id': (sender) => ({
    target: { $case: 'conversation', value: 2 + (sender >> 1) },
  }),
  'to 50 direct conversations, by name': (sender) => ({
    target: { $case: 'account', value: `account-${sender % 2 === 0 ? sender + 1 : sender - 1}` },
  }),
}

for (const [name, target] of Object.entries(targets)) run(name, target)

function run(name: string, target: (sender: number) => Target): void {
  const folder = mkdtempSync(join(tmpdir(), 'parley-bench-'))
  const db = new DatabaseSync(join(folder, 'state.db'))
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536')
  const { machine } = openChat(db)
  const random = seededRandom(1)
  const startMs = Date.now()
  let number = 0
  const id = (index: number): Uint8Array => {
    const bytes = new Uint8Array(10)
    for (let i = 0; i < 10; i += 1) bytes[i] = random.below(256)
    return makeUuidV7(startMs + Math.floor(index / 25), bytes)
  }
  const encode = (commands: readonly Command[]): Uint8Array => {
    number += 1
    return CommandBatch.encode({
      origin: 1,
      incarnation: 1,
      number,
      atMs: startMs + number,
      commands,
    }).finish()
  }
  const apply = (data: Uint8Array): void => {
    db.exec('BEGIN')
    machine.applyBatch(CommandBatch.decode(data), false)
    machine.flush()
    db.exec('COMMIT')
  }
  const send = (sender: number, index: number, to: Target): Command => ({
    id: id(index),
    fingerprint: 7,
    account: sender + 1,
    session: sender + 1,
    op: { $case: 'sendMessage', value: { id: new Uint8Array(0), to, text } },
  })
  for (let i = 0; i < accounts; i += 1) {
    const tokenHash = new Uint8Array(32)
    tokenHash[0] = i
    const value = { name: `account-${i}`, passwordHash: 'hash', device: 'bench', tokenHash }
    apply(encode([{ id: id(0), fingerprint: 1, account: 0, session: 0, op: { $case: 'register', value } }]))
  }
  for (let i = 0; i < accounts; i += 2)
    apply(encode([send(i, 0, { target: { $case: 'account', value: `account-${i + 1}` } })]))

  const entries: Uint8Array[] = []
  for (let i = 0; i < messages; i += batchSize) {
    const commands = Array.from({ length: Math.min(batchSize, messages - i) }, (_, j) => {
      const sender = random.below(accounts)
      return send(sender, i + j, target(sender))
    })
    entries.push(encode(commands))
  }
  const decodeStart = process.cpuUsage()
  for (const entry of entries) CommandBatch.decode(entry)
  const decoding = process.cpuUsage(decodeStart)
  const start = process.cpuUsage()
  for (const entry of entries) apply(entry)
  const used = process.cpuUsage(start)
  const decoded = (decoding.user + decoding.system) / messages
  console.log(
    `${name}: ${((used.user + used.system) / messages).toFixed(2)} us (user ${(used.user / messages).toFixed(2)}, system ${(used.system / messages).toFixed(2)}); of it decoding ${decoded.toFixed(2)}`,
  )
  db.close()
  rmSync(folder, { recursive: true })
}
