import type { Field, PatchedCell } from '@fieldseal/core/adapter'
import type { RowVersion } from './row-key.ts'

/** A value as it travels to the database. */
export type Form = string | Buffer | null

/** One column that cells of a field are written to. A form that is undefined leaves it alone. */
export interface Place {
  readonly field: Field
  /** Quoted name. */
  readonly name: string
  readonly type: 'text' | 'bytea'
  /** SQL of what is stored there, in the form that travels. @defaultValue the column itself */
  readonly stored?: string
  /** SQL of a form that travelled, in the type of the column. @defaultValue the form itself */
  readonly cast?: (form: string) => string
  /** What must stand there. */
  readonly before: (cell: PatchedCell) => Form | undefined
  /** What shall stand there. */
  readonly after: (cell: PatchedCell) => Form | undefined
  /** What stood there when a page read the row, as the driver gave it. */
  readonly read: (version: RowVersion) => unknown
}

/** What must stand in one place and what shall, row by row. */
export interface Forms {
  readonly place: Place
  readonly before: readonly (Form | undefined)[]
  readonly after: readonly (Form | undefined)[]
}

/** @param rows the cells of each row */
export function formsOf(places: readonly Place[], rows: readonly (readonly PatchedCell[])[]): readonly Forms[] {
  return places.map((place) => {
    const cells = rows.map((row) => row.find(({ field }) => field === place.field))
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
    return form === undefined || isSame(form, place.read(version))
  })
}

function isSame(form: Form, read: unknown): boolean {
  if (form instanceof Uint8Array) return read instanceof Uint8Array && form.equals(read)
  return form === (read ?? null)
}
