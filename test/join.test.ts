import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:tls'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createClient } from '../src/client/index.ts'
import { formatJoinToken, parseJoinToken } from '../src/tls/join-token.ts'
import { readCertificates } from '../src/tls/store.ts'
import { Ledger, until } from './support/ledger.ts'
import { pinnedConnect, Process, type MachineOptions } from './support/machine.ts'
import { freePorts } from './support/ports.ts'

test('a cluster made by init and joined twice speaks TLS only, and loses nothing when its first replica dies', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-join-'))
  const port = await freePorts(12)
  const processes: Process[] = []
  const dataOf = (id: number): string => join(folder, `r${id}`)
  const place = (id: number): string[] => {
    const ports = { '--http-port': port, '--grpc-port': port + 4, '--peer-port': port + 8 }
    const flags = Object.entries(ports).flatMap(([flag, first]) => [flag, String(first + id - 1)])
    return ['--host', '127.0.0.1', '--data', dataOf(id), ...flags, '--log', 'file', '--json']
  }
  const runWith = (options: MachineOptions, ...words: readonly string[]): Process => {
    const started = new Process(words, options)
    processes.push(started)
    return started
  }
  const run = (...words: readonly string[]): Process => runWith({}, ...words)
  try {
    const first = run('init', ...place(1), '--uses', '2', '--listen', '0.0.0.0')
    const { token, address } = await first.event('serving')
    assert.ok(typeof token === 'string' && typeof address === 'string')
    // The authority's key is nobody else's.
    assert.equal(statSync(join(dataOf(1), 'certificates.json')).mode & 0o777, 0o600)

    // Neither shows the token in the list of processes.
    const second = runWith({ input: `${token}\n` }, 'join', '-', ...place(2))
    const third = runWith({ environment: { PARLEY_JOIN_TOKEN: token } }, 'join', ...place(3))
    assert.deepEqual(
      [(await second.event('joined'))['replica'], (await third.event('joined'))['replica']].sort(),
      [2, 3],
    )
    await Promise.all([second.event('member'), third.event('member')])
    const late = run('join', token, ...place(4))
    assert.equal(await late.ended, 1)
    const refused = JSON.parse(late.errors.at(-1) ?? '') as {
      readonly error: Readonly<Record<string, unknown>>
    }
    assert.match(String(refused.error['message']), /used as often as it may be/)
    const parsed = parseJoinToken(token)
    assert.ok(parsed !== null)
    const nowhere = formatJoinToken({
      ...parsed,
      addresses: [`parleys://127.0.0.1:1#sha256=${parsed.authority}`],
    })
    const lost = run('join', nowhere, ...place(4))
    assert.equal(await lost.ended, 5)
    assert.match(lost.errors.join('\n'), /"UNAVAILABLE".*No replica of the cluster can be reached from here/)

    // Without a certificate there is no talking to a peer port, and without TLS to none.
    const stranger = connect({ host: '127.0.0.1', port: port + 8, rejectUnauthorized: false })
    stranger.on('error', () => undefined)
    stranger.resume()
    await once(stranger, 'close')
    await assert.rejects(fetch(`http://127.0.0.1:${port}/livez`))

    using ledger = new Ledger([address])
    await ledger.open(3)
    ledger.start(2)
    await ledger.progress(100)
    assert.equal(await first.end('SIGKILL'), 'SIGKILL')
    await ledger.progress(100)
    const again = run('serve', '--data', dataOf(1), '--log', 'file')
    await ledger.progress(100)
    await ledger.stop()
    // It listens where it was told to when it was made, and not only where it is found.
    await until(() => answers('127.0.0.9', port), 'it listens on all addresses', 30_000)
    const pin = address.slice(address.indexOf('#'))
    await ledger.check([0, 1, 2].map((i) => `parleys://127.0.0.1:${port + i}${pin}`))

    // Each replica can renew its certificate by itself.
    const keys = [1, 2, 3].map((id) => readCertificates(dataOf(id))?.authority.key)
    assert.ok(keys[0] !== undefined && keys.every((key) => key === keys[0]))
    // A token that was used up says so; one that the machine itself makes does not need anybody to sign in.
    const client = createClient({ addresses: [address], connect: pinnedConnect })
    try {
      const status = await client.call('getStatus', {})
      assert.deepEqual(
        status.replicas.map(({ id, voter, problem }) => ({ id, voter, problem })),
        [1, 2, 3].map((id) => ({ id, voter: true, problem: '' })),
      )
    } finally {
      client.close()
    }
    const made = run('token', 'create', '--data', dataOf(2), '--json')
    assert.equal(await made.ended, 0, made.errors.join('\n'))
    for (const running of [second, third, again]) assert.equal(await running.end('SIGTERM'), 0)
  } finally {
    await Promise.all(processes.map((running) => running.end('SIGKILL')))
    rmSync(folder, { recursive: true, force: true })
  }
})

/** Whether somebody speaks TLS there. */
function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, rejectUnauthorized: false })
    const end = (answered: boolean) => (): void => {
      socket.destroy()
      resolve(answered)
    }
    socket.once('secureConnect', end(true)).once('error', end(false))
  })
}
