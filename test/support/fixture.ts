import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { ByteReader, ByteWriter } from '../../src/base/bytes.ts'

/*
 * What earlier versions wrote, as files under test/fixtures/VERSION: gzip over pairs of a text and bytes. `record.ts` there makes them from a checkout of that version.
 */

/** A name and what belongs to it: a file with its path, or a frame with who sent it. */
export interface Piece {
  readonly name: string
  readonly bytes: Uint8Array
}

export function writePieces(path: string, pieces: readonly Piece[]): void {
  const writer = new ByteWriter()
  for (const { name, bytes } of pieces) writer.string(name).bytes(bytes)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, gzipSync(writer.finish(), { level: 9 }))
}

/** @param name below test/fixtures, without its ending: `0.1.0/r1`. */
export function readPieces(name: string): readonly Piece[] {
  const reader = new ByteReader(gunzipSync(readFileSync(`${fixtureFolder(name)}.gz`)))
  const pieces: Piece[] = []
  while (reader.remaining > 0) pieces.push({ name: reader.string(), bytes: reader.bytes() })
  return pieces
}

/** Puts the files of a data folder where they belong. */
export function unpackFolder(name: string, folder: string): void {
  for (const piece of readPieces(name)) {
    const path = join(folder, piece.name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, piece.bytes)
  }
}

/** What a run of that version came to, as JSON. */
export function readExpected<T>(version: string): T {
  // The recorder wrote it, and both are kept together.
  return JSON.parse(readFileSync(join(fixtureFolder(version), 'expected.json'), 'utf8')) as T
}

function fixtureFolder(name: string): string {
  return join(import.meta.dirname, '../fixtures', name)
}
