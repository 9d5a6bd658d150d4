import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'

const root = resolve(import.meta.dirname, '..')

/** The table of docs/ARCHITECTURE.md: what each folder may import. Entries are folders or files below src/, `node:` or package names. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: ['@bufbuild/protobuf'],
  gen: ['@bufbuild/protobuf'],
  raft: ['base'],
  chat: ['base', 'gen'],
  storage: ['base', 'raft/types.ts', 'raft/codec.ts', 'chat/sql.ts', 'node:'],
  log: ['base', 'raft', 'storage'],
  replica: ['base', 'gen', 'log/port.ts', 'chat', 'storage', 'node:'],
  tls: ['base', 'storage/json-file.ts', 'client', 'node:', '@peculiar/x509', 'reflect-metadata', 'ws'],
  peer: ['base', 'log/transport.ts', 'raft/types.ts', 'raft/codec.ts', 'tls/names.ts', 'node:'],
  api: [
    'base',
    'gen',
    'chat',
    'replica',
    'node:',
    '@grpc/grpc-js',
    '@grpc/proto-loader',
    '@grpc/reflection',
    'grpc-health-check',
    '@bufbuild/protobuf',
    'ws',
    'prom-client',
  ],
  server: [
    'base',
    'gen',
    'raft',
    'chat',
    'storage',
    'log',
    'replica',
    'peer',
    'tls',
    'api',
    'client/server-address.ts',
    'node:',
    'pino',
    'smol-toml',
    'vite',
    'vite',
  ],
  client: ['base', 'gen', '@bufbuild/protobuf'],
  cli: ['base', 'gen', 'client', 'tls', 'server', 'node:', 'commander', '@clack/prompts', 'smol-toml'],
  web: ['base', 'gen', 'client', 'react', 'react-dom', '@base-ui/react'],
  sim: [
    'base',
    'gen',
    'raft',
    'log',
    'chat',
    'storage',
    'replica',
    'peer/frames.ts',
    'api/service.ts',
    'api/calls.ts',
    'client',
    'node:',
  ],
}

/** Names that bring in time or chance, and the folders that must do without. */
const impure =
  /\b(Date\.now|new Date\(\)|Math\.random|setTimeout|setInterval|setImmediate|performance\.now|process\.hrtime)\b/
const pureFolders = ['base', 'raft', 'chat', 'storage', 'log', 'replica', 'web/store']

test('each folder imports only what the table of ARCHITECTURE.md allows', () => {
  const wrong: string[] = []
  let imports = 0
  for (const file of sources()) {
    const folder = file.split('/')[0] ?? ''
    const allowed = mayImport[folder]
    assert.ok(allowed !== undefined, `src/${folder} is not in the table`)
    for (const name of importsOf(file)) {
      imports += 1
      const target = name.startsWith('.')
        ? relative(join(root, 'src'), resolve(root, 'src', dirname(file), name))
        : name
      if (target.startsWith(`${folder}/`)) continue
      if (file.endsWith('.test.ts') && (/^(node:|fast-check)/.test(target) || !name.includes('../../test/')))
        continue
      if (
        allowed.some(
          (entry) => target === entry || target.startsWith(entry.endsWith(':') ? entry : `${entry}/`),
        )
      )
        continue
      wrong.push(`src/${file} imports ${target}`)
    }
  }
  assert.ok(imports > 10, 'the scan found the imports')
  assert.deepEqual(wrong, [])
})

test('nothing outside the simulator imports the simulator', () => {
  const wrong = sources().filter(
    (file) => !file.startsWith('sim/') && importsOf(file).some((name) => /(^|\/)sim\//.test(name)),
  )
  assert.deepEqual(wrong, [])
})

test('no clock and no chance where they must come in as input', () => {
  const wrong = sources()
    .filter(
      (file) => !file.endsWith('.test.ts') && pureFolders.some((folder) => file.startsWith(`${folder}/`)),
    )
    .filter((file) => impure.test(readFileSync(join(root, 'src', file), 'utf8')))
  assert.deepEqual(wrong, [])
})

test('every test that FAULTS.md names exists', () => {
  const page = readFileSync(join(root, 'docs/FAULTS.md'), 'utf8')
  const rows = page.split('\n').filter((line) => line.startsWith('|'))
  // What stands in quotation marks in the last column is the name of a test, or how it begins.
  const named = rows.flatMap((row) =>
    [...(row.split('|').at(-2) ?? '').matchAll(/"([^"]+)"/g)].map((match) => match[1] ?? ''),
  )
  assert.ok(named.length > 40, 'the scan found the names')
  const tests = [
    ...sources().map((file) => join(root, 'src', file)),
    ...readdirSync(join(root, 'test')).map((file) => join(root, 'test', file)),
  ]
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n')
    .replaceAll("\\'", "'")
  assert.deepEqual(
    named.filter((name) => !tests.includes(name)),
    [],
  )
})

test('files are named in kebab-case', () => {
  const wrong = sources().filter(
    (file) => !/^([a-z0-9-]+\/)+[a-z0-9]+(-[a-z0-9]+)*(\.[a-z]+)*\.tsx?$/.test(file),
  )
  assert.deepEqual(wrong, [])
})

function sources(): string[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => /\.tsx?$/.test(path) && !path.startsWith('gen/'))
}

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, 'src', file), 'utf8')
  return [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'"\n]*?(?:\n[^'"]*?)?from\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/g,
    ),
  ].map((match) => match[1] ?? match[2] ?? '')
}
