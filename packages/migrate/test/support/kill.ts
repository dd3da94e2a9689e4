import { createFieldseal, type Fieldseal } from '@fieldseal/core'
import {
  type AdapterHost,
  attach,
  type KeyStore,
  type ModelDeclaration,
  type RecordSource,
} from '@fieldseal/core/adapter'
import {
  fakeClock,
  fakeKms,
  memoryKeyStore,
  memoryRecordSource,
  type MemoryKeyStore,
  type MemoryRecordSource,
} from '@fieldseal/testkit'
import { expect } from 'vitest'
import { createMigrator, type Migrator } from '../../src/create-migrator.ts'
import { NOTES, PATIENTS } from './clinic.ts'

/** A database, a KMS and a clock that outlive processes. */
export interface World {
  readonly kms: ReturnType<typeof fakeKms>
  readonly clock: ReturnType<typeof fakeClock>
  readonly keyStore: MemoryKeyStore
  readonly database: MemoryRecordSource
  /** As the registry answers. */
  readonly configured: {
    cmks: string[]
    formerCmks: string[]
    /** For one tenant otherwise than for the others. */
    of?: (tenant: string) => { readonly cmks: string[]; readonly formerCmks: string[] } | undefined
  }
}

/** One process: its own caches, over the world's stores. */
export interface Process {
  readonly fieldseal: Fieldseal<'multi'>
  readonly source: MemoryRecordSource
  readonly migrator: Migrator
  /** As an adapter has it. */
  readonly host: AdapterHost
  as<R>(tenant: string, fn: () => R): R
}

class Killed extends Error {}

/** Counts durable steps and ends the process at one of them: before it is done, or after and before its caller hears of it. */
export interface Killer {
  readonly steps: number
  step<R>(run: () => Promise<R>): Promise<R>
}

function killer(at: number, when: 'before' | 'after', alongside: () => Promise<void>): Killer {
  let steps = 0
  let dead = false
  const die = () => {
    dead = true
    throw new Killed(`killed at step ${at}`)
  }
  return {
    get steps() {
      return steps
    },
    async step(run) {
      if (dead) throw new Killed('dead processes write nothing')
      const mine = ++steps === at
      if (mine && when === 'before') die()
      const result = await run()
      await alongside()
      if (mine) die()
      return result
    },
  }
}

function killableStore(store: KeyStore, { step }: Killer): KeyStore {
  return {
    ...store,
    insert: (record) => step(() => store.insert(record)),
    update: (record) => step(() => store.update(record)),
  }
}

function killableSource(source: RecordSource, { step }: Killer): RecordSource {
  const { checkpoints } = source
  return {
    ...source,
    compareAndSet: (map, patches) => step(() => source.compareAndSet(map, patches)),
    ...(source.convert === undefined
      ? {}
      : { convert: (map, patches) => step(async () => source.convert?.(map, patches) ?? []) }),
    ...(source.clearTokens === undefined
      ? {}
      : { clearTokens: (map, keys) => step(async () => source.clearTokens?.(map, keys)) }),
    checkpoints: {
      load: (job) => checkpoints.load(job),
      save: (job, version, state) => step(() => checkpoints.save(job, version, state)),
    },
  }
}

export function createWorld(): World {
  const keyStore = memoryKeyStore()
  const kms = fakeKms()
  const clock = fakeClock()
  const world = { kms, clock, keyStore, configured: { cmks: ['cmk-1'], formerCmks: [] } }
  return { ...world, database: startProcess({ ...world, database: undefined as never }).source }
}

const IMMORTAL = killer(0, 'before', async () => undefined)

export function startProcess(
  { kms, clock, keyStore, database, configured }: World,
  kill: Killer = IMMORTAL,
  declarations: readonly ModelDeclaration[] = [PATIENTS, NOTES],
): Process {
  const fieldseal = createFieldseal({
    app: 'clinic',
    tenancy: 'multi',
    keyStore: killableStore(keyStore, kill),
    keys: async (tenant) => {
      const { cmks, formerCmks } = configured.of?.(tenant) ?? configured
      return { cmks: cmks.map((uri) => kms.cmk(uri)), formerCmks: formerCmks.map((uri) => kms.cmk(uri)) }
    },
    sharedKeys: { cmks: [kms.cmk('shared')] },
    clock,
    cache: { refreshAfterMs: 5, validForMs: 10, maxStaleMs: 20 },
  })
  const source = memoryRecordSource(fieldseal, declarations, database)
  const migrator = createMigrator({ fieldseal, sources: [killableSource(source, kill)] })
  const host = attach(fieldseal, { name: 'test', ormVersion: '0' })
  return { fieldseal, source, migrator, host, as: (tenant, fn) => fieldseal.runAs({ tenant }, fn) }
}

export interface Scenario {
  /** What is deployed after `setUp`. @defaultValue what was */
  readonly deployed?: readonly ModelDeclaration[]
  setUp(process: Process, world: World): Promise<void>
  /** The verb, as it is run first and again after each kill. */
  run(process: Process, world: World): Promise<unknown>
  /** What an application running alongside may expect after every durable step. */
  alongside?(reader: Process, world: World): Promise<void>
  /** What holds at the end, however often the verb was killed. */
  check(process: Process, world: World, result: unknown): Promise<void>
}

/**
 * Kills the verb at every durable step, before and after it, each time in a world of its own, and runs it again.
 * @returns how many steps it has
 */
export async function killedEverywhere(scenario: Scenario): Promise<number> {
  for (let at = 1; ; at++) {
    let steps = 0
    for (const when of ['before', 'after'] as const) {
      const world = createWorld()
      await scenario.setUp(startProcess(world), world)
      const { deployed } = scenario
      const reader = startProcess(world, undefined, deployed)
      const kill = killer(at, when, async () => scenario.alongside?.(reader, world))
      const first = await scenario.run(startProcess(world, kill, deployed), world).then(
        (result) => ({ result }),
        (error: unknown) => {
          if (!(error instanceof Killed) && kill.steps < at) throw error
          return undefined
        },
      )
      steps = kill.steps
      const process = startProcess(world, undefined, deployed)
      const result = first === undefined ? await scenario.run(process, world) : first.result
      await scenario.alongside?.(reader, world)
      await scenario.check(startProcess(world, undefined, deployed), world, result)
      if (first !== undefined) break
    }
    if (steps < at) {
      expect(at).toBeGreaterThan(1)
      return steps
    }
  }
}
