import { tables } from './schema.ts'
import type { Sql, SqlRow, SqlValue } from './sql.ts'

/**
 * A digest of everything in the replicated state, one line for each table: its name, its number of rows and 64 bits over all their columns. The same on all replicas that have
 * applied as much. Reads everything, so it takes a while; not for secrets.
 */
export function digest(db: Sql): string {
  return tables.map(({ name, key }) => digestTable(db, name, key)).join('\n')
}

const rowsAtOnce = 1000

function digestTable(db: Sql, name: string, key: string): string {
  const columns = key.split(', ')
  const marks = columns.map(() => '?').join(', ')
  const first = db.prepare(`SELECT * FROM ${name} ORDER BY ${key} LIMIT ${rowsAtOnce}`)
  const after = `SELECT * FROM ${name} WHERE (${key}) > (${marks}) ORDER BY ${key} LIMIT ${rowsAtOnce}`
  const hash = new Hash()
  let count = 0
  let rows: SqlRow[] = first.all()
  while (rows.length > 0) {
    for (const row of rows) for (const column of Object.keys(row)) hash.value(row[column] ?? null)
    count += rows.length
    const last = rows.at(-1)
    rows =
      rows.length < rowsAtOnce
        ? []
        : db.prepare(after).all(...columns.map((column) => last?.[column] ?? null))
  }
  return `${name} ${count} ${hash.toString()}`
}

/** Two FNV-1a hashes of 32 bits with different starts, over units of 16 bits. */
class Hash {
  private a = 0x811c9dc5
  private b = 0xdeadbeef

  value(value: SqlValue): void {
    if (value === null) this.unit(1)
    else if (value instanceof Uint8Array) {
      this.unit(2)
      this.number(value.length)
      for (const byte of value) this.unit(byte)
    } else if (typeof value === 'string') {
      this.unit(3)
      this.number(value.length)
      for (let i = 0; i < value.length; i += 1) this.unit(value.charCodeAt(i))
    } else {
      this.unit(4)
      this.number(Number(value))
    }
  }

  toString(): string {
    return [this.a, this.b].map((part) => (part >>> 0).toString(16).padStart(8, '0')).join('')
  }

  private number(value: number): void {
    this.unit(value % 65_536)
    this.unit(Math.floor(value / 65_536) % 65_536)
    this.unit(Math.floor(value / 2 ** 32))
  }

  private unit(unit: number): void {
    this.a = Math.imul(this.a ^ unit, 0x01000193)
    this.b = Math.imul(this.b ^ unit, 0x01000197) ^ (this.b >>> 15)
  }
}
