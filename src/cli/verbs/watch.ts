import { type Client, describeState } from '../../client/index.ts'
import type { Message } from '../../gen/parley/v1/model.ts'
import type { Event } from '../../gen/parley/v1/service.ts'
import { exitCodes } from '../io.ts'
import { Labels } from '../names.ts'
import { accountJson, type Look, lookOf, messageJson, messageLine } from '../present.ts'
import { paint, safeJson } from '../text.ts'
import { verb } from '../verb.ts'

export const watch = verb(
  {
    name: 'watch',
    summary: 'show messages as they come, until Ctrl-C; with --json one event to a line',
    arguments: [],
    options: [],
  },
  () => ({}),
  async (_, { io, session, settings }) => {
    const client = session().signedIn()
    const labels = new Labels(client)
    const colors = paint(io.color)
    const print = (event: Event): void => {
      if (settings.json) {
        const data = eventJson(event, labels)
        if (data !== null) io.out(safeJson(data))
        return
      }
      const line = eventLine(event, client, labels, lookOf(io))
      if (line !== null) io.out(line)
    }
    // One after the other, since a label may have to be asked for first.
    let printed: Promise<void> = Promise.resolve()
    const stopEvents = client.subscribe(0, (events) => {
      printed = printed.then(async () => {
        // A conversation that cannot be asked for is shown by its number.
        await labels.of(events.flatMap(messagesOf)).catch(() => undefined)
        for (const event of events) print(event)
      })
    })
    return new Promise<number>((resolve) => {
      const stopStates = client.onState((state) => {
        io.err(colors.dim(describeState(state)))
        if (state.kind === 'signedOut') finish(exitCodes.notSignedIn)
      })
      const finish = (code: number): void => {
        stopStates()
        stopEvents()
        void printed.then(() => resolve(code))
      }
      void io.stopped.then(() => finish(exitCodes.ok))
    })
  },
)

function messagesOf({ event }: Event): readonly Message[] {
  return event?.$case === 'message' || event?.$case === 'messageEdited' || event?.$case === 'messageDeleted'
    ? [event.value]
    : []
}

function eventLine({ event }: Event, reader: Client, labels: Labels, look: Look): string | null {
  switch (event?.$case) {
    case 'message':
    case 'messageEdited':
      return messageLine(event.value, { reader, label: labels.get(event.value.conversation) }, look)
    case 'messageDeleted': {
      const label = labels.get(event.value.conversation)
      return messageLine({ ...event.value, deleted: true }, { reader, label }, look)
    }
    case 'resync':
      return look.colors.dim('(events were missed: see "inbox" and "read")')
    default:
      return null
  }
}

/** Null for what says nothing to a program that follows the conversations. */
function eventJson({ event, position }: Event, labels: Labels): unknown {
  switch (event?.$case) {
    case 'message':
      return {
        event: 'message',
        position,
        ...object(messageJson(event.value, labels.get(event.value.conversation))),
      }
    case 'messageEdited':
      return {
        event: 'edited',
        position,
        ...object(messageJson(event.value, labels.get(event.value.conversation))),
      }
    case 'messageDeleted':
      return {
        event: 'deleted',
        position,
        ...object(messageJson(event.value, labels.get(event.value.conversation))),
      }
    case 'account':
      return { event: 'account', position, account: accountJson(event.value) }
    case 'resync':
      return { event: 'resync', position }
    default:
      return null
  }
}

function object(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {}
}
