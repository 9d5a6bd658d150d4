import { statSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { join as joinPath, resolve } from 'node:path'

import type { JoinDesk } from '../api/service.ts'
import { startApi, type Api } from '../api/start.ts'
import { assumptionOf } from '../base/fault-model.ts'
import { replicaName } from '../base/ids.ts'
import { newestVersion } from '../base/version.ts'
import type { Cancel } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import { openChat } from '../chat/machine.ts'
import { createEngine, removedWords } from '../log/engine.ts'
import { createPeerLinks, parseEndpoint, staleStart, type Objection, type Refusal } from '../peer/links.ts'
import { HaltError } from '../raft/halt.ts'
import { formatAddresses, parseAddresses } from '../replica/addresses.ts'
import { createPasswords } from '../replica/passwords.ts'
import { createReplica, type RunningReplica } from '../replica/replica.ts'
import { createSearch } from '../replica/search.ts'
import type { Replica } from '../replica/types.ts'
import { createNodeDisk } from '../storage/node-disk.ts'
import { openStateStore } from '../storage/state-store.ts'
import { createStateWorker } from '../storage/state-worker.ts'
import { systemClock } from './clock.ts'
import { checkNotDiverged, markDiverged } from './diverged.ts'
import { Ending } from './ending.ts'
import { openReplicaFolder, type Identity, initialConfiguration } from './folders.ts'
import type { ServerIo } from './io.ts'
import { createJoinDesk } from './join-desk.ts'
import { createLogger } from './logging.ts'
import { tidyMemoryWhenIdle } from './memory.ts'
import type { ServeOptions } from './options.ts'
import { writeOperatorFile } from './operator.ts'
import { watchOutage } from './outage.ts'
import { placeOf, type ServePlace } from './place.ts'
import { isUnwanted, problemOf, ServerError, unwantedCode } from './problems.ts'
import { openSecurity, type Security } from './security.ts'
import { systemRandom } from './random.ts'
import { version } from './version.ts'
import { Refusals } from './refusals.ts'

const repository = resolve(import.meta.dirname, '../..')
const defaultSegmentBytes = 16 * 1024 * 1024
/** So long may requests that are under way take to finish when the replica stops. */
const drainMs = 2000

/** A replica that listens, for the verb that runs it. */
export interface Running {
  readonly replica: Replica
  /** Null in a cluster without an authority. */
  readonly joinDesk: JoinDesk | null
  /** How clients reach it. */
  readonly address: string
}

/**
 * Runs one replica until it is told to stop, or cannot go on.
 *
 * @param listening is called when clients can reach it.
 * @returns the exit code. The caller ends the process with it.
 */
export async function runServe(
  options: ServeOptions,
  io: ServerIo,
  listening: (running: Running) => void = () => undefined,
): Promise<number> {
  try {
    if (options.data === '')
      throw new ServerError('Which replica? Name its data folder: parley serve --data DIR/r1')
    // Messages and hashes of passwords are in what it writes, and the folder may be one that others can enter.
    process.umask(0o077)
    const opened = openReplicaFolder(options.data)
    try {
      checkNotDiverged(options.data)
      return await serve(options, opened, io, listening)
    } finally {
      opened.claim.release()
    }
  } catch (error) {
    io.err(problemOf(error))
    return isUnwanted(error) ? unwantedCode : 1
  }
}

async function serve(
  options: ServeOptions,
  opened: ReturnType<typeof openReplicaFolder>,
  io: ServerIo,
  listening: (running: Running) => void,
): Promise<number> {
  const { identity } = opened
  const name = replicaName(identity.replica)
  const logger = createLogger(options, name, io.err)
  const place = await placeOf(options, identity)
  const { own } = place

  const end = new Ending(systemClock)
  const fatal = (error: unknown): void => {
    if (error instanceof HaltError && !error.mayStartAgain) {
      logger.error({ error: error.message }, 'this replica has diverged from the others')
      unwanted(problemOf(error), 'diverged')
      return
    }
    logger.error(
      { error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
      'the replica ends',
    )
    io.err(`${name} ends: ${problemOf(error)}`)
    end.now(1)
  }
  const unwanted = (line: string, code: Refusal['code']): void => {
    logger.error({ code }, line)
    if (code === 'removed') opened.markRemoved()
    if (code === 'diverged') markDiverged(options.data, line)
    io.err(`${name} ends: ${line}`)
    end.now(unwantedCode)
  }
  const security = await openSecurity({
    folder: options.data,
    clusterId: identity.clusterId,
    own,
    options,
    clock: systemClock,
    logger,
  })
  const { warning } = security
  if (warning !== '') {
    logger.warn({}, warning)
    io.err(`${warning}.`)
  }
  if (security.expiry.problem !== '') io.err(`${security.expiry.problem}.`)
  const parts = await assemble(options, identity, place, security, logger, newestVersionOf(io.environment), {
    begun: () => opened.markBegun(),
    fatal,
    unwanted,
    removed() {
      logger.info({}, 'this replica was removed from the cluster; stopping')
      opened.markRemoved()
      io.err(`${name} ends: it was removed from the cluster. Its folder ${options.data} is of no more use.`)
      end.gracefully(unwantedCode)
    },
  })
  const { replica } = parts
  const join = joinDesk(security, replica, logger)
  let api: Api | null = null
  try {
    const operatorToken = writeOperatorFile(options.data, security.address)
    api = await startApi(replica, {
      http: place.listen.http,
      grpc: place.listen.grpc,
      passwords: parts.passwords,
      clock: systemClock,
      logger,
      version,
      webRoot: joinPath(repository, 'dist/web'),
      tls: security.tls,
      certificateLeftMs: () => security.expiry.leftMs,
      join,
      operatorToken,
    })
    security.tls?.onRenewed(() => writeOperatorFile(options.data, security.address, operatorToken))
    await replica.start()
    // All ports listen. A start that is refused changes nothing, or the next one would be refused too.
    if (place.isNew) opened.moveTo(own)
  } catch (error) {
    security.close()
    await parts.abandon()
    await api?.close(0)
    throw error
  }
  logger.info(
    { pid: process.pid, http: own.http, grpc: own.grpc, incarnation: identity.incarnation },
    'listening',
  )
  if (io.supervisor === null)
    io.out(
      `${name} listens: ${security.tls === null ? 'http' : 'https'}://${own.http}, gRPC ${own.grpc}, other replicas ${own.peer}. Ctrl-C stops it.`,
    )
  const { faultModel } = replica.status()
  logger.info({ faultModel }, `fault model ${faultModel}: ${assumptionOf(faultModel)}`)
  reportTo(io, identity.replica, replica)
  const stopWatching = parts.watchOutage()
  listening({ replica, joinDesk: join, address: security.address })
  // Now rather than at the end: a process that is killed would leave nothing for the next start.
  flushCompileCache()
  const stopTidying = tidyMemoryWhenIdle(systemClock, () => replica.position)
  const stopListening = io.onStop((signal) => {
    logger.info({ signal }, 'stopping')
    end.asked()
  })
  io.supervisor?.onGone(() => {
    logger.warn({}, 'the supervisor has ended; stopping')
    end.gracefully()
  })

  const { code, isGraceful } = await end.reached
  if (isGraceful) {
    const stop = async (): Promise<void> => {
      await replica.drain(drainMs)
      await api.close(drainMs)
      await parts.stop()
      logger.info({}, 'stopped')
    }
    await Promise.race([stop(), end.hurried])
  }
  stopListening()
  stopTidying()
  stopWatching()
  security.close()
  return code
}

/** The authority's key is handed out over TLS only. */
function joinDesk(security: Security, replica: Replica, logger: Logger): JoinDesk | null {
  const { authority, tls } = security
  if (authority === null || tls === null) return null
  return createJoinDesk({
    replica,
    authority,
    address: () => security.address,
    clock: systemClock,
    logger,
  })
}

/** What is to be done when the replica begins, and for which end. */
interface Moments {
  /** Log and state are there: from now on they are missed. */
  begun(): void
  /** It cannot go on. */
  fatal(error: unknown): void
  /** The others refuse it for good; the line says why, and what to do. */
  unwanted(line: string, code: Refusal['code']): void
  removed(): void
}

interface Parts {
  readonly replica: RunningReplica
  readonly passwords: ReturnType<typeof createPasswords>
  readonly watchOutage: () => Cancel
  /** Hands leadership over, writes what must be written and closes all. */
  stop(): Promise<void>
  /** Closes what was opened when the start failed. */
  abandon(): Promise<void>
}

async function assemble(
  options: ServeOptions,
  identity: Identity,
  { own, listen }: ServePlace,
  security: Security,
  logger: Logger,
  newest: number,
  moments: Moments,
): Promise<Parts> {
  const onFatal = moments.fatal
  const folder = resolve(options.data)
  const self = identity.replica
  const clock = systemClock
  const clusterId = Buffer.from(identity.clusterId, 'hex')
  const store = openStateStore({ folder, worker: createStateWorker(clock), onFailed: onFatal })
  const configuration = initialConfiguration(identity)
  const refusals = new Refusals({
    clock,
    isUp: (peer) => transport.isUp(peer),
    onFatal: moments.unwanted,
  })
  const transport = createPeerLinks({
    self,
    clusterId,
    incarnation: identity.incarnation,
    listen: listen.peer,
    ...(security.sockets === null ? {} : { sockets: security.sockets }),
    address: formatAddresses(own),
    endpointOf: (address) => parseEndpoint(parseAddresses(address).peer),
    random: systemRandom,
    logger,
    versionInUse: () => replica.versionInUse,
    newestVersion: newest,
    onRefused: (refusal) => refusals.add(refusal),
    admit: (peer, incarnation) =>
      log.isRemoved(peer)
        ? { code: 'removed', reason: removedWords(peer) }
        : oldCopy(peer, incarnation, replica.queries.incarnationOf(peer)),
    trustTimeouts: options.trustTimeouts,
  })
  transport.setPeers(
    (identity.contacts ?? []).map((peer) => ({ id: peer.id, address: formatAddresses(peer) })),
  )
  const logBytes = options.logMib * 1024 * 1024
  const log = createEngine({
    self,
    incarnation: identity.incarnation,
    configuration,
    disk: createNodeDisk(folder),
    clock,
    random: systemRandom,
    transport,
    logger,
    onFatal,
    onOpened: moments.begun,
    tuning: {
      compaction: { afterBytes: logBytes, keepBytes: logBytes / 2, mostBytes: logBytes * 8 },
      wal: { segmentBytes: Math.min(defaultSegmentBytes, logBytes) },
    },
  })
  const passwords = createPasswords({ memoryKib: options.passwordMemoryKib })
  const search = createSearch({
    indexPath: joinPath(folder, 'search.db'),
    statePath: () => store.path,
    position: () => replica.position,
    clock,
    logger,
  })
  const replica: RunningReplica = createReplica({
    self,
    incarnation: identity.incarnation,
    clusterId,
    clock,
    logger,
    log,
    store,
    openChat: (db) => openChat(db, { newestVersion: newest }),
    search,
    vitals: () => {
      const { user, system } = process.cpuUsage()
      return {
        pid: process.pid,
        version,
        residentBytes: process.memoryUsage.rss(),
        cpuUs: user + system,
        searchBytes: fileBytes(joinPath(folder, 'search.db')) + fileBytes(joinPath(folder, 'search.db-wal')),
        problem: [refusals.problem, security.expiry.problem, security.warning]
          .filter((text) => text !== '')
          .join('; '),
      }
    },
    problemWith: (peer) => refusals.problemWith(peer),
    place: { addresses: own, wantsVote: identity.replicas.length === 0 && identity.learner !== true },
    onRemoved: moments.removed,
    onFatal,
  })
  const close = async (): Promise<void> => {
    replica.close()
    passwords.close()
    await search.close()
    await store.close()
  }
  return {
    replica,
    passwords,
    watchOutage: () =>
      watchOutage({
        folder,
        clock,
        logger,
        status: () => log.status(),
        giveUp: (replicas) => log.giveUp(replicas),
      }),
    async stop() {
      await log.stop()
      await close()
    },
    abandon: close,
  }
}

function reportTo(io: ServerIo, self: number, replica: RunningReplica): void {
  const { supervisor } = io
  if (supervisor === null) return
  const report = (): void => {
    const { leader, quorum } = replica.state
    supervisor.report({ kind: 'state', replica: self, leader, quorum })
  }
  replica.onStateChange(report)
  report()
}

/** The replicated state remembers how often each replica had started, also when all the others were restarted meanwhile. */
function oldCopy(peer: number, incarnation: number, known: number): Objection | null {
  return incarnation >= known ? null : staleStart(peer, incarnation, known)
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

/** Tests let a replica stand for an earlier version of Parley: it speaks that version with the others, and knows its commands only. */
function newestVersionOf(environment: ServerIo['environment']): number {
  return Number(environment['PARLEY_TEST_NEWEST_VERSION'] ?? newestVersion)
}
