import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { text } from 'node:stream/consumers'

test(
  'a supervisor that has ended before anybody listened is told of as well',
  { timeout: 20_000 },
  async (t) => {
    const script = `
    import { processIo } from '${new URL('./io.ts', import.meta.url)}'
    import { setImmediate } from 'node:timers/promises'
    const { supervisor } = processIo()
    while (process.connected) await setImmediate()
    supervisor.onGone(() => console.log('gone'))`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    })
    t.after(() => child.kill('SIGKILL'))
    child.disconnect()
    assert.ok(child.stdout !== null)
    assert.equal(await text(child.stdout), 'gone\n')
  },
)
