import { BinaryWriter } from '@bufbuild/protobuf/wire'

/** Used again and again: a writer that grows from nothing costs more than what is written with it. */
let writer = new BinaryWriter()

/** The bytes of a message of a generated type. */
export function encode<T>(
  type: { readonly encode: (message: T, writer: BinaryWriter) => BinaryWriter },
  message: T,
): Uint8Array<ArrayBuffer> {
  try {
    return type.encode(message, writer).finish()
  } catch (error) {
    // It holds half a message.
    writer = new BinaryWriter()
    throw error
  }
}
