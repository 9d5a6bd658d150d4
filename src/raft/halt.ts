/**
 * The assumption of the `fail-stop` model was broken and this replica must not go on, though nothing is wrong with its disk:
 * - `diverged`: it has committed something that the others have not, or the other way round; both went on without each other;
 * - `takenForDead`: the others went on without this process, which lives. It has committed nothing that they have not, and can start again.
 */
export class HaltError extends Error {
  override readonly name = 'HaltError'
  readonly reason: 'diverged' | 'takenForDead'

  constructor(reason: 'diverged' | 'takenForDead', message: string) {
    super(message)
    this.reason = reason
  }

  /** Whoever has diverged could go on alone and promise still more, so it stays down until an operator has chosen a side. */
  get mayStartAgain(): boolean {
    return this.reason === 'takenForDead'
  }
}
