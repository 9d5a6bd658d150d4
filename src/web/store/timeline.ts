import type { Message } from '../../gen/parley/v1/model.ts'

/** The part of a conversation's history that is loaded: messages in order of seq, one stretch without a hole. */
export interface Timeline {
  readonly messages: readonly Message[]
  /** The numbers that the stretch covers, those of deleted messages included; 0 when it is empty. */
  readonly firstSeq: number
  readonly lastSeq: number
  readonly moreBefore: boolean
  readonly moreAfter: boolean
}

export const emptyTimeline: Timeline = {
  messages: [],
  firstSeq: 0,
  lastSeq: 0,
  moreBefore: false,
  moreAfter: false,
}

/** Adds messages, or puts them in the place of the ones with their numbers. */
export function timelineWith(timeline: Timeline, added: readonly Message[]): Timeline {
  const newest = timeline.messages.at(-1)
  const first = added[0]
  if (first === undefined) return timeline
  if (newest === undefined || first.seq > newest.seq)
    return { ...timeline, messages: [...timeline.messages, ...added] }
  const bySeq = new Map(timeline.messages.map((message) => [message.seq, message]))
  for (const message of added) bySeq.set(message.seq, message)
  return { ...timeline, messages: [...bySeq.values()].sort((a, b) => a.seq - b.seq) }
}

export function timelineWithout(timeline: Timeline, seq: number): Timeline {
  return { ...timeline, messages: timeline.messages.filter((message) => message.seq !== seq) }
}

/** Without what was removed up to `upTo`. */
export function timelineAfter(timeline: Timeline, upTo: number): Timeline {
  if (timeline.firstSeq === 0 || timeline.firstSeq > upTo) return timeline
  if (timeline.lastSeq <= upTo) return { ...emptyTimeline, moreAfter: timeline.moreAfter }
  return {
    ...timeline,
    messages: timeline.messages.filter(({ seq }) => seq > upTo),
    firstSeq: upTo + 1,
    moreBefore: false,
  }
}

/** Drops what is far from the end that is being looked at, so that a long history stays quick: it is loaded again when it is needed. */
export function timelineTrimmed(timeline: Timeline, keep: 'oldest' | 'newest', limit: number): Timeline {
  if (timeline.messages.length <= limit) return timeline
  if (keep === 'newest') {
    const messages = timeline.messages.slice(-limit)
    return { ...timeline, messages, firstSeq: messages[0]?.seq ?? 0, moreBefore: true }
  }
  const messages = timeline.messages.slice(0, limit)
  return { ...timeline, messages, lastSeq: messages.at(-1)?.seq ?? 0, moreAfter: true }
}
