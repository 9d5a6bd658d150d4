const keyPrefix = 'parley-unsent '

/** What was typed and not sent, by place (an account's conversation): it is there again when one comes back, and after the page was loaded anew. */
export class UnsentTexts {
  private readonly storage: Storage
  private readonly texts = new Map<string, string>()

  /** @param storage of the tab, so that two tabs do not write into each other's box. */
  constructor(storage: Storage) {
    this.storage = storage
    for (const key of Object.keys(storage))
      if (key.startsWith(keyPrefix)) this.texts.set(key.slice(keyPrefix.length), storage.getItem(key) ?? '')
  }

  get(place: string): string {
    return this.texts.get(place) ?? ''
  }

  set(place: string, text: string): void {
    if (text === '') this.texts.delete(place)
    else this.texts.set(place, text)
    try {
      if (text === '') this.storage.removeItem(keyPrefix + place)
      else this.storage.setItem(keyPrefix + place, text)
    } catch {
      // No room: then it lasts as long as the page.
    }
  }

  /** Who signs out leaves nothing behind. */
  clear(): void {
    for (const place of this.texts.keys()) this.set(place, '')
  }
}
