/** For scripts, jobs and the command line. */
export { createMigrator, type Migrator, type MigratorOptions } from './create-migrator.ts'
export type { Pace, Progress } from './engine/pace.ts'
export type { What } from './engine/target.ts'
export { type ModelReport, type Report, reportOf, type RowFailure } from './report/report.ts'
export type { RewrapOptions } from './verbs/rewrap.ts'
