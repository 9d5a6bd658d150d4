const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Throws on bytes that are not UTF-8, where the protobuf runtime by itself would put replacement characters. */
export function strictUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes)
}
