/**
 * What the log needs of a file system, so that the simulator can stand in for it. Paths are relative to the replica's folder. Operations call back in the order of their
 * completion; errors are Node's system errors (`code` such as `ENOSPC`, `EIO`).
 */
export interface Disk {
  /** Names in the folder, sorted. Synchronous: used at start only. */
  list(folder: string): readonly string[]
  /** The whole file. Synchronous: used at start only. Throws when there is none. */
  readFile(path: string): Uint8Array
  makeFolder(path: string): void
  /** Opens for reading and writing; `create`: makes a new empty file and fails when it exists. */
  open(path: string, create: boolean): DiskFile
  /** Renames over an existing file, and flushes the folder. */
  rename(from: string, to: string, done: DiskCallback): void
  remove(path: string, done: DiskCallback): void
  /** Makes names that were created, renamed or removed in the folder survive a power cut. */
  flushFolder(path: string, done: DiskCallback): void
  /** The same, synchronous: used at start only. */
  flushFolderNow(path: string): void
  freeBytes(): number
}

export interface DiskFile {
  readonly path: string
  sizeBytes(): number
  write(offset: number, buffers: readonly Uint8Array[], done: DiskCallback): void
  /** fdatasync: what was written before this call began survives a power cut when it calls back without an error. */
  flush(done: DiskCallback): void
  /** The same two, synchronous: used at start only. They throw what the others call back with. */
  writeNow(offset: number, bytes: Uint8Array): void
  flushNow(): void
  /** Synchronous, for entries that a lagging replica needs; fewer bytes than asked for at the end of the file. */
  read(offset: number, length: number): Uint8Array
  truncate(sizeBytes: number): void
  close(): void
}

export type DiskCallback = (error: Error | null) => void
