import { exitCodes } from '../io.ts'
import { safeJsonText } from '../text.ts'
import { verb } from '../verb.ts'

export const exportVerb = verb(
  {
    name: 'export',
    summary: 'print what is stored as JSON lines: your own data, or all of it (docs/EXPORT.md)',
    arguments: [],
    options: [['--all', 'everything, for administrators']],
    examples: ['parley export > mine.jsonl', 'parley export --all > all.jsonl'],
  },
  ({ options }) => ({ all: options['all'] === true }),
  async ({ all }, { io, session }) => {
    const client = session().signedIn()
    let pageToken = ''
    do {
      const page = await client.call(
        'export',
        { all, pageToken },
        { timeoutMs: 60_000, read: 'linearizable' },
      )
      const text = new TextDecoder().decode(page.lines)
      // A line end is added.
      if (text !== '') io.out(safeJsonText(text.slice(0, -1)))
      if (!(await io.drained())) break
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    return exitCodes.ok
  },
)
