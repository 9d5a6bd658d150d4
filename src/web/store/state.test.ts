import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRoute, routeHash } from './state.ts'
import type { Route } from './state.ts'

test('a route and its address are the same thing', () => {
  const routes: readonly Route[] = [
    { page: 'conversation', id: 12, seq: null },
    { page: 'conversation', id: 12, seq: 345 },
    { page: 'direct', name: 'bob' },
    { page: 'home' },
    { page: 'inbox' },
    { page: 'cluster' },
  ]
  for (const route of routes) assert.deepEqual(parseRoute(routeHash(route)), route)
})

test('an address that nobody made leads home', () => {
  for (const hash of [
    '',
    '#',
    '#/nowhere',
    '#/c/0',
    '#/c/-1',
    '#/c/x',
    '#/to/',
    '#/to/a b',
    '#/c/99999999999999999999',
  ]) {
    assert.deepEqual(parseRoute(hash), { page: 'home' }, hash)
  }
})
