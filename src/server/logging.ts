import { join } from 'node:path'
import { pino, stdSerializers } from 'pino'

import type { Logger } from '../base/logger.ts'
import type { ServeOptions } from './options.ts'

/** So much of the log is kept for when the file can be written to again; what comes then is lost. */
const keptBytes = 256 * 1024

/** The operator's log of one replica. */
export function createLogger(
  options: Pick<ServeOptions, 'data' | 'log' | 'logLevel'>,
  replica: string,
  err: (line: string) => void,
): Logger {
  const settings = { level: options.logLevel, base: { replica }, serializers: { error: inWords } }
  if (options.log === 'file') {
    const file = pino.destination({
      dest: join(options.data, 'parley.log'),
      sync: true,
      maxLength: keptBytes,
    })
    // A full disk is told of by the storage; for the sake of a line of its log no replica ends.
    file.on('error', () => undefined)
    return pino(settings, file)
  }
  return pino(settings, { write: (line: string) => err(readable(line)) })
}

/** An error has no fields that JSON would show, and those that others gave it may hold what belongs in no log. Its causes are in both texts. */
function inWords(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { message, stack } = stdSerializers.err(error)
  return { message, stack }
}

/** `10:20:30.456 r2 warn  message key=value`. */
function readable(line: string): string {
  const { time, level, replica, msg, ...fields } = JSON.parse(line) as Record<string, unknown>
  const moment = new Date(Number(time)).toISOString().slice(11, 23)
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`)
  return `${moment} ${String(replica)} ${levels[Number(level)] ?? 'info '} ${String(msg)}${rest.join('')}`
}

const levels: Readonly<Record<number, string>> = { 20: 'debug', 30: 'info ', 40: 'warn ', 50: 'ERROR' }

function plain(value: unknown): string {
  return typeof value === 'string' && !/[\s"]/.test(value) ? value : JSON.stringify(value)
}
