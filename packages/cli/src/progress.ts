import type { Progress, ReindexOptions } from '@fieldseal/migrate'
import cliProgress from 'cli-progress'
import { type Output, say, seconds } from './output.ts'

/** Shows how far a verb is: a bar on a terminal, a line of JSON a second elsewhere. */
export interface ProgressView {
  show(progress: Progress): void
  end(): void
}

const LINE_EVERY_MS = 1_000

export function createProgressView({ stderr, json }: Output): ProgressView {
  return stderr.isTTY && !json ? bar(stderr) : lines(stderr)
}

function bar(stream: NodeJS.WriteStream): ProgressView {
  let current: { readonly name: string; readonly shown: cliProgress.SingleBar } | undefined
  const stop = () => {
    current?.shown.stop()
    current = undefined
  }
  return {
    show({ verb, model, pass, rows, total, rowsPerSecond, etaMs }) {
      const name = `${verb} ${model}${pass > 1 ? `, walk ${pass}` : ''}`
      const facts = { name, rate: rowsPerSecond, left: etaMs === undefined ? '?' : seconds(etaMs) }
      if (current?.name !== name) {
        stop()
        const shown = new cliProgress.SingleBar(
          {
            stream,
            format: '{name} [{bar}] {percentage} % {value}/{total} rows, {rate}/s, {left} left',
            hideCursor: true,
          },
          cliProgress.Presets.shades_classic,
        )
        shown.start(Math.max(total ?? rows, rows), rows, facts)
        current = { name, shown }
      }
      current.shown.setTotal(Math.max(total ?? rows, rows))
      current.shown.update(rows, facts)
    },
    end: stop,
  }
}

function lines(stream: NodeJS.WriteStream): ProgressView {
  let lastAt = -Infinity
  return {
    show(progress) {
      const now = performance.now()
      const last = progress.total !== undefined && progress.rows >= progress.total
      if (!last && now - lastAt < LINE_EVERY_MS) return
      lastAt = now
      stream.write(`${JSON.stringify({ progress })}\n`)
    },
    end: () => undefined,
  }
}

/** Says once of each wait what it is for. */
export function createWaitView(output: Output): NonNullable<ReindexOptions['onWait']> {
  let last = ''
  return ({ why, remainingMs }) => {
    if (why === last) return
    last = why
    if (output.json) output.stderr.write(`${JSON.stringify({ wait: { why, remainingMs } })}\n`)
    else say(output, `waiting ${seconds(remainingMs)} for ${why}`)
  }
}
