import type { ClientState, OutboxItem } from '../../client/index.ts'
import type { UnsavedDraft } from '../unsaved-drafts.ts'
import type { Chat } from './chat.ts'

/** What the page shows, as one value. */
export interface AppState {
  readonly phase: 'starting' | 'signIn' | 'chat'
  readonly connection: ClientState
  readonly chat: Chat | null
  /** Messages that were written here and are not known to be sent, in order. */
  readonly outbox: readonly OutboxItem[]
  /** Drafts that were typed here and are not known to be saved. */
  readonly unsavedDrafts: readonly UnsavedDraft[]
  /** Own direct messages that were sent from here, by the hexadecimal form of their id: whether the other one was connected then. */
  readonly delivered: ReadonlyMap<string, boolean>
  readonly route: Route
  readonly notices: readonly Notice[]
  /** Where the line "new" stands in the open conversation; it stays while one reads. */
  readonly divider: { readonly conversation: number; readonly afterSeq: number } | null
}

export interface Notice {
  readonly id: number
  readonly kind: 'info' | 'error'
  readonly text: string
}

export type Route =
  | { readonly page: 'conversation'; readonly id: number; readonly seq: number | null }
  /** A direct conversation that has no message yet. */
  | { readonly page: 'direct'; readonly name: string }
  | { readonly page: 'home' | 'inbox' | 'drafts' | 'people' | 'rooms' | 'search' | 'settings' | 'cluster' }

const plainPages = ['inbox', 'drafts', 'people', 'rooms', 'search', 'settings', 'cluster'] as const

/** The route of an address's fragment, such as `#/c/12` or `#/inbox`. Whatever is not known is the home page. */
export function parseRoute(hash: string): Route {
  const [page = '', first = '', second = ''] = hash.replace(/^#\/?/, '').split('/')
  if (page === 'c' && /^[1-9][0-9]{0,15}$/.test(first)) {
    return {
      page: 'conversation',
      id: Number(first),
      seq: /^[1-9][0-9]{0,15}$/.test(second) ? Number(second) : null,
    }
  }
  if (page === 'to' && /^[A-Za-z0-9_-]{1,50}$/.test(first)) return { page: 'direct', name: first }
  return { page: plainPages.find((name) => name === page) ?? 'home' }
}

export function routeHash(route: Route): string {
  switch (route.page) {
    case 'conversation':
      return route.seq === null ? `#/c/${route.id}` : `#/c/${route.id}/${route.seq}`
    case 'direct':
      return `#/to/${route.name}`
    case 'home':
      return '#/'
    default:
      return `#/${route.page}`
  }
}
