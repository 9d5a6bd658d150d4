import { X509Certificate } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import type { Credentials } from '../tls/credentials.ts'

const hourMs = 60 * 60 * 1000
const dayMs = 24 * hourMs
/** Whoever renews certificates does so earlier: a replica 20 days before the end of its own, tools for those of public authorities 15 to 30. */
const alarmMs = 14 * dayMs

/** A certificate that a replica shows, in words. */
export interface Shown {
  readonly credentials: Credentials
  readonly name: string
  /** What comes of it when it is over. */
  readonly harm: string
  /** What people can do. */
  readonly remedy: string
}

/** How long the certificates of a replica are still good. */
export interface Expiry {
  /** Which of them end soon, or are over, and what to do; empty when none. */
  readonly problem: string
  /** Until the first of them ends; below 0 when it is over, null when there are none. */
  readonly leftMs: number | null
  close(): void
}

/** Says in the log, once a day, which certificates should have been renewed and were not. */
export function watchExpiry(
  shown: readonly Shown[],
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Expiry {
  const watched = shown.map((one) => new Watched(one))
  const problem = (): string =>
    watched
      .map((one) => one.problemAt(clock.wallMs()))
      .filter((text) => text !== '')
      .join('; ')
  let told = ''
  let cancel = clock.after(0, look)

  function look(): void {
    const now = problem()
    if (now !== '' && now !== told) logger.warn({}, now)
    told = now
    cancel = clock.after(hourMs, look)
  }

  return {
    get problem() {
      return problem()
    },
    get leftMs() {
      const first = Math.min(...watched.map(({ endMs }) => endMs))
      return watched.length === 0 ? null : first - clock.wallMs()
    },
    close: () => cancel(),
  }
}

class Watched {
  private readonly shown: Shown
  private startMs = 0
  endMs = 0

  constructor(shown: Shown) {
    this.shown = shown
    this.read()
    shown.credentials.onRenewed(() => this.read())
  }

  problemAt(nowMs: number): string {
    const leftMs = this.endMs - nowMs
    // One that lasts no longer than that is renewed later, too.
    const lifetimeMs = this.endMs - this.startMs
    if (leftMs > (lifetimeMs > alarmMs ? alarmMs : lifetimeMs / 3)) return ''
    const { name, harm, remedy } = this.shown
    const end = new Date(this.endMs).toISOString().slice(0, 16).replace('T', ' ')
    if (leftMs <= 0) return `${name} ended on ${end} UTC, so ${harm}: ${remedy}`
    return `${name} ends ${timeLeft(leftMs)}, on ${end} UTC; then ${harm}: ${remedy}`
  }

  private read(): void {
    const { validFrom, validTo } = new X509Certificate(this.shown.credentials.current.certificate)
    this.startMs = Date.parse(validFrom)
    this.endMs = Date.parse(validTo)
  }
}

function timeLeft(leftMs: number): string {
  const days = Math.floor(leftMs / dayMs)
  return days === 0 ? 'within a day' : `in ${days} day${days === 1 ? '' : 's'}`
}
