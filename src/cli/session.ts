import { fromHex, toHex } from '../base/bytes.ts'
import { ParleyError, type Client } from '../client/index.ts'
import { describeState } from '../client/index.ts'
import type { Settings } from './config.ts'
import { CliError, exitCodes, type Io } from './io.ts'

/** A session as it is kept between runs. */
export interface SavedSession {
  readonly name: string
  readonly token: Uint8Array
  /** Where the cluster's replicas were when it was used last: those that the profile names may be gone. */
  readonly replicas?: readonly string[]
}

/** The connection of one run to the cluster. */
export interface Session {
  /** Connected, or about to be; whoever the profile's token says is signed in. */
  readonly client: Client
  readonly saved: SavedSession | null
  /**
   * The client, when somebody is signed in.
   *
   * @throws CliError with exit code 4 when nobody is.
   */
  readonly signedIn: () => Client
  readonly save: (session: SavedSession) => void
  /** Removes the session that is kept, unless it is another one: somebody may have signed in elsewhere meanwhile. */
  readonly forget: () => void
  readonly close: () => void
}

const tellAfterMs = 1000
/** More than a cluster has; those that are gone give way to new ones. */
const mostReplicas = 16

/** @param anew leave the saved session alone: somebody is about to sign in. */
export function openSession(settings: Settings, io: Io, anew = false): Session {
  const saved = anew ? null : readSaved(settings, io)
  let current = saved
  const client = io.createClient({
    addresses: [...new Set([...settings.servers, ...(saved?.replicas ?? [])])],
    timeoutMs: settings.timeoutMs,
    read: 'best',
    ...(saved === null ? {} : { token: saved.token }),
  })
  // Something that takes longer is told about, as long as it lasts.
  const stopTelling = io.after(tellAfterMs, () => {
    if (client.state.kind === 'connected' || client.state.kind === 'signedOut' || !io.canAsk) return
    io.err(`${describeState(client.state)} … (${settings.servers.join(', ')})`)
  })
  return {
    client,
    saved,
    signedIn() {
      if (saved !== null || client.account !== null) return client
      throw new CliError('You are not signed in: parley login', exitCodes.notSignedIn)
    },
    save(session) {
      writeSaved(settings, io, session)
      current = session
    },
    forget() {
      if (current !== null && isKept(settings, io, current)) io.files.remove(settings.statePath)
      current = null
    },
    close() {
      stopTelling()
      if (current !== null) keepReplicas(settings, io, current, client.addresses)
      client.close()
    },
  }
}

function isKept(settings: Settings, io: Io, { token }: SavedSession): boolean {
  const kept = readSaved(settings, io)
  return kept !== null && toHex(kept.token) === toHex(token)
}

/** Notes where the replicas are now, when that is news. */
function keepReplicas(settings: Settings, io: Io, session: SavedSession, known: readonly string[]): void {
  const replicas = known.filter((address) => !settings.servers.includes(address)).slice(-mostReplicas)
  if (replicas.join(' ') === (session.replicas ?? []).join(' ')) return
  try {
    if (isKept(settings, io, session)) writeSaved(settings, io, { ...session, replicas })
  } catch {
    // What was to be done is done; next time the replicas are found as this time.
  }
}

function writeSaved(settings: Settings, io: Io, { name, token, replicas }: SavedSession): void {
  const others =
    replicas === undefined || replicas.length === 0 ? {} : { servers: settings.servers, replicas }
  io.files.writePrivate(settings.statePath, `${JSON.stringify({ name, token: toHex(token), ...others })}\n`)
}

function readSaved(settings: Settings, io: Io): SavedSession | null {
  const text = io.files.read(settings.statePath)
  if (text === null) return null
  try {
    const { name, token, servers, replicas } = JSON.parse(text) as Partial<Record<string, unknown>>
    if (typeof name !== 'string' || typeof token !== 'string' || !/^[0-9a-f]{64}$/.test(token)) return null
    const bytes = fromHex(token)
    // With other servers it may be another cluster.
    const isSame = JSON.stringify(servers) === JSON.stringify(settings.servers)
    return { name, token: bytes, replicas: isSame ? textsOf(replicas) : [] }
  } catch {
    // A file that was cut short or edited counts as none: signing in writes it anew.
  }
  return null
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []
}

/** The exit code for what went wrong. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode
  if (!(error instanceof ParleyError)) return exitCodes.error
  switch (error.reason) {
    case 'REASON_NOT_SIGNED_IN':
    case 'REASON_SESSION_EXPIRED':
      return exitCodes.notSignedIn
    case 'REASON_NO_QUORUM':
    case 'REASON_OUTCOME_UNKNOWN':
    case 'REASON_DEADLINE_EXCEEDED':
    case 'REASON_OVERLOADED':
    case 'REASON_NO_SPACE':
    case 'REASON_DRAINING':
    case 'REASON_CATCHING_UP':
      return exitCodes.unavailable
    default:
      return exitCodes.error
  }
}
