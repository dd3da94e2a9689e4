import type { Field, PatchedCell, RowPatch } from '@fieldseal/core/adapter'
import type { RowVersion } from './row-key.ts'

/** A value as it travels to the database. */
export type Form = string | Buffer | null

/** One column. A form that is undefined leaves it alone. */
export type Place = FieldPlace | TokenPlace

interface Column {
  /** Quoted name. */
  readonly name: string
  readonly type: 'text' | 'bytea'
  /** SQL of a form that travelled, in the type of the column. @defaultValue the form itself */
  readonly cast?: (form: string) => string
}

/** A column that cells of a field are written to. */
export interface FieldPlace extends Column {
  readonly field: Field
  /** What must stand there. */
  readonly before: (cell: PatchedCell) => Form | undefined
  /** What shall stand there. */
  readonly after: (cell: PatchedCell) => Form | undefined
  /** What stood there when a page read the row, as the driver gave it. */
  readonly read: (version: RowVersion) => unknown
}

/** A column of tokens, which nobody compares: they go with the values that they are made of. */
export interface TokenPlace extends Column {
  /** What shall stand there. */
  readonly token: (patch: RowPatch<PatchedCell>) => Form | undefined
}

/** What must stand in one place and what shall, row by row. */
export interface Forms {
  readonly place: Place
  readonly before: readonly (Form | undefined)[]
  readonly after: readonly (Form | undefined)[]
}

export function formsOf(places: readonly Place[], patches: readonly RowPatch<PatchedCell>[]): readonly Forms[] {
  return places.map((place) => {
    if ('token' in place) return { place, before: patches.map(() => undefined), after: patches.map(place.token) }
    const cells = patches.map((patch) => patch.cells.find(({ field }) => field === place.field))
    return {
      place,
      before: cells.map((cell) => cell && place.before(cell)),
      after: cells.map((cell) => cell && place.after(cell)),
    }
  })
}

/** Whether what must stand in the places of a row is what stood there in a version of it. */
export function isAsRead(forms: readonly Forms[], row: number, version: RowVersion): boolean {
  return forms.every(({ place, before }) => {
    const form = before[row]
    return form === undefined || 'token' in place || isSame(form, place.read(version))
  })
}

function isSame(form: Form, read: unknown): boolean {
  if (form instanceof Uint8Array) return read instanceof Uint8Array && form.equals(read)
  return form === (read ?? null)
}
