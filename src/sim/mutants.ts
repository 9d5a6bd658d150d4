import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FaultModel } from '../raft/types.ts'
import type { FaultKind } from './faults.ts'
import type { WorkloadName } from './simulate.ts'

/** A broken variant of the real code: what stands in a file is replaced while it is loaded, in a process of the simulator only. */
export interface Mutant {
  readonly name: string
  /** Below `src/`. */
  readonly file: string
  /** Exactly once in the file. */
  readonly find: string
  readonly replace: string
  readonly workload: WorkloadName
  /** Default `majority`. */
  readonly faultModel?: FaultModel
  /** More goes wrong than the model survives. */
  readonly beyond?: true
  /** Only these faults, where others would hide it for long. Default: all. */
  readonly kinds?: readonly FaultKind[]
}

const ledger = 'ledger'
const chat = 'chat'
const life = 'life'

export const mutants: readonly Mutant[] = [
  {
    name: 'forget the vote at restart',
    file: 'raft/core.ts',
    find: 'vote: hardState.vote,\n      commitIndex: appliedIndex,',
    replace: 'vote: 0,\n      commitIndex: appliedIndex,',
    workload: ledger,
    kinds: ['wedge', 'storm'],
  },
  {
    name: 'vote for anybody who asks',
    file: 'raft/core.ts',
    find: 'const isFree = state.vote === message.from || (state.vote === 0 && this.leader === 0)',
    replace: 'const isFree = true',
    workload: ledger,
  },
  {
    name: 'vote before the vote is on disk',
    file: 'raft/core.ts',
    find: "state.sendAfterWrite(message.from, { kind: 'voteReply', granted })",
    replace: "state.send(message.from, { kind: 'voteReply', granted })",
    workload: ledger,
  },
  {
    name: 'vote for a shorter log of the same term',
    file: 'raft/core.ts',
    find: 'return message.lastTerm > lastTerm || (message.lastTerm === lastTerm && message.lastIndex >= lastIndex)',
    replace: 'return message.lastTerm >= lastTerm',
    workload: ledger,
  },
  {
    name: 'compare index before term in votes',
    file: 'raft/core.ts',
    find: 'return message.lastTerm > lastTerm || (message.lastTerm === lastTerm && message.lastIndex >= lastIndex)',
    replace:
      'return message.lastIndex > lastIndex || (message.lastIndex === lastIndex && message.lastTerm >= lastTerm)',
    workload: ledger,
  },
  {
    name: 'win an election with one vote too few',
    file: 'raft/quorum.ts',
    find: 'granted >= majorityOf(voters)) return',
    replace: 'granted >= majorityOf(voters) - 1) return',
    workload: ledger,
  },
  {
    name: 'commit with one replica too few',
    file: 'raft/quorum.ts',
    find: 'return numbers[majorityOf(voters) - 1] ?? 0',
    replace: 'return numbers[Math.max(0, majorityOf(voters) - 2)] ?? 0',
    workload: ledger,
  },
  {
    name: "commit an old term's entry by counting",
    file: 'raft/leadership.ts',
    find: 'if (index > state.commitIndex && !isEarly && state.log.termAt(index) === state.term) {',
    replace: 'if (index > state.commitIndex && !isEarly) {',
    workload: ledger,
  },
  {
    name: "count the leader's own entries before they are on disk",
    file: 'raft/leadership.ts',
    find: 'return id === this.state.self ? this.state.persistedIndex',
    replace: 'return id === this.state.self ? this.state.log.lastIndex',
    workload: ledger,
  },
  {
    name: 'acknowledge an append before it is on disk',
    file: 'raft/core.ts',
    find: "this.state.sendAfterWrite(this.leader, {\n      kind: 'appendReply',",
    replace: "this.state.send(this.leader, {\n      kind: 'appendReply',",
    workload: ledger,
  },
  {
    name: 'a stale append cuts what was acknowledged',
    file: 'raft/core.ts',
    find: 'message.entries.findIndex(({ index, term }) => !this.matches(index, term))',
    replace: 'message.entries.findIndex(({ index }) => index > state.commitIndex)',
    workload: ledger,
  },
  {
    name: 'append without looking at the entry before',
    file: 'raft/core.ts',
    find: 'if (!this.matches(message.prevIndex, message.prevTerm)) {',
    replace: 'if (message.prevIndex > state.log.lastIndex) {',
    workload: ledger,
  },
  {
    name: 'believe a heartbeat about entries that may differ',
    file: 'raft/core.ts',
    find: 'this.hearLeader(message.from)\n        state.commit(Math.min(message.commit, this.verifiedIndex))',
    replace:
      'this.hearLeader(message.from)\n        state.commit(Math.min(message.commit, state.log.lastIndex))',
    workload: ledger,
  },
  {
    name: 'serve a read without asking a quorum',
    file: 'raft/leadership.ts',
    find: 'this.reads.add({ from, id })',
    replace: 'this.answerRead(from, id, this.state.commitIndex)',
    workload: ledger,
  },
  {
    name: 'serve a read before the term is opened',
    file: 'raft/leadership.ts',
    find: 'if (this.opened) this.reads.begin(this.round, state.commitIndex)',
    replace: 'this.reads.begin(this.round, state.commitIndex)',
    workload: ledger,
  },
  {
    name: 'confirm reads by a round that began before them',
    kinds: ['regicide', 'isolate', 'stall'],
    file: 'raft/reads.ts',
    find: 'if (confirmed === null || round < confirmed.round) return null',
    replace: 'if (confirmed === null || round < confirmed.round - 1) return null',
    workload: ledger,
  },
  {
    name: 'let a read join a round that is under way',
    file: 'log/reads.ts',
    find: '    this.waiting.push(read)\n  }',
    replace:
      '    if (this.round === null) this.waiting.push(read)\n    else this.round = { ...this.round, reads: [...this.round.reads, read] }\n  }',
    workload: ledger,
  },
  {
    name: 'answer with the quorum of reads one short',
    file: 'raft/leadership.ts',
    find: 'id === state.self ? this.round : (this.progress.get(id)?.answeredRound ?? 0),',
    replace: 'id === state.self || (this.progress.get(id)?.answeredRound ?? 0) > 0 ? this.round : 0,',
    workload: ledger,
  },
  {
    name: "change the replica set before the term's opening entry",
    file: 'raft/leadership.ts',
    find: "if (!this.opened) return refusedChange('termNotOpened')",
    replace: '',
    workload: ledger,
    kinds: ['membership', 'isolate', 'partition', 'crash', 'stall', 'transfer'],
  },
  {
    name: 'two changes of the replica set at once',
    file: 'raft/leadership.ts',
    find: "if (configurations.currentIndex > state.commitIndex) return refusedChange('changeInProgress')",
    replace: '',
    workload: ledger,
  },
  {
    name: 'a change that was cut from the log stays in force',
    file: 'raft/state.ts',
    find: 'this.configurations.cut(first.index)\n',
    replace: '\n',
    workload: ledger,
  },
  {
    name: 'the replica set is lost when the log is shortened',
    file: 'storage/wal.ts',
    find: '      configuration = one.configuration\n',
    replace: '\n',
    workload: ledger,
  },
  {
    name: 'count an answer to a heartbeat of an earlier term',
    file: 'raft/core.ts',
    find: "{ kind: 'voteReply', granted: false })\n        return\n      default:\n",
    replace:
      "{ kind: 'voteReply', granted: false })\n        return\n      case 'heartbeatReply':\n        this.leadership?.heartbeatReply(message)\n        return\n      default:\n",
    workload: ledger,
    kinds: ['echo', 'flaps', 'isolate', 'partition', 'transfer'],
  },
  {
    name: 'a write of entries that were overwritten counts',
    file: 'raft/core.ts',
    find: 'if (!isOld && index > state.persistedIndex && state.log.termAt(index) === term)',
    replace: 'if (index > state.persistedIndex && index <= state.log.lastIndex)',
    workload: ledger,
    kinds: ['regicide', 'transfer'],
  },
  {
    name: 'take over a snapshot that is not needed',
    file: 'raft/core.ts',
    find: 'const isNeeded = point.index > commitIndex && log.termAt(point.index) !== point.term',
    replace: 'const isNeeded = point.index > commitIndex || log.lastIndex > 0',
    workload: ledger,
  },
  {
    name: 'acknowledge before the flush',
    file: 'storage/wal.ts',
    find: '      file.flush((flushError) => {\n        if (flushError !== null) return this.fail(`flush ${file.path} of`, flushError)\n        this.finish(batch)\n      })',
    replace: '      this.finish(batch)\n      file.flush(() => {})',
    workload: ledger,
  },
  {
    name: 'go on after a flush that failed',
    file: 'storage/wal.ts',
    find: 'if (flushError !== null) return this.fail(`flush ${file.path} of`, flushError)',
    replace: '',
    workload: ledger,
    kinds: ['failingDisk', 'crash', 'blackout', 'stall'],
  },
  {
    name: 'a new segment forgets term and vote',
    file: 'storage/wal.ts',
    find: 'base, hardState: this.tailHardState }',
    replace: 'base, hardState: { term: base.term, vote: 0 } }',
    workload: ledger,
  },
  {
    name: 'votes are not written',
    file: 'storage/wal.ts',
    find: "if (!put(encodeRecord({ kind: 'hardState', hardState: item.hardState }))) return false",
    replace: '',
    workload: ledger,
  },
  {
    name: 'lose the last entry of a write',
    file: 'storage/wal.ts',
    find: '      if (!put(record)) return false\n      const place',
    replace:
      '      const isLast = item.entries.length > 1 && item.written === item.entries.length - 1\n      if (!isLast && !put(record)) return false\n      const place',
    workload: ledger,
  },
  {
    name: 'build on what was read and never flushed',
    file: 'storage/recovery.ts',
    find: '      file.writeNow(from * sectorBytes, sectors.raw(from, last.sectors))\n    }\n    file.flushNow()',
    replace: '      void from\n    }',
    workload: ledger,
  },
  {
    name: 'do not flush the name of a new segment',
    file: 'storage/blank-segments.ts',
    find: 'this.options.disk.flushFolder(logFolder, (folderError) => {',
    replace: 'this.options.clock.soon(() => {\n        const folderError = null as Error | null',
    workload: ledger,
  },
  {
    name: 'skip the checksum of records',
    file: 'storage/records.ts',
    find: 'return crc32(bytes.subarray(offset + 4, end)) === bytes.readUInt32LE(offset) ? end : null',
    replace: 'return end',
    workload: ledger,
    kinds: ['rot', 'crash', 'crashAtOperation', 'blackout'],
  },
  {
    name: 'take damage for a torn tail',
    file: 'storage/recovery.ts',
    find: "    if (found > lowest) throw damaged(path, sector, 'a record that was flushed cannot be read')\n",
    replace: '    void lowest\n',
    workload: ledger,
    kinds: ['rot', 'crash'],
  },
  {
    name: 'drop log that the state on disk does not cover',
    file: 'log/engine.ts',
    find: 'durableIndex: Math.min(durableIndex, this.appliedIndex),',
    replace: 'durableIndex: this.appliedIndex,',
    workload: ledger,
  },
  {
    name: 'start the log after a snapshot that is not on disk yet',
    file: 'log/engine.ts',
    find: 'const durableIndex = await new Promise<number>((resolve) => consumer.checkpoint(resolve))',
    replace: 'const durableIndex = this.appliedIndex',
    workload: ledger,
  },
  {
    name: 'the state remembers the first replica set',
    file: 'log/engine.ts',
    find: 'const engineState = same ? this.engineState : encodeEngineState(last.term, configuration)',
    replace:
      'const engineState = same ? this.engineState : encodeEngineState(last.term, this.options.configuration)',
    workload: ledger,
  },
  {
    name: 'apply the last entry again after a restart',
    file: 'log/engine.ts',
    find: '    this.appliedIndex = applied.index\n    this.commitIndex = applied.index',
    replace:
      '    this.appliedIndex = Math.max(log.start.index, applied.index - 1)\n    this.commitIndex = applied.index',
    workload: ledger,
  },
  {
    name: 'a copy of the state comes without the outcomes under ids',
    file: 'storage/state-store.ts',
    find: '    this.readMeta()\n    this.durableIndex = this.appliedIndex\n',
    replace:
      "    this.readMeta()\n    this.open.db.exec('DELETE FROM outcome')\n    this.durableIndex = this.appliedIndex\n",
    workload: chat,
  },
  {
    name: 'a batch takes effect each time that it comes',
    file: 'chat/origins.ts',
    find: '? number === last.number + 1',
    replace: '? number <= last.number + 1',
    workload: chat,
  },
  {
    name: 'propose only the newest batch again after a change of leader',
    file: 'replica/pending.ts',
    find: 'for (const batch of this.batches) this.propose(batch.encoded)',
    replace: 'for (const batch of this.batches.slice(-1)) this.propose(batch.encoded)',
    workload: chat,
  },
  {
    name: 'a local read does not wait for what the client has seen',
    file: 'replica/reads.ts',
    find: 'if (minPosition <= position) {',
    replace: 'if (minPosition >= 0) {',
    workload: chat,
  },
  {
    name: 'a stream that was full goes on without what it missed',
    file: 'replica/subscriptions.ts',
    find: "if (open.state === 'full') this.startCatchingUp(open)",
    replace: "if (open.state === 'full') open.state = 'live'",
    workload: chat,
  },
  {
    name: 'a cursor ahead of a replica that lags is set back',
    file: 'replica/subscriptions.ts',
    find: 'for (const open of caughtUp ? suspects : []) {',
    replace: 'for (const open of suspects) {',
    workload: chat,
    kinds: ['outage', 'crash', 'regicide'],
  },
  {
    name: 'a client sends again under another id',
    file: 'client/calls.ts',
    find: 'if (!call.identified) {',
    replace: 'if (!call.identified || call.uncertain) {',
    workload: chat,
  },
  {
    name: 'what an earlier leader confirmed counts under the next one',
    file: 'raft/core.ts',
    find: '    this.verifiedIndex = state.commitIndex\n    this.acknowledge = null\n  }',
    replace: '    this.acknowledge = null\n  }',
    workload: ledger,
  },
  {
    name: 'overwrite in the same segment what an earlier one holds',
    file: 'storage/wal.ts',
    find: 'if (item.before !== null && item.before.index < segment.base.index) return false',
    replace: '',
    workload: ledger,
  },
  {
    name: 'write on behind a torn tail',
    file: 'storage/recovery.ts',
    find: 'this.nextSector = torn === 0 ? sector : null',
    replace: 'this.nextSector = sector',
    workload: ledger,
    kinds: ['crash', 'crashAtOperation', 'blackout', 'storm'],
  },
  {
    name: 'apply again after a failure without taking back what was half done',
    file: 'replica/applier.ts',
    find: "    const failure = this.undo()\n    if (failure !== null) return { kind: 'failed', error: failure }\n    if (isOutOfSpace(error)) return this.short()\n    if (isDatabaseError",
    replace: '    if (isOutOfSpace(error)) return this.short()\n    if (isDatabaseError',
    workload: chat,
  },
  {
    name: 'an id that was used sends another message',
    file: 'chat/idempotency.ts',
    find: '.get(id) !== undefined) return false\n',
    replace: '.get(id) !== undefined) return true\n',
    workload: chat,
  },
  {
    name: 'an id that was used before a restart is taken for a new one',
    file: 'chat/recent-ids.ts',
    find: 'return timeMs < this.fromMs || ',
    replace: 'return ',
    workload: chat,
  },
  {
    name: 'a state that was taken over keeps from streams what it jumped over',
    file: 'replica/subscriptions.ts',
    find: "      if (open.state !== 'live') continue\n      open.cursor = before\n      this.startCatchingUp(open)\n",
    replace: '      void [open, before]\n',
    workload: chat,
  },
  {
    name: 'a stream begins ahead of what its replica has applied',
    file: 'replica/subscriptions.ts',
    find: '    if (open.cursor > position) {\n',
    replace: '    if (open.cursor > position + 1000) {\n',
    workload: chat,
  },
  {
    name: 'a client resumes behind events that it was shown in part',
    file: 'client/stream.ts',
    find: '    return this.complete\n',
    replace: '    return Math.max(this.complete, this.openPosition)\n',
    workload: chat,
    kinds: ['clients'],
  },
  {
    name: 'a client shows again what it had shown when its connection broke',
    file: 'client/stream.ts',
    find: '    this.comesAgain = this.seenAtOpen\n',
    replace: '\n',
    workload: chat,
  },
  {
    name: 'a client says that nothing was done although it may have been',
    file: 'client/calls.ts',
    find: '      if (call.inFlight && call.mutation) call.uncertain = true\n',
    replace: '\n',
    workload: chat,
  },
  {
    name: 'a client does not say what it has seen',
    file: 'client/calls.ts',
    find: 'minPosition: local ? this.position : 0',
    replace: 'minPosition: 0',
    workload: chat,
  },
  {
    name: 'fail-stop: restart with the longest log of whoever is up',
    file: 'raft/recovery.ts',
    find: "if (waitingFor.length > 0) return { kind: 'waiting', waitingFor }",
    replace: "if (waitingFor.length === voters.length) return { kind: 'waiting', waitingFor }",
    workload: ledger,
    faultModel: 'fail-stop',
  },
  {
    name: 'fail-stop: restart with a majority',
    file: 'raft/recovery.ts',
    find: "if (waitingFor.length > 0) return { kind: 'waiting', waitingFor }",
    replace: "if (waitingFor.length * 2 >= needed.length) return { kind: 'waiting', waitingFor }",
    workload: ledger,
    faultModel: 'fail-stop',
  },
  {
    name: 'fail-stop: campaign while not continuous',
    file: 'raft/quorum.ts',
    find: 'member.voter && member.incarnation === incarnation,',
    replace: 'member.voter && member.incarnation !== undefined,',
    workload: ledger,
    faultModel: 'fail-stop',
  },
  {
    name: 'fail-stop: use a re-admission before it is committed',
    file: 'raft/core.ts',
    find: 'policy.standing(configurations.committed, self',
    replace: 'policy.standing(configurations.current, self',
    workload: ledger,
    faultModel: 'fail-stop',
    kinds: ['dominoes', 'crash', 'crashAtOperation', 'slowLinks', 'slowDisk'],
  },
  {
    name: 'fail-stop: exclude before the term is opened',
    file: 'raft/leadership.ts',
    find: 'if (!this.opened) return false',
    replace: '',
    workload: ledger,
    faultModel: 'fail-stop',
    kinds: ['forsake', 'blackoutAtOperation', 'crash', 'slowDisk'],
  },
  {
    name: 'fail-stop: believe a failure detector that lies',
    file: 'raft/incarnations.ts',
    find: 'const deadUpTo = lives ? incarnation - 1 : incarnation',
    replace: 'const deadUpTo = incarnation - (lives && incarnation % 3 > 0 ? 1 : 0)',
    workload: ledger,
    faultModel: 'fail-stop',
  },
  {
    name: 'versions: tell the highest id before all can read it',
    file: 'log/replica-set-view.ts',
    find: "if (change.kind !== 'remove' || change.id !== members.at(-1)?.id) return false",
    replace: 'if (members.length > 0) return false',
    workload: life,
    kinds: ['membership'],
  },
  {
    name: 'versions: raise the version before all know it',
    file: 'replica/housekeeping.ts',
    find: 'Math.min(newestVersion, commonVersion)',
    replace: 'newestVersion',
    workload: life,
  },
  {
    name: 'versions: go on after a command that is not known',
    file: 'chat/machine.ts',
    find: 'if (version > this.newestVersion)',
    replace: 'if (version > 9)',
    workload: life,
  },
  {
    name: 'retention: remove messages a little early',
    file: 'chat/retention.ts',
    find: "const cutoffMs = state.nowMs - retentionS * 1000\n  const rows = state.sql\n    .of('SELECT * FROM message WHERE conversation",
    replace:
      "const cutoffMs = state.nowMs - retentionS * 1000 + 20_000\n  const rows = state.sql\n    .of('SELECT * FROM message WHERE conversation",
    workload: life,
  },
  {
    name: 'retention: remove messages two minutes late where nobody sends any',
    file: 'replica/housekeeping.ts',
    find: '!queries().isExpiryDue(nowMs())) return',
    replace: '!queries().isExpiryDue(nowMs() - 120_000)) return',
    workload: life,
  },
  {
    name: 'restore: forget the outcomes of ids',
    file: 'chat/restored.ts',
    find: 'DELETE FROM join_token;',
    replace: 'DELETE FROM join_token; DELETE FROM outcome;',
    workload: life,
    kinds: [],
  },
  {
    name: 'restore: keep the marks of the old origins',
    file: 'chat/restored.ts',
    find: 'DELETE FROM origin;',
    replace: '',
    workload: life,
    kinds: [],
  },
  {
    name: 'fail-stop parted: do not notice in an append that histories differ',
    file: 'raft/core.ts',
    find: '    this.expectSameHistory(here === null || here === term, { index, term, here, commitIndex })\n',
    replace: '',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: do not notice in a copy of the state that histories differ',
    file: 'raft/core.ts',
    find: '    this.expectSameHistory(here === null || there === null || here === there, { index, here, there })\n',
    replace: '    void here\n    void there\n',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: an append cuts what may have been committed before a power cut',
    file: 'raft/core.ts',
    find: '      for (const { index, term } of fresh.slice(0, 1)) this.expectSafeToCut(index, term)\n',
    replace: '',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: a copy of the state replaces what may have been committed before a power cut',
    file: 'raft/core.ts',
    find: '    if (isNeeded) this.expectSafeToReplace(point)\n',
    replace: '',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: commit alone before it is on disk that one is alone',
    file: 'raft/quorum.ts',
    find: 'commitsConfigurationFirst: true,',
    replace: 'commitsConfigurationFirst: false,',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: two sides may lead in the same term',
    file: 'raft/quorum.ts',
    find: 'termAfter: (term, self) => term + 1 + ((((self - term - 1) % termStride) + termStride) % termStride),',
    replace: 'termAfter: (term) => term + 1,',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: a configuration says nothing of the terms before its own',
    file: 'raft/quorum.ts',
    find: 'lineage: [...(electorate.lineage ?? []), at].slice(-mostLineage),',
    replace: 'lineage: [at],',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: who has gone on without the others starts again',
    file: 'raft/halt.ts',
    find: "return this.reason === 'takenForDead'",
    replace: 'return this.reason !== null',
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
  {
    name: 'fail-stop parted: who was taken for dead goes on',
    file: 'raft/state.ts',
    find: "    throw new HaltError('takenForDead',",
    replace: "    if (own.voter) throw new HaltError('takenForDead',",
    workload: ledger,
    faultModel: 'fail-stop',
    beyond: true,
  },
]

const sources = resolve(import.meta.dirname, '..')

/**
 * Says what is wrong with a mutant's seam; null when it is right.
 *
 * The text to replace must be there exactly once: code that changed has to be followed.
 */
export function seamProblem(mutant: Mutant): string | null {
  const text = readFileSync(join(sources, mutant.file), 'utf8')
  const times = text.split(mutant.find).length - 1
  return times === 1
    ? null
    : `the text to replace of "${mutant.name}" is ${times} times in src/${mutant.file}:\n${mutant.find}`
}

/** From now on this process loads the broken variant. Before anything of it has been loaded. */
export function switchOn(mutant: Mutant): void {
  const problem = seamProblem(mutant)
  if (problem !== null) throw new Error(problem)
  const url = pathToFileURL(join(sources, mutant.file)).href
  registerHooks({
    load(loaded, context, nextLoad) {
      const result = nextLoad(loaded, context)
      if (loaded !== url) return result
      const { source } = result
      if (source === null || source === undefined) throw new Error(`no source of ${loaded}`)
      const text = typeof source === 'string' ? source : new TextDecoder().decode(source)
      return { ...result, source: text.replace(mutant.find, () => mutant.replace) }
    },
  })
}
