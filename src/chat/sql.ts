export type SqlValue = null | number | bigint | string | Uint8Array

export type SqlRow = Record<string, SqlValue>

/** A prepared statement: the part of `node:sqlite` that the state machine uses. */
export interface SqlStatement {
  run(...values: SqlValue[]): { readonly changes: number | bigint }
  get(...values: SqlValue[]): SqlRow | undefined
  all(...values: SqlValue[]): SqlRow[]
}

/** The database that the state machine lives in: `DatabaseSync` of `node:sqlite` fits it. */
export interface Sql {
  exec(sql: string): void
  prepare(sql: string): SqlStatement
}
