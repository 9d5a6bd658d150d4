import { toHex } from '../../base/bytes.ts'
import { ParleyError, type Client, type ResponseOf } from '../../client/index.ts'
import type { BackupWriter } from '../../server/backup-file.ts'
import { openAuthority } from '../authority.ts'
import { bar, StatusLine } from '../catch-up.ts'
import { type Io, UsageError } from '../io.ts'
import { stopSignal } from '../stop-signal.ts'
import { byteWords } from '../text.ts'
import { type Report, verb } from '../verb.ts'
import { inWords } from './in-words.ts'

const dataOption = [
  '--data <dir>',
  'the data folder of a replica on this machine: nobody need be signed in, and the replica may be stopped',
] as const

export const backup = verb(
  {
    name: 'backup',
    summary: 'write a consistent copy of everything into a file, while the cluster runs',
    arguments: ['<file>'],
    options: [dataOption],
    examples: ['parley backup parley-monday.backup', 'parley backup parley.backup --data data/r1'],
  },
  ({ arguments: [file = ''], options: { data } }) => {
    if (file === '') throw new UsageError('which file is the backup to be written to?')
    return { file, data: typeof data === 'string' && data !== '' ? data : null }
  },
  async ({ file, data }, context) => {
    const { io, settings } = context
    const stopSaying = (): AbortSignal => stopSignal(io, 'stopped; nothing was written')
    return inWords(async () => {
      if (data !== null) {
        const { backUpStopped } = await import('../../server/backup-stopped.ts')
        const done = await backUpStopped(data, file, stopSaying())
        if (done !== null) {
          io.err(
            'This replica does not run, so the backup holds what it had applied when it ended. Where it was killed, or others went on without it, start it and back up while it runs.',
          )
          return report(file, done.sizeBytes, done.index, done.at)
        }
      }
      const { BackupWriter } = await import('../../server/backup-file.ts')
      // First, since until something is written Ctrl-C may end all at once.
      const authority = await openAuthority(context, data)
      const stop = stopSaying()
      let writer: BackupWriter | null = null
      try {
        writer = new BackupWriter(file)
        const timeoutMs = settings.isTimeoutGiven ? settings.timeoutMs : copyTimeoutMs
        const started = await fetchAll(authority.client, writer, io, { timeoutMs, stop })
        writer.finish()
        return report(file, started.sizeBytes, started.index, new Date(started.atMs).toISOString())
      } finally {
        writer?.abandon()
        authority.close()
      }
    })
  },
)

function report(file: string, sizeBytes: number, index: number, at: string): Report {
  return {
    data: { file, sizeBytes, index, at },
    lines: [
      `${file}: ${byteWords(sizeBytes)}, everything up to log entry ${index}, ${at}. There are hashes of passwords in it: guard it.`,
    ],
  }
}

const pieceBytes = 512 * 1024
/** A replica takes its time for the copy. */
const copyTimeoutMs = 60_000
/** A replica that ends takes its copy with it: another one makes a new one, so often. */
const attempts = 5

async function fetchAll(
  client: Client,
  writer: BackupWriter,
  io: Io,
  { timeoutMs, stop }: { readonly timeoutMs: number; readonly stop: AbortSignal },
): Promise<ResponseOf<'startBackup'>> {
  const line = new StatusLine(io)
  // Whatever is asked for fails then.
  stop.addEventListener('abort', () => client.close())
  for (let attempt = 1; ; attempt += 1) {
    try {
      stop.throwIfAborted()
      const started = await client.call('startBackup', {}, { timeoutMs, read: 'linearizable' })
      writer.begin({
        clusterId: toHex(started.clusterId),
        faultModel: started.faultModel === 'fail-stop' ? 'fail-stop' : 'majority',
        index: started.index,
        at: new Date(started.atMs).toISOString(),
        version: started.version,
        sizeBytes: started.sizeBytes,
        sha256: toHex(started.sha256),
      })
      while (writer.stateBytes < started.sizeBytes) {
        const { backupId } = started
        const offset = writer.stateBytes
        const { data } = await client.call(
          'readBackup',
          { backupId, offset, maxBytes: pieceBytes },
          { read: 'local' },
        )
        writer.write(data)
        line.show(`${bar(writer.stateBytes / started.sizeBytes)} of ${byteWords(started.sizeBytes)}`)
      }
      return started
    } catch (error) {
      stop.throwIfAborted()
      if (
        !(error instanceof ParleyError && error.reason === 'REASON_BACKUP_NOT_FOUND') ||
        attempt === attempts
      )
        throw error
      io.err('The replica that made the copy is gone; another one makes a new one.')
    }
  }
}
