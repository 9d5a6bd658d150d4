import { fromHex } from '../base/bytes.ts'
import { ParleyError, reasonKinds } from '../client/index.ts'
import type { InputOf } from '../client/index.ts'
import type { Target } from '../gen/parley/v1/model.ts'
import type { SaveDraftResponse } from '../gen/parley/v1/service.ts'

/** A draft as it was typed, not known to be saved. */
export interface UnsavedDraft {
  /** The hexadecimal form of the draft's id. */
  readonly key: string
  readonly account: number
  readonly baseVersion: number
  readonly text: string
  readonly recipients: readonly Target[]
  /** Why the cluster does not take it; null while it is tried. */
  readonly refused: string | null
}

/** Keeps them across reloads; they take effect at once. */
export interface DraftStorage {
  readonly load: () => readonly UnsavedDraft[]
  /** Takes the place of one with the same key. */
  readonly put: (draft: UnsavedDraft) => void
  readonly remove: (key: string) => void
}

/** What became of saving a draft. `waiting`: it could not be asked for to the end; it is tried again when the account signs in next. */
export type Saved =
  | { readonly kind: 'saved'; readonly hasConflictCopy: boolean }
  | { readonly kind: 'refused'; readonly error: ParleyError }
  | { readonly kind: 'waiting' }

export interface UnsavedDraftsPorts {
  readonly storage: DraftStorage
  /** Tries until the cluster answers, or the session ends. */
  readonly save: (input: InputOf<'saveDraft'>) => Promise<SaveDraftResponse>
  readonly onChange: () => void
}

/** Drafts on their way to the cluster: on this device until it has them. */
export class UnsavedDrafts {
  private readonly ports: UnsavedDraftsPorts
  private readonly drafts = new Map<string, UnsavedDraft>()

  constructor(ports: UnsavedDraftsPorts) {
    this.ports = ports
  }

  get items(): readonly UnsavedDraft[] {
    return [...this.drafts.values()]
  }

  /** Goes on with those that this account has left behind. */
  begin(account: number): void {
    for (const draft of this.ports.storage.load()) {
      if (draft.account !== account || this.drafts.has(draft.key)) continue
      if (draft.refused === null) void this.save(draft)
      else this.keep(draft)
    }
  }

  async save(draft: UnsavedDraft): Promise<Saved> {
    const { key, text, recipients } = draft
    this.keep(draft)
    const ask = (baseVersion: number): Promise<SaveDraftResponse> =>
      this.ports.save({ draftId: fromHex(key), baseVersion, text, recipients: [...recipients] })
    try {
      const { conflictCopy } = await ask(draft.baseVersion).catch((error: unknown) => {
        // Sent or deleted meanwhile, by another device: what was typed here becomes a draft of its own.
        if (error instanceof ParleyError && error.reason === 'REASON_DRAFT_NOT_FOUND') return ask(0)
        throw error
      })
      this.discard(key)
      return { kind: 'saved', hasConflictCopy: conflictCopy !== undefined }
    } catch (error) {
      if (!(error instanceof ParleyError)) throw error
      if (reasonKinds[error.reason] !== 'final' || sessionEnds.has(error.reason)) return { kind: 'waiting' }
      this.keep({ ...draft, refused: error.message })
      return { kind: 'refused', error }
    }
  }

  discard(key: string): void {
    this.drafts.delete(key)
    this.ports.storage.remove(key)
    this.ports.onChange()
  }

  private keep(draft: UnsavedDraft): void {
    this.drafts.set(draft.key, draft)
    this.ports.storage.put(draft)
    this.ports.onChange()
  }
}

const sessionEnds: ReadonlySet<ParleyError['reason']> = new Set([
  'REASON_NOT_SIGNED_IN',
  'REASON_SESSION_EXPIRED',
  'REASON_ACCOUNT_NOT_FOUND',
])

const keyPrefix = 'parley-draft-'

/** In the browser's local storage, an entry each, so that windows do not overwrite each other's. */
export function browserDraftStorage(storage: Storage): DraftStorage {
  return {
    load: () =>
      Object.keys(storage)
        .filter((key) => key.startsWith(keyPrefix))
        .map((key) => JSON.parse(storage.getItem(key) ?? 'null') as UnsavedDraft),
    put: (draft) => storage.setItem(keyPrefix + draft.key, JSON.stringify(draft)),
    remove: (key) => storage.removeItem(keyPrefix + key),
  }
}
