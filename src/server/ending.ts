interface End {
  readonly code: number
  readonly isGraceful: boolean
}

/** How the replica comes to its end. */
export class Ending {
  private resolve: (end: End) => void = () => undefined
  private hurry: () => void = () => undefined
  private wasAsked = false
  readonly reached = new Promise<End>((resolve) => {
    this.resolve = resolve
  })
  /** Somebody does not want to wait for a graceful end: nothing is lost without it. */
  readonly hurried = new Promise<void>((resolve) => {
    this.hurry = resolve
  })

  now(code: number): void {
    this.resolve({ code, isGraceful: false })
  }

  /** Gracefully at first, and at once when asked again. */
  asked(): void {
    if (this.wasAsked) this.hurry()
    this.wasAsked = true
    this.gracefully()
  }

  gracefully(code = 0): void {
    this.resolve({ code, isGraceful: true })
  }
}
