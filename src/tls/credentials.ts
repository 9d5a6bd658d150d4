import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { createSecureContext } from 'node:tls'
import type { Cancel, Clock } from '../base/clock.ts'
import type { ReplicaId } from '../base/ids.ts'
import type { Logger } from '../base/logger.ts'
import type { Authority, Issued } from './authority.ts'
import { replicaOf } from './names.ts'
import { writeCertificates } from './store.ts'

/** A certificate with its key, which is renewed now and then. */
export interface Credentials {
  /** PEM; behind a certificate may stand those of its issuers. */
  readonly current: Issued
  /** Calls `listener` each time after it was renewed. */
  onRenewed(listener: () => void): void
  /** Renews it no more. */
  close(): void
}

/** The certificate that a replica has of its cluster's authority. */
export interface ReplicaCredentials extends Credentials {
  readonly clusterId: string
  /** The authority's certificate, PEM. */
  readonly authority: string
}

export interface ReplicaCredentialsOptions {
  /** The replica's data folder, which has the certificates. */
  readonly folder: string
  readonly clusterId: string
  readonly replica: ReplicaId
  readonly authority: Authority
  readonly own: Issued
  /** Names and addresses under which clients reach the replica now. */
  readonly hosts: readonly string[]
  readonly clock: Clock
  readonly logger: Logger
  /** How long a renewed certificate lasts. Default: 30 days. */
  readonly lifetimeMs?: number
}

/** Whether it is time is looked at so often: a clock that is set, or a machine that wakes up, can make a certificate useless at any moment. */
const lookMs = 10_000
/** A renewal that failed is tried again after so long; sooner for a certificate that lasts a few days only. */
const retryMs = 60 * 60 * 1000
/** A file is looked at so often. */
const fileLookMs = 10_000

/**
 * Keeps a replica's own certificate young: each replica has the authority's key, and needs nobody to renew. A certificate is renewed when a third of its time has passed, or
 * when the replica has moved to a host that it does not name. Resolves when the present one is good.
 */
export async function keepReplicaCredentials(
  options: ReplicaCredentialsOptions,
): Promise<ReplicaCredentials> {
  const { folder, clusterId, replica, authority, hosts, clock, logger } = options
  const listeners: (() => void)[] = []
  let current = options.own
  let times = timesOf(current.certificate)
  /** Only the one that was found can be another's, or of another place. */
  let fits = isOf(current.certificate, options)
  let closed = false
  let cancel: Cancel = () => {}

  async function renew(): Promise<void> {
    // Loaded when it is needed first: most starts renew nothing.
    const { issue } = await import('./authority.ts')
    const { lifetimeMs } = options
    const validity = { nowMs: clock.wallMs(), ...(lifetimeMs === undefined ? {} : { lifetimeMs }) }
    current = await issue(authority, { clusterId, replica, hosts }, validity)
    times = timesOf(current.certificate)
    fits = true
    logger.info({ until: new X509Certificate(current.certificate).validTo }, 'the certificate was renewed')
    try {
      writeCertificates(folder, { clusterId, authority, own: current })
    } catch (error) {
      // The present one serves as long as the process runs; the next start makes another one.
      logger.error({ error: String(error) }, 'the renewed certificate could not be written')
    }
    for (const listener of listeners) listener()
  }

  async function look(): Promise<void> {
    let againMs = lookMs
    if (!fits || !isYoung(times, clock.wallMs()))
      await renew().catch((error: unknown) => {
        logger.error({ error: String(error) }, 'the certificate could not be renewed')
        againMs = retryMs
      })
    if (closed) return
    cancel = clock.after(Math.min(againMs, (times.endMs - times.startMs) / 30), () => void look())
  }

  await look()
  return {
    clusterId,
    authority: authority.certificate,
    get current() {
      return current
    },
    onRenewed: (listener) => listeners.push(listener),
    close() {
      closed = true
      cancel()
    },
  }
}

/** The same with the authority's certificate behind it: clients that pin the authority are shown it. */
export function withAuthority(credentials: ReplicaCredentials): Credentials {
  return {
    get current() {
      const { certificate, key } = credentials.current
      return { certificate: `${certificate}${credentials.authority}`, key }
    },
    onRenewed: (listener) => credentials.onRenewed(listener),
    close: () => credentials.close(),
  }
}

/**
 * A certificate and its key out of files that somebody else renews: they are read again when they change. As long as they do not fit each other, what was read before serves.
 *
 * @throws Error that names the file when they cannot be used at the start.
 */
export function fileCredentials(
  certificatePath: string,
  keyPath: string,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Credentials {
  const listeners: (() => void)[] = []
  let seen = changedAt(certificatePath, keyPath)
  let current = readPair(certificatePath, keyPath)
  let cancel: Cancel = () => {}

  function look(): void {
    try {
      const now = changedAt(certificatePath, keyPath)
      if (now !== seen) {
        current = readPair(certificatePath, keyPath)
        seen = now
        logger.info({ until: new X509Certificate(current.certificate).validTo }, 'the certificate was read')
        for (const listener of listeners) listener()
      }
    } catch (error) {
      logger.warn({ error: String(error) }, 'the certificate that changed cannot be used; the old one serves')
    }
    cancel = clock.after(fileLookMs, look)
  }

  cancel = clock.after(fileLookMs, look)
  return {
    get current() {
      return current
    },
    onRenewed: (listener) => listeners.push(listener),
    close: () => cancel(),
  }
}

/** Whether it is the replica's, and has all its names: it may have been copied, or the replica have moved. */
function isOf(
  certificate: string,
  { clusterId, replica, hosts }: Pick<ReplicaCredentialsOptions, 'clusterId' | 'replica' | 'hosts'>,
): boolean {
  const parsed = new X509Certificate(certificate)
  const named = (host: string): boolean =>
    (isIP(host) === 0 ? parsed.checkHost(host) : parsed.checkIP(host)) !== undefined
  return replicaOf(parsed, clusterId) === replica && hosts.every(named)
}

interface Times {
  readonly startMs: number
  readonly endMs: number
}

/** One of the future was made while the clock was wrong. */
function isYoung({ startMs, endMs }: Times, nowMs: number): boolean {
  return startMs <= nowMs && nowMs - startMs <= (endMs - startMs) / 3
}

function timesOf(certificate: string): Times {
  const { validFrom, validTo } = new X509Certificate(certificate)
  return { startMs: Date.parse(validFrom), endMs: Date.parse(validTo) }
}

/** @throws Error that names the file when they are not a certificate and its key. */
export function readPair(certificatePath: string, keyPath: string): Issued {
  const pair = { certificate: readText(certificatePath), key: readText(keyPath) }
  try {
    createSecureContext({ cert: pair.certificate, key: pair.key })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new Error(`${certificatePath} and ${keyPath} are not a certificate and its key in PEM (${why})`, {
      cause: error,
    })
  }
  return pair
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Error(`${path} cannot be read (${error instanceof Error ? error.message : String(error)})`, {
      cause: error,
    })
  }
}

function changedAt(...paths: readonly string[]): string {
  return paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0).join(' ')
}
