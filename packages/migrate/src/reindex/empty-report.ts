import type { What } from '../engine/target.ts'
import type { ModelReport, Report } from '../report/report.ts'

/** A report of nothing yet. */
export function emptyReport(what: What): Report {
  return {
    verb: 'reindex',
    ...(what.tenant === undefined ? {} : { tenant: what.tenant }),
    dryRun: false,
    resumed: false,
    elapsedMs: 0,
    models: [],
    failures: [],
    remaining: 0,
    notes: [],
  }
}

export function emptyModel(model: string): ModelReport {
  const none = { passes: 1, rows: 0, updated: 0, unchanged: 0, failed: 0, denied: 0, erased: 0, changed: 0, gone: 0 }
  return { model, ...none, remaining: 0, counts: {}, failures: [] }
}
