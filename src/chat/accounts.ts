import type { Account } from '../gen/parley/v1/model.ts'
import { RowCache } from './row-cache.ts'
import type { SqlRow } from './sql.ts'
import { boolean, integer, string, type Statements } from './statements.ts'

export interface AccountRow {
  readonly id: number
  readonly name: string
  deleted: boolean
  passwordHash: string
  passwordVersion: number
  admin: boolean
  readonly createdAtMs: number
  connections: number
  rateUntilUs: number
}

/** Names are unique without regard to case. Only ASCII letters occur in them. */
export function nameKey(name: string): string {
  return name.toLowerCase()
}

export function viewAccount(row: AccountRow): Account {
  return {
    id: row.id,
    name: row.name,
    online: row.connections > 0,
    deleted: row.deleted,
    admin: row.admin,
    createdAtMs: row.createdAtMs,
  }
}

export function accountFromRow(row: SqlRow): AccountRow {
  return {
    id: integer(row['id']),
    name: string(row['name']),
    deleted: row['name_key'] === null,
    passwordHash: string(row['password_hash']),
    passwordVersion: integer(row['password_version']),
    admin: boolean(row['admin']),
    createdAtMs: integer(row['created_at_ms']),
    connections: integer(row['connections']),
    rateUntilUs: integer(row['rate_until_us']),
  }
}

export class Accounts {
  private readonly sql: Statements
  private readonly cache: RowCache<AccountRow>
  private idsByKey = new Map<string, number>()

  constructor(sql: Statements) {
    this.sql = sql
    this.cache = new RowCache<AccountRow>({
      read: (id) => {
        const row = this.sql.of('SELECT * FROM account WHERE id = ?').get(id)
        return row === undefined ? null : accountFromRow(row)
      },
      write: (row) => {
        this.sql
          .of(
            `UPDATE account SET name_key = ?, password_hash = ?, password_version = ?, admin = ?, connections = ?, rate_until_us = ? WHERE id = ?`,
          )
          .run(
            row.deleted ? null : nameKey(row.name),
            row.passwordHash,
            row.passwordVersion,
            Number(row.admin),
            row.connections,
            row.rateUntilUs,
            row.id,
          )
      },
    })
  }

  get(id: number): AccountRow | null {
    return this.cache.get(id)
  }

  /** Deleted accounts have no name any more. */
  byName(name: string): AccountRow | null {
    const key = nameKey(name)
    let id = this.idsByKey.get(key)
    if (id === undefined) {
      const row = this.sql.of('SELECT id FROM account WHERE name_key = ?').get(key)
      if (row === undefined) return null
      id = integer(row['id'])
      this.idsByKey.set(key, id)
    }
    const account = this.cache.get(id)
    return account === null || account.deleted ? null : account
  }

  insert(row: AccountRow): void {
    this.sql
      .of(
        `INSERT INTO account (id, name, name_key, password_hash, password_version, admin, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        row.id,
        row.name,
        nameKey(row.name),
        row.passwordHash,
        row.passwordVersion,
        Number(row.admin),
        row.createdAtMs,
      )
    this.cache.add(row.id, row)
    // Names that are not taken are not in the cache, so nothing there becomes wrong.
  }

  changed(row: AccountRow): void {
    this.cache.changed(row)
  }

  /** Keeps a tombstone: the name is shown with its messages, and is free again. */
  bury(row: AccountRow): void {
    row.deleted = true
    row.admin = false
    row.passwordHash = ''
    row.passwordVersion += 1
    this.idsByKey.delete(nameKey(row.name))
    // At once, so that the name can be given to another row.
    this.changed(row)
    this.cache.flush()
  }

  /** The oldest account that is not deleted. */
  oldest(): AccountRow | null {
    const row = this.sql.of('SELECT id FROM account WHERE name_key IS NOT NULL ORDER BY id LIMIT 1').get()
    return row === undefined ? null : this.get(integer(row['id']))
  }

  hasAdmin(): boolean {
    return this.sql.of('SELECT 1 FROM account WHERE admin = 1 LIMIT 1').get() !== undefined
  }

  flush(): void {
    this.cache.flush()
  }

  trim(): void {
    this.cache.trim()
    if (this.idsByKey.size > 50_000) this.idsByKey = new Map()
  }

  clear(): void {
    this.cache.clear()
    this.idsByKey = new Map()
  }
}
