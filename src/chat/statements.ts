import { assert } from '../base/assert.ts'
import type { Sql, SqlStatement, SqlValue } from './sql.ts'

/** Prepared statements by their text: each is prepared once. */
export class Statements {
  private readonly db: Sql
  private prepared = new Map<string, SqlStatement>()

  constructor(db: Sql) {
    this.db = db
  }

  of(sql: string): SqlStatement {
    const known = this.prepared.get(sql)
    if (known !== undefined) return known
    const statement = this.db.prepare(sql)
    this.prepared.set(sql, statement)
    return statement
  }

  exec(sql: string): void {
    this.db.exec(sql)
  }

  /** The database was swapped: statements are prepared anew. */
  forget(): void {
    this.prepared = new Map()
  }
}

export function integer(value: SqlValue | undefined): number {
  assert(typeof value === 'number', 'a column holds an integer', { type: typeof value })
  return value
}

export function string(value: SqlValue | undefined): string {
  assert(typeof value === 'string', 'a column holds a text', { type: typeof value })
  return value
}

export function blob(value: SqlValue | undefined): Uint8Array {
  assert(value instanceof Uint8Array, 'a column holds bytes', { type: typeof value })
  return value
}

export function boolean(value: SqlValue | undefined): boolean {
  return integer(value) !== 0
}
