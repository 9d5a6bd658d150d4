import { UsageError } from '../io.ts'
import type { Verb } from '../verb.ts'
import { verb } from '../verb.ts'

const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

/** What can be completed: it is known when all verbs are. */
export interface Words {
  readonly verbs: readonly Pick<Verb, 'name' | 'summary' | 'options'>[]
  readonly globalOptions: Verb['options']
}

export function completionVerb(words: () => Words): Verb {
  return verb(
    {
      name: 'completion',
      summary: 'print a script that completes verbs and flags: bash, zsh or fish',
      arguments: ['<shell>'],
      options: [],
      examples: [
        'source <(parley completion bash)   # of "npx parley" too',
        'parley completion zsh > ~/.zfunc/_parley',
        'parley completion fish > ~/.config/fish/completions/parley.fish',
      ],
    },
    ({ arguments: [shell] }) => {
      const known = shells.find((one) => one === shell)
      if (known === undefined) throw new UsageError(`the shell is ${shells.join(', ')}, not "${shell}"`)
      return { shell: known }
    },
    ({ shell }) => {
      const script = completionScript(shell, words())
      return Promise.resolve({ data: { shell, script }, lines: script.trimEnd().split('\n') })
    },
  )
}

export function completionScript(shell: Shell, words: Words): string {
  switch (shell) {
    case 'bash':
      return bash(words)
    case 'zsh':
      return zsh(words)
    case 'fish':
      return fish(words)
  }
}

/** The long flags of an option list; `--to` for `--to <names>`. */
function longFlags(options: Verb['options']): readonly string[] {
  return options.flatMap(([flags]) => flags.match(/--[a-z-]+/g) ?? [])
}

/** First words, each with the words that may follow it: none for a verb of one word. */
function tree({ verbs }: Words): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>([['help', []]])
  for (const { name } of verbs) {
    const [first = '', second] = name.split(' ')
    const seconds = found.get(first) ?? []
    if (second !== undefined) seconds.push(second)
    found.set(first, seconds)
  }
  return found
}

function bash(words: Words): string {
  const flags = longFlags(words.globalOptions).join(' ')
  const cases = words.verbs.map(
    ({ name, options }) => `    '${name}') flags+=" ${longFlags(options).join(' ')}" ;;`,
  )
  const seconds = [...tree(words)]
    .filter(([, second]) => second.length > 0)
    .map(([first, second]) => `    ${first}) next='${second.join(' ')}' ;;`)
  return `# bash completion for parley: source <(parley completion bash)
_parley() {
  local current="\${COMP_WORDS[COMP_CWORD]}" first='' second='' word next='' flags=' ${flags} --help'
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in
      -*) ;;
      *) if [ -z "$first" ]; then first="$word"; elif [ -z "$second" ]; then second="$word"; fi ;;
    esac
  done
  case "$first" in
    '') next='${[...tree(words).keys()].join(' ')}' ;;
${seconds.join('\n')}
  esac
  case "$first" in completion) next='${shells.join(' ')}' ;; esac
  if [ -n "$second" ]; then next=''; fi
  case "$first\${second:+ $second}" in
${cases.join('\n')}
  esac
  case "$current" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$next" -- "$current")) ;;
  esac
}
complete -F _parley parley
# In a folder with its source it is run as "npx parley". Other completions of npx stay as they are.
_parley_npx() {
  if [ "$COMP_CWORD" -lt 2 ] || [ "\${COMP_WORDS[1]}" != parley ]; then return; fi
  COMP_WORDS=("\${COMP_WORDS[@]:1}")
  COMP_CWORD=$((COMP_CWORD - 1))
  _parley
}
complete -p npx >/dev/null 2>&1 || complete -o bashdefault -o default -F _parley_npx npx
`
}

function zsh(words: Words): string {
  const firsts = [...tree(words)].map(([first, second]) => {
    const summary = words.verbs.find(({ name }) => name === first)?.summary ?? second.join(', ')
    return `    '${first}:${quote(summary.replaceAll(':', '\\:'))}'`
  })
  const seconds = [...tree(words)]
    .filter(([, second]) => second.length > 0)
    .map(([first, second]) => `    ${first}) compadd -- ${second.join(' ')} ;;`)
  const cases = words.verbs.map(
    ({ name, options }) => `    '${name}') flags+=(${longFlags(options).join(' ')}) ;;`,
  )
  return `#compdef parley
# zsh completion for parley: parley completion zsh > a folder of $fpath, as _parley
_parley() {
  local -a firsts flags typed
  firsts=(
${firsts.join('\n')}
  )
  flags=(${longFlags(words.globalOptions).join(' ')} --help)
  typed=(\${\${words[2,CURRENT-1]}:#-*})
  local verb="\${typed[1]}"
  case "$verb" in
    ${[...tree(words)]
      .filter(([, second]) => second.length > 0)
      .map(([first]) => first)
      .join('|')}) verb="\${typed[1,2]}" ;;
  esac
  case "$verb" in
${cases.join('\n')}
  esac
  if [[ "\${words[CURRENT]}" == -* ]]; then
    compadd -- $flags
    return
  fi
  if (( \${#typed} == 0 )); then
    _describe 'verb' firsts
    return
  fi
  (( \${#typed} == 1 )) || return
  case "\${typed[1]}" in
${seconds.join('\n')}
    completion) compadd -- ${shells.join(' ')} ;;
  esac
}
if [ "$funcstack[1]" = "_parley" ]; then _parley "$@"; else compdef _parley parley; fi
`
}

function fish(words: Words): string {
  const firsts = [...tree(words)]
  const all = firsts.map(([first]) => first).join(' ')
  const lines = ['# fish completion for parley', 'complete -c parley -f']
  for (const [first, second] of firsts) {
    const summary = words.verbs.find(({ name }) => name === first)?.summary ?? second.join(', ')
    lines.push(
      `complete -c parley -n 'not __fish_seen_subcommand_from ${all}' -a ${first} -d '${quote(summary)}'`,
    )
  }
  for (const { name, summary, options } of words.verbs) {
    const [first = '', second] = name.split(' ')
    const seen =
      second === undefined
        ? `__fish_seen_subcommand_from ${first}`
        : `__fish_seen_subcommand_from ${first}; and __fish_seen_subcommand_from ${second}`
    if (second !== undefined)
      lines.push(
        `complete -c parley -n '__fish_seen_subcommand_from ${first}; and not __fish_seen_subcommand_from ${(tree(words).get(first) ?? []).join(' ')}' -a ${second} -d '${quote(summary)}'`,
      )
    for (const [flags, description] of options)
      for (const flag of flags.match(/--[a-z-]+/g) ?? [])
        lines.push(`complete -c parley -n '${seen}' -l ${flag.slice(2)} -d '${quote(description)}'`)
  }
  lines.push(`complete -c parley -n '__fish_seen_subcommand_from completion' -a '${shells.join(' ')}'`)
  for (const [flags, description] of words.globalOptions)
    for (const flag of flags.match(/--[a-z-]+/g) ?? [])
      lines.push(`complete -c parley -l ${flag.slice(2)} -d '${quote(description)}'`)
  return `${lines.join('\n')}\n`
}

/** For between single quotes in a shell: those in the text are left out rather than escaped, since each shell does that differently. */
function quote(text: string): string {
  return text.replaceAll("'", '').replaceAll('\\', '')
}
