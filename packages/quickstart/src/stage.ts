import type { Fieldseal, TenantKeys } from '@fieldseal/core'

/** Shortened for the demo, so that a revocation can be waited for: the defaults are minutes. */
export const CACHE = { refreshAfterMs: 300, validForMs: 1_000, maxStaleMs: 2_000, callDeadlineMs: 500 }

/** A patient of one of several clinics, as the application knows it. */
export interface Patient {
  readonly id: string
  readonly clinicId: string
  readonly ward: string
  readonly email: string
  readonly name: string
  readonly born: string
  readonly diagnosis: string | null
}

/** An application of the story: an ORM, its database, and what somebody with access to that database sees. */
export interface Stage {
  readonly fieldseal: Fieldseal<'multi'>
  /** What a query by e-mail looks like in the application's code. */
  readonly queryByEmail: (email: string) => string
  save(patient: Omit<Patient, 'id'>): Promise<Patient>
  /** All patients of a clinic, by ward. */
  readAll(clinicId: string): Promise<Patient[]>
  findByEmail(email: string): Promise<Patient | null>
  /** The rows as the database stores them, by clinic and ward, encrypted values as text. */
  storedRows(): Promise<Record<string, string>[]>
  /** Something of each row, by id, that changes whenever it is written. */
  rowVersions(): Promise<ReadonlyMap<string, string>>
  /** What somebody with access to the database can do. */
  swapNames(one: string, other: string): Promise<void>
  /** All bytes that went between the application and the database. */
  traffic(): Buffer
  close(): Promise<void>
}

/** The CMKs of the story. `clinic-a-new` is the one to which clinic A moves. */
export type CmkName = 'clinic-a' | 'clinic-a-new' | 'clinic-b'

/** The customers' side: where their CMKs lie, and what their administrators do with them. */
export interface KeyDesk {
  cmk(name: CmkName): TenantKeys['cmks'][number]
  disable(name: CmkName): Promise<void>
  close(): Promise<void>
}

/** What the registry says of each clinic; the story changes it, as an administrator would. */
export function openRegistry({ cmk }: KeyDesk): Map<string, TenantKeys> {
  return new Map([
    ['clinic-a', { cmks: [cmk('clinic-a')] }],
    ['clinic-b', { cmks: [cmk('clinic-b')] }],
  ])
}
