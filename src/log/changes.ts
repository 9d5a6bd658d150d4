import type { ChangeAnswer, ChangeRefusal, Entry, Index, Term } from '../raft/types.ts'

export type ChangeResult =
  { readonly ok: true; readonly index: Index } | { readonly ok: false; readonly refused: ChangeRefusal }

interface Appended {
  readonly index: Index
  readonly term: Term
  readonly resolve: (result: ChangeResult) => void
}

/** The changes of the replica set that were asked for here: each waits for the core's answer, and then until its entry is applied. */
export class Changes {
  private lastId = 0
  /** Those that the core has not answered, by their number. */
  private readonly asked = new Map<number, (result: ChangeResult) => void>()
  private appended: Appended[] = []

  /** @param ask hands the change with this number to the core. */
  add(ask: (id: number) => void): Promise<ChangeResult> {
    this.lastId += 1
    const id = this.lastId
    return new Promise((resolve) => {
      this.asked.set(id, resolve)
      ask(id)
    })
  }

  answered({ id, index, term, refused }: ChangeAnswer): void {
    const resolve = this.asked.get(id)
    if (resolve === undefined) return
    this.asked.delete(id)
    if (index === null) resolve({ ok: false, refused: refused ?? 'notLeader' })
    else this.appended.push({ index, term, resolve })
  }

  /** Everything up to `appliedIndex` is applied. Entries that `entryAt` does not know went into a copy of the state. */
  applied(appliedIndex: Index, entryAt: (index: Index) => Entry | undefined): void {
    if (this.appended.length === 0) return
    const applied = this.appended.filter(({ index }) => index <= appliedIndex)
    this.appended = this.appended.filter(({ index }) => index > appliedIndex)
    for (const { index, term, resolve } of applied) resolve(settled(index, term, entryAt(index)))
  }

  end(): void {
    const waiting = [...this.asked.values(), ...this.appended.map(({ resolve }) => resolve)]
    this.asked.clear()
    this.appended = []
    for (const resolve of waiting) resolve({ ok: false, refused: 'notLeader' })
  }
}

function settled(index: Index, term: Term, entry: Entry | undefined): ChangeResult {
  // It went into a copy of the state, or did not.
  if (entry === undefined) return { ok: false, refused: 'unanswered' }
  // Another leader may have put something else in its place.
  return entry.term === term ? { ok: true, index } : { ok: false, refused: 'notLeader' }
}
