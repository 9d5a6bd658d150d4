/**
 * Whether all of `text` matches `pattern`: `*` stands for any run of characters, `?` for one, all else for itself. An empty pattern matches everything. Case matters: give both
 * in lower case. Takes time in proportion to the lengths multiplied at worst, whatever the pattern: only the last `*` is ever tried again.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  if (pattern === '') return true
  let p = 0
  let t = 0
  let star = -1
  let starText = 0
  while (t < text.length) {
    const expected = pattern[p]
    if (expected === '*') {
      star = p
      starText = t
      p += 1
    } else if (expected !== undefined && (expected === '?' || expected === text[t])) {
      p += 1
      t += 1
    } else if (star >= 0) {
      starText += 1
      p = star + 1
      t = starText
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p += 1
  return p === pattern.length
}

/** What every text that matches begins with. */
export function literalPrefix(pattern: string): string {
  let end = 0
  while (end < pattern.length && pattern[end] !== '*' && pattern[end] !== '?') end += 1
  return pattern.slice(0, end)
}
