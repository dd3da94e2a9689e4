import { readFileSync } from 'node:fs'

/** The parts of a test between `// README:begin` and `// README:end`, without their common indentation. */
export function markedIn(file: string): string[] {
  const source = readFileSync(file, 'utf8')
  return [...source.matchAll(/\/\/ README:begin\n(.*?)\n *\/\/ README:end/gs)].map(([, code = '']) => dedent(code))
}

/** The first piece of TypeScript in a page. */
export function shownIn(page: string): string | undefined {
  return /```ts\n(.*?)\n```/s.exec(page)?.[1]
}

function dedent(code: string): string {
  const indent = /^ */.exec(code)?.[0] ?? ''
  return code
    .split('\n')
    .map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line))
    .join('\n')
}
