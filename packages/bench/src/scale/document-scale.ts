import { newMongoDatabase } from '@fieldseal/servers'
import type { TenantKeys } from '@fieldseal/core'
import mongoose, { type Connection } from 'mongoose'
import { openDocumentClinic } from './document-clinic.ts'
import { FIELDS, patient, TENANT } from './patient.ts'
import { envelopeHead } from './sealed-rows.ts'

const BATCH = 1_000
const COLLECTION = 'patients'

/** Fills a new database with so many documents of one tenant. @returns its uri */
export async function fillDocuments(
  serverUri: string,
  { keys, rows }: { readonly keys: TenantKeys; readonly rows: number },
  onProgress: (text: string) => void,
): Promise<string> {
  const { uri } = newMongoDatabase(serverUri)
  const { fieldseal, Patient, close } = await openDocumentClinic(uri, keys)
  for (let from = 0; from < rows; from += BATCH) {
    onProgress(`filling: ${from} of ${rows} documents`)
    const documents = Array.from({ length: Math.min(BATCH, rows - from) }, (_unused, i) => ({
      clinicId: TENANT,
      ...patient(from + i),
    }))
    await fieldseal.runAs({ tenant: TENANT }, () => Patient.insertMany(documents, { lean: true }))
  }
  await close()
  return uri
}

/** Copies documents and keys to a new database, without indexes. @returns its uri */
export async function copyDocuments(serverUri: string, filledUri: string): Promise<string> {
  const copy = newMongoDatabase(serverUri)
  await connected(filledUri, async ({ db }) => {
    for (const { name } of (await db?.listCollections().toArray()) ?? [])
      await db
        ?.collection(name)
        .aggregate([{ $out: { db: copy.name, coll: name } }])
        .toArray()
  })
  return copy.uri
}

export async function dropDocuments(uri: string): Promise<void> {
  await connected(uri, (connection) => connection.dropDatabase())
}

/** @throws Error unless every field of every document stands under this KEK */
export async function assertDocumentsUnder(kekId: string, uri: string, rows: number): Promise<void> {
  const head = envelopeHead(kekId)
  let sealed = 0
  await connected(uri, async (connection) => {
    for await (const document of connection.collection(COLLECTION).find({}, { promoteBuffers: true }))
      if (FIELDS.every((field) => startsWith(document[field], head))) sealed++
  })
  if (sealed !== rows) throw new Error(`${sealed} documents stand under ${kekId}: ${rows} were expected`)
}

function startsWith(value: unknown, head: Buffer): boolean {
  return value instanceof Uint8Array && Buffer.from(value).subarray(0, head.length).equals(head)
}

async function connected<R>(uri: string, action: (connection: Connection) => Promise<R>): Promise<R> {
  const connection = await mongoose.createConnection(uri).asPromise()
  try {
    return await action(connection)
  } finally {
    await connection.close()
  }
}
