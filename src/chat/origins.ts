import { integer, type Statements } from './statements.ts'

interface Origin {
  readonly incarnation: number
  readonly number: number
}

/** The newest batch of each replica: what makes a batch take effect once, and in order. */
export class Origins {
  private readonly sql: Statements
  private newest = new Map<number, Origin>()
  private readonly dirty = new Set<number>()

  constructor(sql: Statements) {
    this.sql = sql
  }

  /** Takes note of a batch when it is the next of its origin: the number after the last, or the first of a higher incarnation. False: it is to be skipped. */
  advance(replica: number, incarnation: number, number: number): boolean {
    const last = this.get(replica)
    const isNext =
      incarnation === last.incarnation
        ? number === last.number + 1
        : incarnation > last.incarnation && number === 1
    if (!isNext) return false
    this.newest.set(replica, { incarnation, number })
    this.dirty.add(replica)
    return true
  }

  flush(): void {
    for (const replica of this.dirty) {
      const { incarnation, number } = this.get(replica)
      this.sql
        .of(
          'INSERT INTO origin (replica, incarnation, number) VALUES (?, ?, ?) ON CONFLICT (replica) DO UPDATE SET incarnation = excluded.incarnation, number = excluded.number',
        )
        .run(replica, incarnation, number)
    }
    this.dirty.clear()
  }

  clear(): void {
    this.newest = new Map()
    this.dirty.clear()
  }

  private get(replica: number): Origin {
    const known = this.newest.get(replica)
    if (known !== undefined) return known
    const row = this.sql.of('SELECT incarnation, number FROM origin WHERE replica = ?').get(replica)
    const origin =
      row === undefined
        ? { incarnation: 0, number: 0 }
        : { incarnation: integer(row['incarnation']), number: integer(row['number']) }
    this.newest.set(replica, origin)
    return origin
  }
}
