import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import type { Browser } from 'playwright-core'

const candidates = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Where a browser for the tests is, or why they are skipped and how to get one. */
export function findBrowser(): { readonly path: string } | { readonly skip: string } {
  const named = process.env['PARLEY_CHROMIUM']
  const path = named ?? candidates.find((candidate) => existsSync(candidate))
  if (path !== undefined && existsSync(path)) return { path }
  return {
    skip: 'no Chromium here: install one (Debian and Ubuntu: "apt-get install chromium"), or name one in PARLEY_CHROMIUM',
  }
}

/** A headless browser that talks to nobody but the pages it is given. */
export async function launchBrowser(path: string): Promise<Browser> {
  return chromium.launch({
    executablePath: path,
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}
