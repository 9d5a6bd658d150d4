import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { tryPort } from '../../src/server/ports.ts'

/** Below the ports that the system hands out by itself. */
const firstPort = 20_000
const blockPorts = 48
const blocks = 250

/**
 * The first of `count` ports in a row that are free, and that no other test takes while this process lives, even when a replica that had one of them is down: they are a part of
 * a block, and who has listened on the first port of a block has the block.
 */
export async function freePorts(count: number): Promise<number> {
  assert.ok(count < blockPorts)
  for (;;) {
    const block = firstPort + blockPorts * Math.floor(Math.random() * blocks)
    if (!(await take(block))) continue
    const problems = await Promise.all(
      Array.from({ length: count }, (_, i) => tryPort('127.0.0.1', block + 1 + i)),
    )
    if (problems.every((problem) => problem === null)) return block + 1
  }
}

/** Listens on the port until this process ends. False when another one does. */
function take(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => done(false))
    server.listen({ host: '127.0.0.1', port }, () => {
      server.unref()
      done(true)
    })
  })
}
