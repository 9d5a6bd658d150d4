/** Where a {@link RowCache} gets its rows from. */
export interface RowSource<Row> {
  read(key: number): Row | null
  /** Writes what may have changed in a row that exists. */
  write(row: Row): void
}

/**
 * Rows of one table in memory, by a number: read on first use, changed in place, and written back by `flush`. It holds nothing that could not be dropped after a flush, so that
 * the state is the database's alone.
 */
export class RowCache<Row extends object> {
  private readonly source: RowSource<Row>
  private readonly maxRows: number
  private rows = new Map<number, Row>()
  private dirty = new Set<Row>()

  constructor(source: RowSource<Row>, maxRows = 50_000) {
    this.source = source
    this.maxRows = maxRows
  }

  get(key: number): Row | null {
    const known = this.rows.get(key)
    if (known !== undefined) return known
    const row = this.source.read(key)
    if (row !== null) this.rows.set(key, row)
    return row
  }

  /** A row that has just been inserted. */
  add(key: number, row: Row): void {
    this.rows.set(key, row)
  }

  changed(row: Row): void {
    this.dirty.add(row)
  }

  /** A row that has just been deleted from the table. */
  remove(key: number): void {
    const row = this.rows.get(key)
    if (row === undefined) return
    this.rows.delete(key)
    this.dirty.delete(row)
  }

  flush(): void {
    if (this.dirty.size === 0) return
    for (const row of this.dirty) this.source.write(row)
    this.dirty.clear()
  }

  /** Keeps memory bounded. Only after a flush, and while nobody holds a row. */
  trim(): void {
    if (this.rows.size > this.maxRows) this.rows = new Map()
  }

  /** Forgets everything, what was not written too. */
  clear(): void {
    this.rows = new Map()
    this.dirty = new Set()
  }
}
