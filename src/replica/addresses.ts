/** Where one replica is found: `host:port` each. Kept in the replica set as one text. */
export interface ReplicaAddresses {
  readonly peer: string
  readonly http: string
  readonly grpc: string
}

/** The text that the replica set keeps. */
export function formatAddresses(addresses: ReplicaAddresses): string {
  return `${addresses.peer} ${addresses.http} ${addresses.grpc}`
}

/** What {@link formatAddresses} wrote; of another text, all of it is the peer address. */
export function parseAddresses(text: string): ReplicaAddresses {
  const [peer = '', http = '', grpc = ''] = text.split(' ')
  return { peer, http, grpc }
}
