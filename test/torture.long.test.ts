import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'

const program = [resolve(import.meta.dirname, '../bin/run.js'), 'test/torture/run.ts']

test('half a minute of kills, halts, cuts and full disks breaks no rule', async () => {
  const { code, output } = await torture(['--minutes', '0.5', '--round', '8'], /no rule was broken/)
  assert.equal(code, 0, output)
})

test('Ctrl-C ends the torture run, its replicas and its hosts', async () => {
  const { code, output, pid } = await torture(['--minutes', '10'], /ending/, 'SIGINT')
  assert.equal(code, 130, output)
  const folder = /record in (\S+)/.exec(output)?.[1] ?? ''
  assert.match(folder, /parley-torture-/)
  assert.ok(!existsSync(folder))
  const hosts = existsSync('/run/netns') ? readdirSync('/run/netns') : []
  assert.deepEqual(
    hosts.filter((host) => host.startsWith(`parley-${pid}-`)),
    [],
  )
})

/** Runs it, sends the signal once it has shown progress, and waits for its end. */
async function torture(
  args: readonly string[],
  expected: RegExp,
  signal: NodeJS.Signals | null = null,
): Promise<{ readonly code: unknown; readonly output: string; readonly pid: number | undefined }> {
  const out = mkdtempSync(join(tmpdir(), 'parley-torture-test-'))
  try {
    const child = spawn(process.execPath, [...program, ...args, '--out', out], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    let told = false
    const take = (bytes: Buffer): void => {
      output += bytes.toString()
      if (signal === null || told || !/ serve, /.test(output)) return
      told = true
      child.kill(signal)
    }
    child.stdout.on('data', take)
    child.stderr.on('data', take)
    const [code] = await once(child, 'close')
    assert.match(output, expected)
    return { code, output, pid: child.pid }
  } finally {
    rmSync(out, { recursive: true, force: true })
  }
}
