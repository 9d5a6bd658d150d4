import { assert, unreachable } from '../base/assert.ts'
import type { ReplicaId } from '../base/ids.ts'
import { largestReplicaId } from './codec.ts'
import type { ChangeRefusal, Configuration, ConfigurationChange, Index, Member, Term } from './types.ts'

/** The configurations of the log: the newest one holds from the moment it is appended (Raft dissertation §4.1), and a rolled back one gives way to the one before. */
export class Configurations {
  /** In order of index; the first is the one that held where the log starts. */
  private stack: [Placed, ...Placed[]]
  private votersNow: readonly ReplicaId[]

  constructor(index: Index, configuration: Configuration) {
    this.stack = [{ index, configuration }]
    this.votersNow = votersOf(configuration)
  }

  get current(): Configuration {
    return this.newest.configuration
  }

  /** The newest one that is known to be committed. */
  get committed(): Configuration {
    return this.stack[0].configuration
  }

  /** Where in the log the current one is. */
  get currentIndex(): Index {
    return this.newest.index
  }

  /** Those that would be cut with the log at `index`. */
  from(index: Index): readonly Configuration[] {
    return this.stack.filter((placed) => placed.index >= index).map(({ configuration }) => configuration)
  }

  /** In order of id. */
  get voters(): readonly ReplicaId[] {
    return this.votersNow
  }

  isVoter(id: ReplicaId): boolean {
    return this.votersNow.includes(id)
  }

  /**
   * Whether `id` may campaign: a voter, or one whose removal is not known to be committed. Without the latter those who remain could be waiting for an entry that
   * only the removed one has, and whose vote it refuses because they lack it (Raft dissertation §4.2.2).
   */
  mayLead(id: ReplicaId): boolean {
    const before = this.stack.at(-2)
    return this.isVoter(id) || (before !== undefined && votersOf(before.configuration).includes(id))
  }

  append(index: Index, configuration: Configuration): void {
    assert(index > this.currentIndex, 'configurations out of order', { index, current: this.currentIndex })
    this.stack.push({ index, configuration })
    this.votersNow = votersOf(configuration)
  }

  /** The log was cut: entries from `index` on are gone. */
  cut(index: Index): void {
    while (this.currentIndex >= index) {
      assert(this.stack.length > 1, 'the first configuration was cut', { index })
      this.stack.pop()
    }
    this.votersNow = votersOf(this.current)
  }

  /** Entries up to `index` are committed: what held before them can never come back. Returns whether another one is known to be committed now. */
  settle(index: Index): boolean {
    const { committed } = this
    while (this.stack[1] !== undefined && this.stack[1].index <= index) this.stack.shift()
    return this.committed !== committed
  }

  restart(index: Index, configuration: Configuration): void {
    this.stack = [{ index, configuration }]
    this.votersNow = votersOf(configuration)
  }

  private get newest(): Placed {
    return this.stack.at(-1) ?? this.stack[0]
  }
}

interface Placed {
  readonly index: Index
  readonly configuration: Configuration
}

/** The configuration after `change`, or why there can be none. */
export function changed(
  configuration: Configuration,
  change: ConfigurationChange,
  policy: {
    promoted(member: Member): Member
    mayBeRemoved(member: Member): boolean
  },
): { readonly configuration: Configuration } | { readonly refused: ChangeRefusal } {
  const { members } = configuration
  const member = members.find(({ id }) => id === change.id)
  const replacing = (replacement: Member) => ({
    configuration: {
      ...configuration,
      members: members.map((other) => (other === member ? replacement : other)),
    },
  })
  switch (change.kind) {
    case 'addLearner': {
      // One that asks at two others, since it has no answer of the first, must not become two members.
      if (member !== undefined || members.some(({ address }) => address === change.address))
        return { refused: 'alreadyMember' }
      if (change.id <= highestIdOf(configuration) || change.id > largestReplicaId)
        return { refused: 'idUsed' }
      const added: Member = { id: change.id, voter: false, address: change.address }
      // The highest id is the new member's now; everything else stays, the lineage too.
      const { highestId: _, ...rest } = configuration
      return { configuration: { ...rest, members: [...members, added] } }
    }
    case 'promote':
      if (member === undefined) return { refused: 'notMember' }
      if (member.voter) return { refused: 'alreadyMember' }
      return replacing(policy.promoted(member))
    case 'remove':
      if (member === undefined) return { refused: 'notMember' }
      if (!policy.mayBeRemoved(member)) return { refused: 'stillAlive' }
      return {
        configuration: {
          ...configuration,
          members: members.filter((other) => other !== member),
          ...(change.id === members.at(-1)?.id ? { highestId: highestIdOf(configuration) } : {}),
        },
      }
    case 'setAddress':
      if (member === undefined) return { refused: 'notMember' }
      return replacing({ ...member, address: change.address })
    default:
      return unreachable(change)
  }
}

/** The highest id that a replica was ever given. */
export function highestIdOf({ members, highestId }: Configuration): ReplicaId {
  return Math.max(highestId ?? 0, members.at(-1)?.id ?? 0)
}

/** Of which term the entry at `index` is, by the configuration of the log that holds it; null when that does not reach back so far. */
export function termByLineage({ lineage = [] }: Configuration, index: Index): Term | null {
  return lineage.findLast((start) => start.index <= index)?.term ?? null
}

export function votersOf(configuration: Configuration): readonly ReplicaId[] {
  return configuration.members.filter((member) => member.voter).map((member) => member.id)
}
