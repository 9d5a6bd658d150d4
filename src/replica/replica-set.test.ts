import assert from 'node:assert/strict'
import { test } from 'node:test'
import type {
  LogStatus,
  ReplicaSetChange as LogChange,
  ReplicaSetRefusal,
  ReplicatedLog,
} from '../log/port.ts'
import { formatAddresses } from './addresses.ts'
import { changeReplicaSet, type ReplicaSetChange } from './replica-set.ts'

const addresses = (id: number) => ({ peer: `h:${id}`, http: `h:1${id}`, grpc: `h:2${id}` })

/** A log of these voters and, as r9, a learner; those that are `down` cannot be reached. It refuses everything for one reason, or nothing. */
function logOf(
  voters: readonly number[],
  {
    down = [],
    earlier = [],
    leader = 1,
    refuses = null,
    faultModel = 'majority',
  }: {
    down?: readonly number[]
    earlier?: readonly number[]
    leader?: number
    refuses?: ReplicaSetRefusal | null
    faultModel?: string
  },
): Pick<ReplicatedLog, 'change' | 'status'> & { readonly asked: LogChange[] } {
  const asked: LogChange[] = []
  const members = [...voters, 9].map((id) => ({
    id,
    voter: id !== 9,
    address: formatAddresses(addresses(id)),
    reachable: !down.includes(id),
    version: earlier.includes(id) ? 1 : 2,
  }))
  return {
    asked,
    change(change) {
      asked.push(change)
      return Promise.resolve(refuses === null ? { ok: true, id: change.id } : { ok: false, refused: refuses })
    },
    // The rest of the status says nothing here.
    status: () => ({ leader, self: 1, voters: voters.length, members, faultModel }) as unknown as LogStatus,
  }
}

async function refusal(wanted: ReplicaSetChange, log: ReturnType<typeof logOf>): Promise<string> {
  const answer = await changeReplicaSet(log, wanted, 1000)
  return answer.ok ? 'made' : `${answer.reason.slice('REASON_'.length)}: ${answer.message}`
}

test('a refusal for the sake of the quorum names who is needed, and what works instead', async () => {
  const refuses = 'quorumAtRisk'
  assert.equal(
    await refusal({ kind: 'remove', replica: 2 }, logOf([1, 2, 3], { down: [3], refuses })),
    'QUORUM_AT_RISK: Without r2, 2 of r1 and r3 would be needed, and only r1 can be reached. Start r3 first, or remove it in place of r2: parley replica remove r3',
  )
  assert.equal(
    await refusal({ kind: 'remove', replica: 5 }, logOf([1, 2, 3, 4, 5], { down: [2, 3], refuses })),
    'QUORUM_AT_RISK: Without r5, 3 of r1, r2, r3 and r4 would be needed, and only r1 and r4 can be reached. Start r2 first, or remove it in place of r5: parley replica remove r2',
  )
  assert.equal(
    await refusal({ kind: 'remove', replica: 1 }, logOf([1], { refuses })),
    'QUORUM_AT_RISK: r1 is the only replica with a vote: without it nothing would be left. Add another one first: parley replica add, or parley join',
  )
  assert.equal(
    await refusal({ kind: 'promote', replica: 9 }, logOf([1, 2, 3], { down: [2, 3], refuses })),
    'QUORUM_AT_RISK: With a vote for r9, 3 replicas would be needed, and fewer can be reached. Start r2 and r3 first.',
  )
})

test('in the fault model fail-stop all must be there, and none that may live can go instead', async () => {
  const faultModel = 'fail-stop'
  const refuses = 'quorumAtRisk'
  assert.equal(
    await refusal({ kind: 'remove', replica: 9 }, logOf([1, 2, 3], { down: [3, 9], refuses, faultModel })),
    'QUORUM_AT_RISK: Without r9, all of r1, r2 and r3 would be needed, and only r1 and r2 can be reached. Start r3 first.',
  )
  assert.equal(
    await refusal({ kind: 'promote', replica: 9 }, logOf([1, 2, 3], { down: [3], refuses, faultModel })),
    'QUORUM_AT_RISK: With a vote for r9, all 4 replicas would be needed, and fewer can be reached. Start r3 first.',
  )
  assert.equal(
    await refusal({ kind: 'remove', replica: 2 }, logOf([1, 2], { refuses: 'stillAlive', faultModel })),
    'REPLICA_NOT_READY: r2 still runs. In the fault model fail-stop a replica must be stopped before it is removed: stop r2, wait until parley replica list shows it as a learner, and on the machine of another replica: parley replica remove r2 --data DIR',
  )
  assert.match(
    await refusal({ kind: 'remove', replica: 1 }, logOf([1], { refuses: 'stillAlive', faultModel })),
    /^QUORUM_AT_RISK: r1 is the only replica with a vote/,
  )
})

test('each refusal of the log has its reason and its way out', async () => {
  const said = async (refuses: ReplicaSetRefusal, wanted: ReplicaSetChange): Promise<string> =>
    await refusal(wanted, logOf([1, 2, 3], { refuses, down: [9] }))
  assert.match(await said('unavailable', { kind: 'remove', replica: 2 }), /^NO_QUORUM: .*parley status/)
  assert.match(
    await said('unknown', { kind: 'remove', replica: 2 }),
    /^OUTCOME_UNKNOWN: .*parley replica list/,
  )
  assert.match(await said('inProgress', { kind: 'remove', replica: 2 }), /^CHANGE_IN_PROGRESS: /)
  assert.match(await said('alreadyMember', { kind: 'promote', replica: 2 }), /^REPLICA_EXISTS: r2 has a vote/)
  assert.match(
    await said('notMember', { kind: 'remove', replica: 7 }),
    /^REPLICA_NOT_FOUND: There is no r7; there are r1, r2, r3 and r9\.$/,
  )
  assert.match(
    await said('notCaughtUp', { kind: 'promote', replica: 9 }),
    /^REPLICA_NOT_READY: r9 cannot be reached.*Start it first\.$/,
  )
  assert.match(
    await said('notVoter', { kind: 'handOver', replica: 9 }),
    /^REPLICA_NOT_READY: .*parley replica promote r9$/,
  )
  assert.match(
    await said('notTaken', { kind: 'handOver', replica: 2 }),
    /^REPLICA_NOT_READY: r2 did not take over in time; r1 goes on\.$/,
  )
  assert.match(
    await said('idUsed', { kind: 'add', replica: 4, addresses: addresses(4) }),
    /^REPLICA_EXISTS: r4 was used before, and ids are never used again/,
  )
})

test('what must wait for an upgrade says whom to upgrade first', async () => {
  const refuses = 'upgradePending'
  assert.equal(
    await refusal({ kind: 'promote', replica: 9 }, logOf([1, 2, 3], { earlier: [2], leader: 2, refuses })),
    'UPGRADE_PENDING: r2 leads and is of an earlier version of Parley, which takes no changes of the replica set. Upgrade it first: when it is stopped, another one leads.',
  )
  assert.equal(
    await refusal({ kind: 'remove', replica: 9 }, logOf([1, 2, 3], { earlier: [2, 9], refuses })),
    'UPGRADE_PENDING: That the id of r9 is never given again is something that all must remember, and an earlier version of Parley cannot. Upgrade r2 first, or remove what is lost.',
  )
})

test('a replica that was added before it lost the answer is added once; another one cannot have its address', async () => {
  const log = logOf([1, 2, 3], {})
  const again = await changeReplicaSet(log, { kind: 'add', replica: 0, addresses: addresses(9) }, 1000)
  assert.deepEqual(again, { ok: true, replica: 9 })
  const other = { ...addresses(2), http: 'elsewhere:1' }
  assert.match(
    await refusal({ kind: 'add', replica: 0, addresses: other }, log),
    /^REPLICA_EXISTS: r2 has the address h:2 already/,
  )
  assert.deepEqual(log.asked, [])
})

test('a replica that another one lets in meanwhile gets the id that it was given there', async () => {
  const log = logOf([1, 2, 3], { refuses: 'alreadyMember' })
  const status = (): LogStatus => {
    const { members, ...rest } = log.status()
    return { ...rest, members: members.filter(({ id }) => id !== 9 || log.asked.length > 0) }
  }
  const wanted = { kind: 'add', replica: 0, addresses: addresses(9) } as const
  assert.deepEqual(await changeReplicaSet({ ...log, status }, wanted, 1000), { ok: true, replica: 9 })
})
