import { toHex } from '../../base/bytes.ts'
import { allDrafts, type Client } from '../../client/index.ts'
import type { Draft, Target } from '../../gen/parley/v1/model.ts'
import { CliError, exitCodes, UsageError } from '../io.ts'
import { parseTarget, targetLabel } from '../names.ts'
import {
  draftJson,
  draftLine,
  draftName,
  draftOutcomeJson,
  draftOutcomeLine,
  type Look,
  lookOf,
} from '../present.ts'
import { plural, printable } from '../text.ts'
import { type Context, type Report, verb } from '../verb.ts'

/** The server's limit on one request. */
const mostAtOnce = 100

export const draftsList = verb(
  { name: 'drafts list', summary: 'your drafts, the same on every device', arguments: [], options: [] },
  () => ({}),
  (_, context) => draftsReport(context.session().signedIn(), lookOf(context.io)),
)

export const draftsNew = verb(
  {
    name: 'drafts new',
    summary: 'keep a text to be sent later',
    arguments: ['<text...>'],
    options: [['--to <names>', 'to whom, separated by commas: bob,#dev']],
    examples: ["parley drafts new --to 'bob,#dev' see you at six", 'parley drafts new - < text'],
  },
  ({ arguments: words, options }) => ({
    text: textFrom(words),
    recipients: recipientsFrom(options['to']) ?? [],
  }),
  async ({ text, recipients }, context) =>
    newDraft(context.session().signedIn(), { text: text ?? (await inputText(context)), recipients }),
)

export const draftsEdit = verb(
  {
    name: 'drafts edit',
    summary: 'change the text of a draft, its recipients, or both',
    arguments: ['<draft>', '[text...]'],
    options: [['--to <names>', 'to whom from now on, separated by commas']],
    examples: ['parley drafts edit a3f9c2 better words', 'parley drafts edit a3f9c2 --to bob,carol'],
  },
  ({ arguments: [draft, ...words], options }) => {
    const recipients = recipientsFrom(options['to'])
    if (words.length === 0 && recipients === null) throw new UsageError('say the new text, or --to whom')
    return { draft: draft ?? '', text: words.length === 0 ? undefined : textFrom(words), recipients }
  },
  async ({ draft, text, recipients }, context) =>
    editDraft(context.session().signedIn(), draft, {
      text: text === null ? await inputText(context) : (text ?? null),
      recipients,
    }),
)

export const draftsSend = verb(
  {
    name: 'drafts send',
    summary: 'send drafts, each to all its recipients; tells what became of each',
    arguments: ['[drafts...]'],
    options: [['--all', 'all of them']],
  },
  ({ arguments: names, options }) => which(names, options['all'] === true),
  (names, context) => sendDrafts(context.session().signedIn(), names, lookOf(context.io)),
)

export const draftsRemove = verb(
  {
    name: 'drafts rm',
    summary: 'throw drafts away',
    arguments: ['[drafts...]'],
    options: [['--all', 'all of them']],
  },
  ({ arguments: names, options }) => which(names, options['all'] === true),
  (names, context) => removeDrafts(context.session().signedIn(), names),
)

export async function draftsReport(client: Client, look: Look): Promise<Report> {
  const drafts = await allDrafts(client)
  return {
    data: { drafts: drafts.map(draftJson) },
    lines:
      drafts.length === 0 ? [look.colors.dim('No drafts.')] : drafts.map((draft) => draftLine(draft, look)),
  }
}

export async function newDraft(
  client: Client,
  { text, recipients }: { readonly text: string; readonly recipients: readonly Target[] },
): Promise<Report> {
  const { draft } = await client.call('saveDraft', { draftId: client.newId(), text, recipients })
  return savedReport(draft, undefined)
}

/** Null leaves the text, or the recipients, as they are. */
export async function editDraft(
  client: Client,
  name: string,
  change: { readonly text: string | null; readonly recipients: readonly Target[] | null },
): Promise<Report> {
  const draft = pick(await allDrafts(client), name)
  const saved = await client.call('saveDraft', {
    draftId: draft.id,
    baseVersion: draft.version,
    text: change.text ?? draft.text,
    recipients: change.recipients ?? draft.recipients,
  })
  return savedReport(saved.draft, saved.conflictCopy)
}

/** @param names null = all. */
export async function sendDrafts(
  client: Client,
  names: readonly string[] | null,
  look: Look,
): Promise<Report> {
  const ids = await idsOf(client, names)
  if (ids.length === 0) return { data: { outcomes: [] }, lines: [look.colors.dim('No drafts.')] }
  const outcomes = []
  for (let i = 0; i < ids.length; i += mostAtOnce) {
    const part = await client.call('sendDrafts', { draftIds: ids.slice(i, i + mostAtOnce) })
    outcomes.push(...part.outcomes)
  }
  const failed = outcomes.filter((one) => one.outcome?.$case === 'rejected').length
  return {
    data: { outcomes: outcomes.map(draftOutcomeJson) },
    lines: [
      ...outcomes.map((one) => draftOutcomeLine(one, look.colors)),
      ...(failed === 0
        ? []
        : [look.colors.red(`${failed} of ${outcomes.length} could not be sent; their drafts are kept.`)]),
    ],
    exitCode: failed === 0 ? exitCodes.ok : exitCodes.error,
  }
}

/** @param names null = all. */
export async function removeDrafts(client: Client, names: readonly string[] | null): Promise<Report> {
  const draftIds = await idsOf(client, names)
  let deleted = 0
  for (let i = 0; i < draftIds.length; i += mostAtOnce)
    deleted += (await client.call('deleteDrafts', { draftIds: draftIds.slice(i, i + mostAtOnce) })).deleted
  return { data: { deleted }, lines: [`${plural(deleted, 'draft')} thrown away.`] }
}

/** The draft that a name stands for: the last digits of its id, as many as make it clear. */
export function pick(drafts: readonly Draft[], name: string): Draft {
  const found = /^[0-9a-f]{3,32}$/i.test(name)
    ? drafts.filter((draft) => toHex(draft.id).endsWith(name.toLowerCase()))
    : []
  const [first, ...others] = found
  if (first === undefined) throw new CliError(`There is no draft "${printable(name)}": see drafts list.`)
  if (others.length > 0)
    throw new CliError(
      `"${name}" could be ${found.map((draft) => toHex(draft.id)).join(' or ')}: say more of it.`,
    )
  return first
}

export function recipientsFrom(to: unknown): readonly Target[] | null {
  if (typeof to !== 'string') return null
  const names = to
    .split(',')
    .map((name) => name.trim().replace(/^@/, ''))
    .filter((name) => name !== '')
  // Nobody gets a draft twice because they were named twice.
  return [...new Map(names.map((name) => [name.toLowerCase(), name])).values()].map(parseTarget)
}

async function idsOf(client: Client, names: readonly string[] | null): Promise<readonly Uint8Array[]> {
  const drafts = await allDrafts(client)
  if (names !== null) return names.map((name) => pick(drafts, name).id)
  // Oldest first, as they were written.
  return drafts.map((draft) => draft.id).reverse()
}

function which(names: readonly string[], all: boolean): readonly string[] | null {
  if (all === names.length > 0)
    throw new UsageError('say which drafts, as "drafts list" names them, or --all')
  return all ? null : names
}

/** Null: from standard input. */
function textFrom(words: readonly string[]): string | null {
  return words.length === 1 && words[0] === '-' ? null : words.join(' ')
}

async function inputText({ io }: Context): Promise<string> {
  return (await io.readInput()).replace(/\r?\n$/, '')
}

function savedReport(draft: Draft | undefined, conflictCopy: Draft | undefined): Report {
  const name = draft === undefined ? '' : draftName(draft)
  const to = draft?.recipients.map(targetLabel).join(', ') ?? ''
  return {
    data: {
      draft: draft === undefined ? null : draftJson(draft),
      conflictCopy: conflictCopy === undefined ? null : draftJson(conflictCopy),
    },
    lines: [
      `Draft ${name} is kept${to === '' ? '' : `, to ${printable(to)}`}.`,
      ...(conflictCopy === undefined
        ? []
        : [`Another device had changed it: that text is kept as draft ${draftName(conflictCopy)}.`]),
    ],
  }
}
