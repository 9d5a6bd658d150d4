import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { createNetwork, networkProblem } from './support/netns.ts'

/*
 * Several hosts, for real: network namespaces, which take root and Linux. Elsewhere these tests are skipped, and say so.
 */
const problem = networkProblem()
const skip = problem === null ? false : `several hosts cannot be tried here: ${problem}`

test(
  'five hosts joined over TLS keep talking while links are cut and slow and two hosts are gone',
  { skip },
  () => prove('five', ['clients', 'h1', 'h2', 'h3', 'h4', 'h5']),
)

test('three hosts in the fail-stop model keep talking until the last one', { skip }, () =>
  prove('three', ['clients', 'h1', 'h2', 'h3']),
)

/** Runs the proof on the host of the clients, so that it reaches the others over the network. */
async function prove(name: string, hosts: readonly string[]): Promise<void> {
  using network = createNetwork(hosts)
  const script = resolve(import.meta.dirname, 'support/hosts-proof.ts')
  const command = network.host('clients').on([process.execPath, script, name, network.name, ...hosts])
  const [file = '', ...words] = command
  const child = spawn(file, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes: Buffer) => (output += bytes.toString()))
  const [code] = await once(child, 'close')
  assert.equal(code, 0, output)
  assert.match(output, /messages are there, once and in order, on every host/)
}
