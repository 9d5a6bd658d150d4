import { toHex } from '../base/bytes.ts'
import { ParleyError, type Client } from '../client/index.ts'
import { describeState } from '../client/index.ts'
import type { Settings } from './config.ts'
import { CliError, exitCodes, type Io } from './io.ts'

/** A session as it is kept between runs. */
export interface SavedSession {
  readonly name: string
  readonly token: Uint8Array
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
  readonly forget: () => void
  readonly close: () => void
}

const tellAfterMs = 1000

/** @param anew leave the saved session alone: somebody is about to sign in. */
export function openSession(settings: Settings, io: Io, anew = false): Session {
  const saved = anew ? null : readSaved(settings, io)
  const client = io.createClient({
    addresses: settings.servers,
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
      io.files.writePrivate(
        settings.statePath,
        `${JSON.stringify({ name: session.name, token: toHex(session.token) })}\n`,
      )
    },
    forget: () => io.files.remove(settings.statePath),
    close() {
      stopTelling()
      client.close()
    },
  }
}

function readSaved(settings: Settings, io: Io): SavedSession | null {
  const text = io.files.read(settings.statePath)
  if (text === null) return null
  try {
    const { name, token } = JSON.parse(text) as Partial<Record<string, unknown>>
    if (typeof name === 'string' && typeof token === 'string' && /^[0-9a-f]{64}$/.test(token))
      return { name, token: Uint8Array.from(token.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)) }
  } catch {
    // A file that was cut short or edited counts as none: signing in writes it anew.
  }
  return null
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
