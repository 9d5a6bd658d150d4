import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createControl } from './control.ts'

const token = 'a-token-that-nobody-guesses'

interface Answer {
  readonly status: number
  readonly text: string
  readonly allowed: string | undefined
}

async function withControl(
  check: (
    ask: (path: string, headers?: Record<string, string>, method?: string) => Promise<Answer>,
    acts: string[],
  ) => Promise<void>,
): Promise<void> {
  const acts: string[] = []
  const server = createControl({
    token,
    addresses: () => ['127.0.0.1:7400', '127.0.0.1:7401'],
    act: (replica, action) => {
      acts.push(`${action} ${replica}`)
      return replica > 5 ? `there is no r${replica}` : null
    },
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const ask = (path: string, headers: Record<string, string> = {}, method = 'POST') =>
    new Promise<Answer>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path, method, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => (text += part))
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: text.trim(),
            allowed: response.headers['access-control-allow-origin'],
          }),
        )
      })
      sent.on('error', reject)
      sent.end()
    })
  try {
    await check(ask, acts)
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

const bearer = { authorization: `Bearer ${token}` }

test('with the token replicas are killed, stopped and started', async () => {
  await withControl(async (ask, acts) => {
    for (const action of ['kill', 'stop', 'start'])
      assert.equal((await ask(`/replicas/r2/${action}`, bearer)).status, 200)
    assert.deepEqual(acts, ['kill 2', 'stop 2', 'start 2'])
  })
})

test('without the token, or with another one, nothing is done', async () => {
  await withControl(async (ask, acts) => {
    assert.equal((await ask('/replicas/r2/kill')).status, 401)
    assert.equal((await ask('/replicas/r2/kill', { authorization: `Bearer ${token}x` })).status, 401)
    assert.deepEqual(acts, [])
  })
})

test('a page of another site is not told anything, and another name for this machine is refused', async () => {
  await withControl(async (ask, acts) => {
    assert.equal((await ask('/replicas/r2/kill', { host: 'evil.example', ...bearer })).status, 403)
    assert.equal(
      (await ask('/replicas/r2/kill', { origin: 'http://evil.example' }, 'OPTIONS')).allowed,
      undefined,
    )
    assert.equal(
      (await ask('/replicas/r2/kill', { origin: 'http://localhost:9999' }, 'OPTIONS')).allowed,
      undefined,
    )
    assert.equal(
      (await ask('/x', { origin: 'http://localhost:7401' }, 'OPTIONS')).allowed,
      'http://localhost:7401',
    )
    assert.deepEqual(acts, [])
  })
})

test('what cannot be done is said', async () => {
  await withControl(async (ask) => {
    assert.deepEqual(await ask('/replicas/r9/kill', bearer), {
      status: 409,
      text: 'there is no r9',
      allowed: undefined,
    })
    assert.equal((await ask('/replicas/r2/explode', bearer)).status, 404)
    assert.equal((await ask('/replicas/r2/kill', bearer, 'GET')).status, 405)
  })
})
