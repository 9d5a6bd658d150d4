import { RowCache } from './row-cache.ts'
import { blob, integer, type Statements } from './statements.ts'

export interface SessionRow {
  readonly id: number
  readonly account: number
  readonly createdAtMs: number
  lastActiveAtMs: number
  readonly expiresAtMs: number
}

export class Sessions {
  private readonly sql: Statements
  private readonly cache: RowCache<SessionRow>

  constructor(sql: Statements) {
    this.sql = sql
    this.cache = new RowCache<SessionRow>({
      read: (id) => {
        const row = this.sql
          .of('SELECT account, created_at_ms, last_active_at_ms, expires_at_ms FROM session WHERE id = ?')
          .get(id)
        if (row === undefined) return null
        return {
          id,
          account: integer(row['account']),
          createdAtMs: integer(row['created_at_ms']),
          lastActiveAtMs: integer(row['last_active_at_ms']),
          expiresAtMs: integer(row['expires_at_ms']),
        }
      },
      write: (row) => {
        this.sql.of('UPDATE session SET last_active_at_ms = ? WHERE id = ?').run(row.lastActiveAtMs, row.id)
      },
    })
  }

  get(id: number): SessionRow | null {
    return this.cache.get(id)
  }

  insert(row: SessionRow, tokenHash: Uint8Array, device: string): void {
    this.sql
      .of(
        `INSERT INTO session (id, account, token_hash, device, created_at_ms, last_active_at_ms, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(row.id, row.account, tokenHash, device, row.createdAtMs, row.lastActiveAtMs, row.expiresAtMs)
    this.cache.add(row.id, row)
  }

  delete(id: number): void {
    this.sql.of('DELETE FROM session WHERE id = ?').run(id)
    this.cache.remove(id)
  }

  changed(row: SessionRow): void {
    this.cache.changed(row)
  }

  tokenHash(id: number): Uint8Array | null {
    const row = this.sql.of('SELECT token_hash FROM session WHERE id = ?').get(id)
    return row === undefined ? null : blob(row['token_hash'])
  }

  hasTokenHash(tokenHash: Uint8Array): boolean {
    return this.sql.of('SELECT 1 FROM session WHERE token_hash = ?').get(tokenHash) !== undefined
  }

  /** Oldest activity first. */
  ofAccount(account: number): readonly number[] {
    return this.sql
      .of('SELECT id FROM session WHERE account = ? ORDER BY last_active_at_ms, id')
      .all(account)
      .map((row) => integer(row['id']))
  }

  /** Of those that expired, or were last active before `idleSinceMs`: at most `limit`. */
  due(nowMs: number, idleSinceMs: number, limit: number): readonly number[] {
    return this.sql
      .of(
        `SELECT id FROM (SELECT id FROM session WHERE expires_at_ms <= ? UNION SELECT id FROM session WHERE last_active_at_ms < ?) ORDER BY id LIMIT ?`,
      )
      .all(nowMs, idleSinceMs, limit)
      .map((row) => integer(row['id']))
  }

  flush(): void {
    this.cache.flush()
  }

  trim(): void {
    this.cache.trim()
  }

  clear(): void {
    this.cache.clear()
  }
}
