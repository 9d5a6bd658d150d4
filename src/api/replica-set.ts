import { unreachable } from '../base/assert.ts'
import type { ReplicaSetChange } from '../replica/replica-set.ts'
import type { Replica } from '../replica/types.ts'
import { failed, type Answer, type Op, type Result } from './calls.ts'
import { makeError } from './errors.ts'

/** Requests for a change of the replica set, or of who leads. */
export type ReplicaSetOp = Extract<
  Op,
  { $case: 'addReplica' | 'promoteReplica' | 'removeReplica' | 'transferLeadership' }
>

/** Makes the change, and answers with what it came to. The caller has been found to be allowed to. */
export function answerReplicaSet(
  replica: Replica,
  op: ReplicaSetOp,
  timeoutMs: number,
  answer: Answer,
): void {
  // A promise that rejects is a bug, and ends the process as any other.
  void replica.change(changeOf(op), timeoutMs).then((made) => {
    if (made.ok) answer(resultOf(replica, op, made.replica), 0)
    else answer(failed(makeError(made.reason, { message: made.message })), 0)
  })
}

function changeOf({ $case, value }: ReplicaSetOp): ReplicaSetChange {
  switch ($case) {
    case 'addReplica': {
      const { peerAddress, httpAddress, grpcAddress } = value
      return {
        kind: 'add',
        replica: value.replica,
        addresses: { peer: peerAddress, http: httpAddress, grpc: grpcAddress },
      }
    }
    case 'promoteReplica':
      return { kind: 'promote', replica: value.replica }
    case 'removeReplica':
      return { kind: 'remove', replica: value.replica }
    case 'transferLeadership':
      return { kind: 'handOver', replica: value.replica }
    default:
      return unreachable($case)
  }
}

function resultOf(replica: Replica, { $case }: ReplicaSetOp, changed: number): Result {
  switch ($case) {
    case 'addReplica': {
      const { clusterId, faultModel } = replica.status()
      return { $case, value: { replica: changed, clusterId, faultModel } }
    }
    case 'promoteReplica':
    case 'removeReplica':
      return { $case, value: {} }
    case 'transferLeadership':
      return { $case, value: { leader: changed } }
    default:
      return unreachable($case)
  }
}
