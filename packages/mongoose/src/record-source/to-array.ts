import type { Doc } from '../bson/documents.ts'

/** All that a cursor gives; while a connection opens, Mongoose gives a promise of one. */
export async function toArray(made: unknown): Promise<Doc[]> {
  return ((await made) as { toArray(): Promise<Doc[]> }).toArray()
}
