import type { SqlValue } from './sql.ts'
import type { Statements } from './statements.ts'

/** Inserting so many rows at once takes half of the time, and with more there is hardly a difference. */
const rowsAtOnce = 16

/** Rows of one table that wait to be inserted, many with one statement. Before `flush`, nothing may be looked for in the table. */
export class InsertQueue {
  private readonly sql: Statements
  private readonly columns: number
  private readonly insertOne: string
  private readonly insertMany: string
  /** One row after another. */
  private waiting: SqlValue[] = []

  constructor(sql: Statements, table: string, columns: readonly string[]) {
    this.sql = sql
    this.columns = columns.length
    const row = `(${columns.map(() => '?').join(', ')})`
    // With FAIL SQLite need not be able to take back half a statement, for which it would copy every page before it changes it: who fails here rolls back the transaction.
    this.insertOne = `INSERT OR FAIL INTO ${table} (${columns.join(', ')}) VALUES ${row}`
    this.insertMany = this.insertOne + `, ${row}`.repeat(rowsAtOnce - 1)
  }

  add(...row: readonly SqlValue[]): void {
    const { waiting } = this
    waiting.push(...row)
    if (waiting.length < rowsAtOnce * this.columns) return
    this.waiting = []
    this.sql.of(this.insertMany).run(...waiting)
  }

  flush(): void {
    const { waiting } = this
    if (waiting.length === 0) return
    this.waiting = []
    for (let i = 0; i < waiting.length; i += this.columns)
      this.sql.of(this.insertOne).run(...waiting.slice(i, i + this.columns))
  }

  /** Forgets what waits. */
  clear(): void {
    this.waiting = []
  }
}
