import { after, afterEach, before, describe } from 'node:test'
import type { Browser } from 'playwright-core'

import { createClient } from '../../src/client/index.ts'
import type { Client } from '../../src/client/index.ts'
import { buildWebApp } from '../../src/server/web-build.ts'
import { findBrowser, launchBrowser } from './browser.ts'
import { startCluster } from './cluster.ts'
import type { TestCluster } from './cluster.ts'
import { Person } from './person.ts'

export const limitMs = 30_000

/** What the tests of the web app share: five replicas that serve it, and a browser. */
export class Web {
  readonly cluster: TestCluster
  readonly browser: Browser
  private readonly clients: Client[] = []

  constructor(cluster: TestCluster, browser: Browser) {
    this.cluster = cluster
    this.browser = browser
  }

  address(at = 0): string {
    const { addresses } = this.cluster
    return addresses[at % addresses.length] ?? ''
  }

  signUp(name: string, at = 0): Promise<Person> {
    return Person.signedUp(this.browser, this.address(at), name)
  }

  /** Another device of somebody. */
  another(name: string, at = 0): Promise<Person> {
    return Person.signedIn(this.browser, this.address(at), name)
  }

  /** Somebody who needs no browser, and has not said who they are. */
  visitor(): Client {
    const made = createClient({ addresses: this.cluster.addresses, timeoutMs: limitMs })
    this.clients.push(made)
    return made
  }

  /** Somebody who needs no browser. */
  async client(name: string, how: 'register' | 'logIn' = 'register'): Promise<Client> {
    const made = this.visitor()
    await made[how]({ name, password: 'correct horse' })
    return made
  }

  async leave(...leaving: readonly Person[]): Promise<void> {
    for (const person of leaving) await person.close()
  }

  async close(): Promise<void> {
    for (const client of this.clients) client.close()
    await this.browser.close()
    await this.cluster.close()
  }
}

/** Tests that share a {@link Web}; without a browser they are skipped, and say how to get one. */
export function describeWeb(name: string, define: (web: () => Web) => void): void {
  const found = findBrowser()
  describe(name, { skip: 'skip' in found ? found.skip : false }, () => {
    let web: Web | null = null
    const opened = (): Web => {
      if (web === null) throw new Error('the browser is not open')
      return web
    }
    before(async () => {
      await buildWebApp(() => {})
      web = new Web(await startCluster(), await launchBrowser('path' in found ? found.path : ''))
    })
    // A test that failed has left its pages open, and they would go on using the cluster.
    afterEach(async () => {
      for (const context of opened().browser.contexts()) await context.close()
    })
    after(() => web?.close())
    define(opened)
  })
}
