import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { replicaName, type ReplicaId } from '../base/ids.ts'
import {
  Cluster,
  configurationOf,
  defaultOptions,
  describe,
  describeConfiguration,
  type Host,
  type Snapshot,
} from './harness.ts'
import type { ConfigurationChange, CoreOptions, Entry, Message, Ready } from './types.ts'

/*
 * Golden scripts: each block of a script is commands, a line `----` and what the cluster says to them. UPDATE=1 writes the answers anew; read the difference before you commit.
 *
 *   cluster 1 2 3 +4 [maxAppendBytes=24 …]   a cluster of voters 1, 2, 3 and learner 4; `failStop=1` for that fault model
 *   disk 1 term=3 vote=2 log=1,1,3           what replica 1 finds at start; the terms of its entries (before `cluster`)
 *   new 4                                    a replica that nobody knows yet
 *   tick 1 [5]                               so many ticks, or
 *   timeout 1                                ticks until it campaigns
 *   ready 1 · flush 1 · deliver [1>2] · drop [1>2]   single steps; `1>*`, `*>2`: all from, all to
 *   settle [1 2]                             everything among these replicas (default: all) until they are quiet
 *   propose 1 a b · read 1 7 · suspect 1 3 · reachable 1 3 · transfer 1 2 · full 1 true
 *   dead 1 3 2 · lives 1 3 2                 1 knows that the second process of 3 is dead, or that it lives
 *   giveup 1 3                               an operator tells 1 to go on without 3
 *   change 1 addLearner|promote|remove|setAddress 4
 *   snapshot 1 2 · install 2                 1 takes the snapshot for 2; 2 takes over what it was offered
 *   restart 1 · compact 1 5 · log 1 2 · status 1 2
 */

const folder = join(import.meta.dirname, 'testdata')

for (const file of readdirSync(folder).filter((name) => name.endsWith('.script')))
  test(`the core follows ${file}`, () => {
    const path = join(folder, file)
    const text = readFileSync(path, 'utf8')
    const actual = play(text)
    if (process.env['UPDATE'] === '1') writeFileSync(path, actual)
    else assert.equal(actual, text)
  })

function play(text: string): string {
  const cluster = new ScriptCluster()
  return text
    .trim()
    .split(/\n\n+/)
    .map((block) => {
      const commands = (block.split('\n----')[0] ?? '').split('\n')
      if (commands.every((line) => line.startsWith('#'))) return commands.join('\n')
      const said = commands.filter((line) => !line.startsWith('#')).flatMap((line) => cluster.run(line))
      return [...commands, '----', ...said].join('\n')
    })
    .join('\n\n')
    .concat('\n')
}

class ScriptCluster {
  private cluster = this.newCluster()
  private readonly disks = new Map<ReplicaId, { term: number; vote: number; log: readonly Entry[] }>()
  private readonly snapshots = new Map<string, Snapshot>()
  private options: Partial<CoreOptions> = {}
  private said: string[] = []
  /** What was told of each host's history. */
  private readonly told = new WeakMap<Host, number>()

  run(line: string): readonly string[] {
    const [command = '', ...words] = line.split(' ')
    this.said = []
    this.execute(command, words)
    return this.said
  }

  private execute(command: string, words: readonly string[]): void {
    const id = Number(words[0])
    const other = Number(words[1])
    switch (command) {
      case 'disk':
        this.disks.set(id, diskOf(words.slice(1)))
        return
      case 'cluster':
        this.start(words)
        return
      case 'new':
        this.cluster.add(id, undefined, { options: this.options })
        return
      case 'tick':
        this.host(id).tick(words.length > 1 ? other : 1)
        return
      case 'timeout':
        this.timeOut(this.host(id))
        return
      case 'ready':
        while (this.cluster.ready(id));
        return
      case 'flush':
        this.cluster.flush(id)
        return
      case 'deliver':
        this.cluster.deliver(matching(words[0]))
        return
      case 'drop':
        this.cluster.network = this.cluster.network.filter((message) => !matching(words[0])(message))
        return
      case 'settle':
        this.cluster.settle(words.length === 0 ? undefined : words.map(Number))
        return
      case 'propose':
        this.host(id).propose(...words.slice(1))
        return
      case 'read':
        this.host(id).step({ kind: 'readIndex', id: other })
        return
      case 'suspect':
      case 'reachable':
        this.host(id).step({ kind: command, replica: other })
        return
      case 'dead':
      case 'lives':
        this.host(id).step({
          kind: 'incarnation',
          replica: other,
          incarnation: Number(words[2]),
          lives: command === 'lives',
        })
        return
      case 'giveup':
        this.host(id).step({ kind: 'giveUp', replicas: [other] })
        return
      case 'transfer':
        this.host(id).step({ kind: 'transfer', to: other })
        return
      case 'full':
        this.host(id).step({ kind: 'full', full: words[1] === 'true' })
        return
      case 'change':
        this.host(id).step({ kind: 'change', id: 1, change: changeOf(words.slice(1)) })
        return
      case 'snapshot': {
        const snapshot = this.host(id).takeSnapshot()
        this.snapshots.set(`${id}>${other}`, snapshot)
        this.host(id).step({ kind: 'snapshotTaken', to: other, point: snapshot.point })
        return
      }
      case 'install':
        this.install(this.host(id))
        return
      case 'restart':
        this.host(id).restart()
        this.told.set(this.host(id), this.host(id).appliedIndex)
        return
      case 'compact':
        this.host(id).compact(other)
        return
      case 'log':
        for (const word of words) {
          const { log } = this.host(Number(word))
          const start = log.start.index > 0 ? `(${log.start.index}/${log.start.term}) ` : ''
          this.say(Number(word), `log ${start}${log.all.map(describe).join(', ')}`)
        }
        return
      case 'status':
        for (const word of words) this.say(Number(word), this.status(this.host(Number(word))))
        return
      default:
        throw new Error(`no command ${command}`)
    }
  }

  private start(words: readonly string[]): void {
    this.cluster = this.newCluster()
    this.snapshots.clear()
    const ids = words.filter((word) => !word.includes('='))
    this.options = Object.fromEntries(
      words
        .filter((word) => word.includes('=') && !word.startsWith('failStop'))
        .map((word) => [word.split('=')[0], Number(word.split('=')[1])]),
    )
    const learners = ids.filter((word) => word.startsWith('+')).map(Number)
    const voters = ids.filter((word) => !word.startsWith('+')).map(Number)
    const configuration = configurationOf(
      voters,
      learners,
      words.includes('failStop=1') ? 'fail-stop' : 'majority',
    )
    for (const id of ids.map(Number)) {
      const disk = this.disks.get(id)
      this.disks.delete(id)
      const found = disk && { hardState: { term: disk.term, vote: disk.vote }, entries: disk.log }
      this.cluster.add(id, configuration, { options: this.options, ...found })
    }
  }

  private timeOut(host: Host): void {
    const before = host.core.status()
    const limit = 2 * (this.options.electionTicks ?? defaultOptions.electionTicks)
    for (let i = 0; i < limit; i += 1) {
      host.tick()
      const { role, term } = host.core.status()
      if (role === 'candidate' && (before.role !== 'candidate' || term !== before.term)) return
    }
  }

  private install(host: Host): void {
    const offer = host.offers[0]
    if (offer === undefined) throw new Error('nothing was offered')
    const snapshot = this.snapshots.get(`${offer.from}>${host.id}`)
    if (snapshot === undefined) throw new Error('there is no such snapshot')
    const ok = host.install({ ...snapshot, point: offer.point })
    host.offers = []
    this.told.set(host, host.appliedIndex)
    this.say(host.id, ok ? `installs ${offer.point.index}/${offer.point.term}` : 'needs no snapshot any more')
    this.host(offer.from).step({ kind: 'snapshotSent', to: host.id, index: offer.point.index, ok })
  }

  private newCluster(): Cluster {
    const cluster = new Cluster()
    cluster.onReady = (host, ready) => this.tell(host, ready)
    return cluster
  }

  private tell(host: Host, ready: Ready): void {
    const { id } = host
    if (ready.statusChanged) this.say(id, `is ${this.status(host)}`)
    if (ready.hardState !== null)
      this.say(
        id,
        `writes term ${ready.hardState.term}` +
          (ready.hardState.vote === 0 ? '' : ` vote ${replicaName(ready.hardState.vote)}`),
      )
    if (ready.entries.length > 0) this.say(id, `writes ${ready.entries.map(describe).join(', ')}`)
    for (const message of ready.send) this.say(id, `> ${describeMessage(message)}`)
    for (const message of ready.sendAfterWrite) this.say(id, `>> ${describeMessage(message)}`)
    for (const { id: read, index } of ready.reads) this.say(id, `read ${read} at ${index ?? 'none'}`)
    for (const { index, refused } of ready.changes) this.say(id, `change ${refused ?? `at ${index}`}`)
    for (const to of ready.snapshotsWanted) this.say(id, `wants a snapshot for ${replicaName(to)}`)
    if (ready.snapshotOffered !== null)
      this.say(id, `is offered ${ready.snapshotOffered.point.index}/${ready.snapshotOffered.point.term}`)
    for (const to of ready.regressed) this.say(id, `saw ${replicaName(to)} go back`)
    if (ready.interrupted) this.say(id, 'interrupted')
    for (const entry of host.history.slice(this.told.get(host) ?? 0)) this.say(id, `applies ${entry}`)
    this.told.set(host, host.appliedIndex)
  }

  private status(host: Host): string {
    const status = host.core.status()
    const leader = status.leader === 0 ? 'none' : replicaName(status.leader)
    return (
      `${status.role} of term ${status.term}, leader ${leader}, commit ${status.commitIndex}, ` +
      `${describeConfiguration(status.configuration)}${status.available ? '' : ', not available'}, may fail ${status.mayFail}` +
      (status.waitingFor.length === 0 ? '' : `, waiting for ${status.waitingFor.map(replicaName).join(' ')}`)
    )
  }

  private say(id: ReplicaId, what: string): void {
    this.said.push(`${replicaName(id)} ${what}`)
  }

  private host(id: ReplicaId): Host {
    return this.cluster.host(id)
  }
}

/** `1>2`, `1>*`, `*>2`. */
function matching(pattern = '*>*'): (message: Message) => boolean {
  const [from, to] = pattern.split('>')
  return (message) =>
    (from === '*' || Number(from) === message.from) && (to === '*' || Number(to) === message.to)
}

function diskOf(words: readonly string[]): { term: number; vote: number; log: readonly Entry[] } {
  const values = new Map(words.map((word) => [word.split('=')[0], word.split('=')[1] ?? '']))
  const terms = (values.get('log') ?? '').split(',').filter((term) => term !== '')
  return {
    term: Number(values.get('term') ?? terms.at(-1) ?? 0),
    vote: Number(values.get('vote') ?? 0),
    log: terms.map((term, position) => ({
      kind: 'data',
      term: Number(term),
      index: position + 1,
      data: new TextEncoder().encode(`${position + 1}.${term}`),
    })),
  }
}

function changeOf([kind, word]: readonly string[]): ConfigurationChange {
  const id = Number(word)
  switch (kind) {
    case 'addLearner':
    case 'setAddress':
      return { kind, id, address: `b${id}` }
    case 'promote':
    case 'remove':
      return { kind, id }
    default:
      throw new Error(`no change ${kind}`)
  }
}

function describeMessage(message: Message): string {
  const head = `${replicaName(message.to)} ${message.kind} t${message.term}`
  switch (message.kind) {
    case 'preVote':
      return `${head} last ${message.lastIndex}/${message.lastTerm}`
    case 'vote':
      return `${head} last ${message.lastIndex}/${message.lastTerm}${message.transfer ? ' transfer' : ''}`
    case 'preVoteReply':
    case 'voteReply':
      return `${head} ${message.granted ? 'granted' : 'refused'}`
    case 'append': {
      const entries = message.entries.map(describe).join(', ')
      return `${head} after ${message.prevIndex}/${message.prevTerm} [${entries}] commit ${message.commit}`
    }
    case 'appendReply':
      return message.accepted
        ? `${head} has ${message.index}`
        : `${head} refused ${message.prevIndex}, go back to ${message.index}/${message.conflictTerm}`
    case 'heartbeat':
      return message.round === 0
        ? `${head} commit ${message.commit}`
        : `${head} commit ${message.commit} round ${message.round}`
    case 'heartbeatReply':
      return `${head} round ${message.round} last ${message.lastIndex}`
    case 'readIndex':
      return head
    case 'readIndexReply':
      return `${head} index ${message.index}`
    case 'propose': {
      const texts = message.data.map((data) => `"${new TextDecoder().decode(data)}"`)
      return `${head} number ${message.number} ${texts.join(' ')}`
    }
    case 'snapshot':
      return `${head} at ${message.point.index}/${message.point.term} ${describeConfiguration(message.point.configuration)}`
    case 'snapshotReply':
      return `${head} has ${message.index}`
    case 'timeoutNow':
    case 'proposalsLost':
      return head
    case 'change':
      return `${head} ${message.change.kind} ${replicaName(message.change.id)}`
    case 'changeReply':
      return `${head} ${message.refused ?? `at ${message.index}`}`
    case 'transfer':
      return `${head} to ${replicaName(message.successor)}`
    case 'gather':
      return (
        head + (message.givenUp.length > 0 ? ` without ${message.givenUp.map(replicaName).join(' ')}` : '')
      )
    case 'gatherReply':
      return (
        `${head} last ${message.lastIndex}/${message.lastTerm}, ` +
        `${describeConfiguration(message.configuration)} at ${message.configurationIndex}` +
        (message.continuous ? ', continuous' : '')
      )
  }
}
