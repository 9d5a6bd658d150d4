import { readFile, stat } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { extname, join, normalize, sep } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'

/** The files of the built web app. */
export interface StaticFiles {
  /**
   * @param path decoded, beginning with `/`.
   * @param connectSources what the page may connect to beside its own origin, as in a Content-Security-Policy.
   */
  serve(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    connectSources: string,
  ): Promise<void>
}

const types: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
  '.webp': 'image/webp',
  '.woff2': 'font/woff2',
}
const compressible = new Set(['.css', '.html', '.js', '.json', '.map', '.svg', '.txt', '.webmanifest'])

interface LoadedFile {
  readonly modifiedMs: number
  readonly plain: Buffer
  readonly gzip: Buffer | null
  readonly brotli: Buffer | null
}

export function createStaticFiles(root: string): StaticFiles {
  // The app is small: its files stay in memory, compressed once.
  const loaded = new Map<string, LoadedFile>()

  async function load(file: string): Promise<LoadedFile | null> {
    const found = await stat(file).catch(() => null)
    if (found === null || !found.isFile()) return null
    const known = loaded.get(file)
    if (known !== undefined && known.modifiedMs === found.mtimeMs) return known
    const plain = await readFile(file)
    const compress = compressible.has(extname(file)) && plain.length > 1024
    const fresh = {
      modifiedMs: found.mtimeMs,
      plain,
      gzip: compress ? await promisify(gzip)(plain) : null,
      brotli: compress
        ? await promisify(brotliCompress)(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } })
        : null,
    }
    loaded.set(file, fresh)
    return fresh
  }

  return {
    async serve(request, response, path, connectSources) {
      const file = fileBelow(root, path)
      if (file === null) return send(request, response, 400, null, notFoundPage, connectSources)
      const found = await load(file)
      // Names under assets/ contain a digest of the content: the same name is always the same file.
      if (found !== null)
        return send(request, response, 200, extname(file), found, connectSources, path.startsWith('/assets/'))
      // Addresses inside the app are the app's own affair; a missing file is missing.
      if (extname(path) !== '') return send(request, response, 404, null, notFoundPage, connectSources)
      const index = await load(join(root, 'index.html'))
      if (index !== null) return send(request, response, 200, '.html', index, connectSources)
      return send(request, response, path === '/' ? 200 : 404, '.html', notBuiltPage, connectSources)
    },
  }
}

/** Null for a path that leads out of `root`. */
function fileBelow(root: string, path: string): string | null {
  if (path.includes('\0') || path.includes('\\')) return null
  const base = normalize(root + sep)
  const file = join(base, path)
  if (!file.startsWith(base)) return null
  return file.endsWith(sep) ? join(file, 'index.html') : file
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  extension: string | null,
  file: LoadedFile,
  connectSources: string,
  isImmutable = false,
): void {
  const accepted = request.headers['accept-encoding'] ?? ''
  const body =
    /\bbr\b/.test(accepted) && file.brotli !== null
      ? { encoding: 'br', bytes: file.brotli }
      : /\bgzip\b/.test(accepted) && file.gzip !== null
        ? { encoding: 'gzip', bytes: file.gzip }
        : { encoding: null, bytes: file.plain }
  response.writeHead(status, {
    'content-type': types[extension ?? '.txt'] ?? 'application/octet-stream',
    'content-length': body.bytes.length,
    'cache-control': isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    vary: 'accept-encoding',
    ...(body.encoding === null ? {} : { 'content-encoding': body.encoding }),
    // No inline script, nothing from elsewhere. Styles may be set on elements: positions that are computed need it.
    'content-security-policy': [
      "default-src 'self'",
      `connect-src 'self' ${connectSources}`,
      "style-src 'self' 'unsafe-inline'",
      "img-src 'self' data:",
      "object-src 'none'",
      "base-uri 'none'",
      "form-action 'self'",
      "frame-ancestors 'none'",
    ].join('; '),
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'cross-origin-opener-policy': 'same-origin',
  })
  response.end(request.method === 'HEAD' ? undefined : body.bytes)
}

function page(text: string): LoadedFile {
  return { modifiedMs: 0, plain: Buffer.from(text), gzip: null, brotli: null }
}

const notFoundPage = page('there is no such file\n')
const notBuiltPage = page(`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>Parley</title>
  </head>
  <body>
    <h1>Parley</h1>
    <p>This replica serves, but its web app has not been built. Build it with <code>npm run build:web</code>, or start the cluster with <code>npm start</code>, then load this page again.</p>
  </body>
</html>
`)
