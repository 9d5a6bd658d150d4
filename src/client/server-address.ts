/** How a replica is reached: `host:port` in plain text, `parleys://host:port` over TLS, `parleys://host:port#sha256=HEX` over TLS with the cluster's authority pinned. */
export interface ServerAddress {
  /** host:port; a port that is missing is the one of the protocol. */
  readonly host: string
  readonly secure: boolean
  /** SHA-256 of the certificate of the authority that must have signed the replica's, 64 hexadecimal digits; null = those that the platform trusts. */
  readonly pin: string | null
}

const form =
  /^(?:(parleys):\/\/)?((?:\[[0-9A-Fa-f:.]+\]|[^\s:/[\]#]+)(?::[0-9]{1,5})?)(?:#sha256=([0-9A-Fa-f]{64}))?$/

/** Reads an address; null when it is none. */
export function parseServerAddress(text: string): ServerAddress | null {
  const match = form.exec(text)
  const given = match?.[2]
  if (match === null || given === undefined) return null
  const secure = match[1] !== undefined
  const pin = match[3]?.toLowerCase() ?? null
  if (pin !== null && !secure) return null
  const port = /:([0-9]+)$/.exec(given)?.[1]
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) return null
  return { host: given, secure, pin }
}

/** What {@link parseServerAddress} reads. */
export function formatServerAddress({ host, secure, pin }: ServerAddress): string {
  if (!secure) return host
  return `parleys://${host}${pin === null ? '' : `#sha256=${pin}`}`
}

/** The address of another replica, host:port, as a replica that was reached at `known` tells it: it is reached in the same way. */
export function addressBeside(known: string, host: string): string {
  if (known.startsWith('wss:')) return formatServerAddress({ host, secure: true, pin: null })
  const address = parseServerAddress(known)
  return address === null ? host : formatServerAddress({ ...address, host })
}
