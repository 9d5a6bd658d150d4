import { ByteWriter } from '../base/bytes.ts'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import { encodeConfiguration } from '../raft/codec.ts'
import type { Configuration, Entry, Index, Message, Term } from '../raft/types.ts'
import { hashBytes } from './trace.ts'

/** A broken rule, and how it showed. */
export interface Violation {
  readonly rule: string
  readonly message: string
}

/** What must hold at every moment, whatever the faults. Told of what the replicas do; keeps the first violation. */
export interface Invariants {
  readonly violation: Violation | null
  fail(rule: string, message: string): void
  /** Election safety: at most one leader in a term (Raft §5.2). */
  leads(replica: ReplicaId, term: Term): void
  /** Calls back whenever somebody is first seen to lead in a term. */
  onLeader(listener: (replica: ReplicaId) => void): void
  /**
   * One vote a term, log matching, leader completeness, what leaders may commit and when they may change the replica set, and that what was acknowledged stays, by what replicas
   * send (Raft §5.2 to §5.4, dissertation §4.1 with Ongaro's correction of 2015).
   *
   * @param voters those that the sender knows.
   */
  sent(message: Message, voters: () => Voters): void
  /** State-machine safety: every replica applies the same at each index, and nothing twice or out of turn (Raft §5.4.3). */
  applied(
    by: { readonly replica: ReplicaId; readonly process: string },
    index: Index,
    data: Uint8Array | null,
    previous: Index,
  ): void
  /** What is named is the same wherever it is seen. */
  same(rule: string, name: string, value: string, process: string): void
  /** The commit index of a process never goes back. */
  commit(process: string, index: Index): void
  /** The state of a process is the one at `index` now: it started, or took over a snapshot. */
  restored(process: string, index: Index): void
  readonly newestApplied: Index
  /** Where two replicas have applied something different; null when what both have is the same. */
  parting(a: ReplicaId, b: ReplicaId): Index | null
  /** The highest index that anybody took for committed. */
  readonly newestCommit: Index
  /** In how many terms somebody led. */
  readonly terms: number
}

export interface Voters {
  readonly ids: readonly ReplicaId[]
  /** How many of them must have an entry before it is committed. */
  readonly quorum: number
}

/** So many entries behind the newest applied one are remembered. */
const remembered = 20_000

/** What was applied at each index. */
interface AppliedHistory {
  newest: Index
  readonly hashes: Map<Index, { readonly hash: number; readonly process: string }>
}

/**
 * @param histories `one`: all replicas have the same. `each`: what the cluster rests on is broken, and sides that went on without each other have histories of their own: then what
 * was applied, and a leader's log, must agree with what the same replica has applied in its whole life, and nothing can be said of what others have committed.
 * @param begin the index that the cluster begins behind: more than 0 when it goes on from a backup.
 */
export function createInvariants(histories: 'one' | 'each', begin: Index = 0): Invariants {
  let violation: Violation | null = null
  const leaderListeners: ((replica: ReplicaId) => void)[] = []
  const leaders = new Map<Term, ReplicaId>()
  /** What is known of the entry of a term at an index: its content and the term of the entry before. */
  const entries = new Map<Index, Map<Term, { readonly hash: number; readonly prevTerm: Term }>>()
  const committedTerms = new Map<Index, { readonly term: Term; readonly by: Term }>()
  const applied = new Map<ReplicaId, AppliedHistory>()
  const seen = new Map<string, { readonly value: string; readonly process: string }>()
  const commits = new Map<string, Index>()
  /** Whom each replica voted for, by term. */
  const votes = new Map<ReplicaId, Map<Term, ReplicaId>>()
  /** The highest entry that each replica acknowledged in the newest term in which it did. */
  const acknowledged = new Map<ReplicaId, { term: Term; index: Index }>()
  /** How far each replica has acknowledged the log of the leader of a term, and the commit index and the voters when that leader last told of another one. */
  const terms = new Map<
    Term,
    { readonly acknowledged: Map<ReplicaId, Index>; told: { commit: Index; voters: Voters } | null }
  >()
  /** The entries with which leaders opened their terms. */
  const openings = new Map<Term, Index>()
  /** Which configurations the leader of each term has sent. */
  const configurations = new Map<Term, Set<Index>>()
  /** The highest commit index that a leader has told of. */
  let newestCommit: Index = 0
  let newestApplied: Index = begin

  function historyOf(replica: ReplicaId): AppliedHistory {
    const key = histories === 'one' ? 0 : replica
    let history = applied.get(key)
    if (history === undefined) {
      history = { newest: begin, hashes: new Map() }
      applied.set(key, history)
    }
    return history
  }

  function fail(rule: string, message: string): void {
    violation ??= { rule, message }
  }

  function leads(replica: ReplicaId, term: Term): void {
    const before = leaders.get(term)
    if (before === undefined) {
      leaders.set(term, replica)
      for (const listener of leaderListeners) listener(replica)
    } else if (before !== replica)
      fail('election safety', `${replicaName(before)} and ${replicaName(replica)} both lead in term ${term}`)
  }

  /** The log of a leader holds every entry that was committed before its term. */
  function mustHold(leader: ReplicaId, leaderTerm: Term, index: Index, term: Term): void {
    if (histories === 'each') return
    const committed = committedTerms.get(index)
    if (committed === undefined || committed.term === term || committed.by > leaderTerm) return
    fail(
      'leader completeness',
      `${replicaName(leader)} leads in term ${leaderTerm} with an entry of term ${term} at ${index}, where one of term ${committed.term} was committed in term ${committed.by}`,
    )
  }

  /** What a leader sends is what it has applied itself. */
  function mustHoldOwn(leader: ReplicaId, entry: Entry): void {
    const known = historyOf(leader).hashes.get(entry.index)
    if (known !== undefined && known.hash !== (entry.kind === 'data' ? hashBytes(entry.data) : 0))
      fail(
        'leader completeness',
        `${replicaName(leader)} leads and sends another entry at ${entry.index} than ${known.process} has applied`,
      )
  }

  function voted({ from, to, term }: Message): void {
    let own = votes.get(from)
    if (own === undefined) {
      own = new Map()
      votes.set(from, own)
    }
    const before = own.get(term)
    if (before === undefined) own.set(term, to)
    else if (before !== to)
      fail(
        'one vote a term',
        `${replicaName(from)} votes for ${replicaName(to)} in term ${term}, and voted for ${replicaName(before)}`,
      )
  }

  /** What was not known to be committed becomes so by an entry of the leader's own term, which a quorum has only if it was sent. */
  function commitsTo({ from, term }: Message, commit: Index, voters: () => Voters): void {
    countsRightly(from, term, commit, voters)
    if (commit <= Math.max(newestCommit, newestApplied)) return
    newestCommit = commit
    const known = entries.get(commit)
    if (known === undefined || known.has(term) || voters().ids.length < 2) return
    fail(
      'commit by counting',
      `${replicaName(from)}, which leads in term ${term}, takes entry ${commit} for committed, and that is of term ${[...known.keys()].join(' or ')}`,
    )
  }

  function inTerm(term: Term): NonNullable<ReturnType<(typeof terms)['get']>> {
    let known = terms.get(term)
    if (known === undefined) {
      known = { acknowledged: new Map(), told: null }
      terms.set(term, known)
    }
    return known
  }

  function acknowledges({ from, term }: Message, index: Index): void {
    const known = inTerm(term).acknowledged
    known.set(from, Math.max(known.get(from) ?? 0, index))
  }

  /** A leader takes for committed only what a quorum has acknowledged to it in its own term. */
  function countsRightly(from: ReplicaId, term: Term, commit: Index, voters: () => Voters): void {
    const known = inTerm(term)
    const { acknowledged: by, told } = known
    if (told !== null && commit <= told.commit) return
    const now = voters()
    known.told = { commit, voters: now }
    // What it had committed when its term began.
    if (told === null) return
    // Right after it was counted the replica set may have changed.
    for (const { ids, quorum } of [now, told.voters])
      if (ids.filter((id) => id === from || (by.get(id) ?? 0) >= commit).length >= quorum) return
    fail(
      'commit by a quorum',
      `${replicaName(from)} takes entry ${commit} for committed in term ${term}, and was told of it only by ${[...by.keys()].filter((id) => (by.get(id) ?? 0) >= commit).join(', ')}`,
    )
  }

  /** Whoever has acknowledged an entry to a leader holds it as long as that one leads. */
  function keeps(from: ReplicaId, term: Term, lastIndex: Index, acknowledges: Index): void {
    const known = acknowledged.get(from)
    if (known === undefined || known.term < term) {
      acknowledged.set(from, { term, index: acknowledges })
      return
    }
    if (known.term > term) return
    if (lastIndex < known.index)
      fail(
        'what was acknowledged stays',
        `the log of ${replicaName(from)} ends at ${lastIndex}, after it has acknowledged entry ${known.index} in term ${term}`,
      )
    known.index = Math.max(known.index, acknowledges)
  }

  /** A leader changes the replica set only after its opening entry, and the change before, are committed. */
  function changes(term: Term, commit: Index, entry: Entry & { readonly kind: 'configuration' }): void {
    if (entry.configuration.faultModel !== 'majority') return
    let sent = configurations.get(term)
    if (sent === undefined) {
      sent = new Set()
      configurations.set(term, sent)
    }
    const isNew = !sent.has(entry.index)
    sent.add(entry.index)
    if (entry.term !== term || !isNew) return
    const opening = openings.get(term)
    if (opening !== undefined && commit < opening)
      fail(
        'changes after the opening entry',
        `the leader of term ${term} changes the replica set at ${entry.index}, and has not committed entry ${opening}`,
      )
    for (const index of sent)
      if (index < entry.index && index > commit)
        fail(
          'one change at a time',
          `the leader of term ${term} changes the replica set at ${entry.index}, and has not committed the change at ${index}`,
        )
  }

  return {
    get violation() {
      return violation
    },
    get newestApplied() {
      return newestApplied
    },
    parting(a, b) {
      const other = historyOf(b).hashes
      for (const [index, { hash }] of historyOf(a).hashes)
        if ((other.get(index)?.hash ?? hash) !== hash) return index
      return null
    },
    get newestCommit() {
      return Math.max(newestCommit, newestApplied, ...commits.values())
    },
    get terms() {
      return leaders.size
    },
    fail,
    leads,
    onLeader: (listener) => leaderListeners.push(listener),
    sent(message, voters) {
      if (message.kind === 'voteReply' && message.granted) voted(message)
      if (message.kind === 'heartbeatReply') keeps(message.from, message.term, message.lastIndex, 0)
      if (message.kind === 'appendReply' && message.accepted) acknowledges(message, message.index)
      if (message.kind === 'snapshotReply') acknowledges(message, message.index)
      if (message.kind === 'appendReply')
        keeps(message.from, message.term, message.lastIndex, message.accepted ? message.index : 0)
      if (message.kind === 'heartbeat') {
        leads(message.from, message.term)
        commitsTo(message, message.commit, voters)
      }
      if (message.kind !== 'append') return
      leads(message.from, message.term)
      let { prevTerm } = message
      let index = message.prevIndex
      if (index > 0) mustHold(message.from, message.term, index, prevTerm)
      for (const entry of message.entries) {
        if (entry.index !== index + 1)
          return fail('contiguous appends', `an append goes from entry ${index} to entry ${entry.index}`)
        if (entry.term < prevTerm || entry.term > message.term)
          return fail(
            'log terms',
            `an append of term ${message.term} has an entry of term ${entry.term} after one of term ${prevTerm}`,
          )
        index = entry.index
        const hash = hashEntry(entry)
        let terms = entries.get(index)
        if (terms === undefined) {
          terms = new Map()
          entries.set(index, terms)
        }
        const known = terms.get(entry.term)
        if (known === undefined) terms.set(entry.term, { hash, prevTerm })
        else if (known.hash !== hash || known.prevTerm !== prevTerm)
          fail(
            'log matching',
            `two logs have an entry of term ${entry.term} at ${index} and differ up to there`,
          )
        mustHold(message.from, message.term, index, entry.term)
        if (histories === 'each') mustHoldOwn(message.from, entry)
        if (entry.kind === 'noop') openings.set(entry.term, index)
        if (entry.kind === 'configuration') changes(message.term, message.commit, entry)
        if (index <= message.commit && !committedTerms.has(index)) {
          committedTerms.set(index, { term: entry.term, by: message.term })
          if (index % 1000 === 0) forget(index)
        }
        prevTerm = entry.term
      }
      commitsTo(message, message.commit, voters)
    },
    applied({ replica, process }, index, data, previous) {
      if (index !== previous + 1)
        fail('applied in order', `${process} applies entry ${index} after entry ${previous}`)
      const hash = data === null ? 0 : hashBytes(data)
      const history = historyOf(replica)
      const known = history.hashes.get(index)
      if (known === undefined) {
        history.hashes.set(index, { hash, process })
        if (histories === 'one' && index <= history.newest && index > history.newest - remembered)
          fail('state-machine safety', `${process} applies entry ${index}, which is unknown`)
      } else if (known.hash !== hash)
        fail('state-machine safety', `${process} and ${known.process} apply different entries at ${index}`)
      history.newest = Math.max(history.newest, index)
      newestApplied = Math.max(newestApplied, index)
    },
    same(rule, name, value, process) {
      const known = seen.get(name)
      if (known === undefined) seen.set(name, { value, process })
      else if (known.value !== value)
        fail(rule, `${process} and ${known.process} differ at ${name}:\n${value}\n${known.value}`)
    },
    commit(process, index) {
      const before = commits.get(process) ?? 0
      if (index < before)
        fail('commit index', `the commit index of ${process} goes back from ${before} to ${index}`)
      commits.set(process, index)
    },
    restored(process, index) {
      if (index > newestApplied)
        fail(
          'restored state',
          `${process} has a state at ${index}; nobody has applied more than ${newestApplied}`,
        )
    },
  }

  function forget(index: Index): void {
    const last = Math.min(index, newestApplied) - remembered
    const hashes = [...applied.values()].map((history) => history.hashes)
    for (const map of [entries, committedTerms, ...hashes])
      for (const key of map.keys()) {
        if (key >= last) break
        map.delete(key)
      }
  }
}

function hashEntry(entry: Entry): number {
  switch (entry.kind) {
    case 'data':
      return hashBytes(entry.data)
    case 'noop':
      return 1
    case 'configuration':
      return hashBytes(bytesOf(entry.configuration))
    default:
      return 0
  }
}

function bytesOf(configuration: Configuration): Uint8Array {
  const writer = new ByteWriter()
  encodeConfiguration(writer, configuration)
  return writer.finish()
}
