import 'reflect-metadata'
import { createFieldseal, isFieldsealError } from '@fieldseal/core'
import { awsKms } from '@fieldseal/kms-aws'
import { startAwsKms, type AwsKmsEmulator } from '@fieldseal/kms-emulators'
import { fieldsealPlugin } from '@fieldseal/mongoose'
import { hasMongo, hasPostgres, useDatabase, useMongoDatabase } from '@fieldseal/servers/vitest'
import { memoryKeyStore } from '@fieldseal/testkit'
import { EncryptedColumn, EncryptedModel, withFieldseal } from '@fieldseal/typeorm'
import mongoose, { Schema } from 'mongoose'
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

@Entity('records')
@EncryptedModel({ tenantBy: 'clinic', mode: 'direct' })
class Record {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar') clinic!: string
  @EncryptedColumn() note!: string
  @EncryptedColumn({ blindIndex: true }) code!: string
}

const recordSchema = () =>
  new Schema(
    {
      clinic: { type: String, required: true },
      note: { type: String, encrypted: true },
      code: { type: String, encrypted: { blindIndex: true } },
    },
    { collection: 'records', encrypted: { tenantBy: 'clinic', mode: 'direct' } },
  )

/** What an application does with its records, whichever ORM it uses. */
interface Application {
  readonly fieldseal: ReturnType<typeof createFieldseal<'multi'>>
  save(clinic: string, note: string, code: string): Promise<string>
  notes(clinic: string): Promise<string[]>
  noteOf(code: string): Promise<string | undefined>
  close(): Promise<void>
}

const asClinic = <R>({ fieldseal }: Application, run: () => Promise<R>) => fieldseal.runAs({ tenant: 'c7' }, run)

describe('mode direct on the emulator of AWS KMS', () => {
  let aws: AwsKmsEmulator
  beforeAll(async () => {
    aws = await startAwsKms()
  })
  afterAll(() => aws.stop())

  function fieldsealWith(arn: string) {
    const kms = awsKms({ endpoint: aws.endpoint, credentials: aws.credentials() })
    return createFieldseal({
      app: 'direct',
      tenancy: 'multi',
      keyStore: memoryKeyStore(),
      keys: async (tenant) => (tenant === 'c7' ? { cmks: [kms.cmk(arn)] } : null),
    })
  }
  const logged = (operation: string) =>
    aws.calls.filter((call) => call.operation === operation && call.context?.['purpose'] === 'direct')

  async function story(
    open: (fieldseal: Application['fieldseal']) => Promise<Application>,
    id: (id: string) => string,
  ) {
    const arn = aws.createKey()
    const application = await open(fieldsealWith(arn))
    try {
      aws.forgetCalls()
      const [first, second] = await asClinic(application, async () => [
        await application.save('c7', 'first note', 'A1'),
        await application.save('c7', 'second note', 'B2'),
      ])
      application.fieldseal.purge('c7')
      aws.forgetCalls()
      expect(await asClinic(application, () => application.notes('c7'))).toEqual(['first note', 'second note'])
      // The first read of each row is a line in the customer's log, with tenant, model and row.
      expect(logged('Decrypt').map(({ context }) => context)).toEqual(
        expect.arrayContaining(
          [first, second].map((row) =>
            expect.objectContaining({ tenant: 'c7', model: 'records', row: id(String(row)), purpose: 'direct' }),
          ),
        ),
      )
      expect(logged('Decrypt')).toHaveLength(2)
      aws.forgetCalls()
      await asClinic(application, () => application.notes('c7'))
      expect(logged('Decrypt')).toEqual([])
      expect(await asClinic(application, () => application.noteOf('B2'))).toBe('second note')

      aws.disable(arn)
      application.fieldseal.purge('c7')
      const refused = await asClinic(application, () => application.notes('c7')).catch((error: unknown) => error)
      expect(isFieldsealError(refused) && refused.code).toBe('ERR_KMS_KEY_DISABLED')
    } finally {
      await application.close()
    }
  }

  describe.runIf(hasPostgres())('with TypeORM', () => {
    const database = useDatabase()

    it('the first read of a row is a line in the log of its key, the next one is not', () =>
      story(
        async (fieldseal) => {
          const dataSource = new DataSource({
            type: 'postgres',
            url: database.url,
            entities: [Record],
            synchronize: true,
            uuidExtension: 'pgcrypto',
          })
          await withFieldseal(dataSource, { fieldseal }).initialize()
          const records = dataSource.getRepository(Record)
          return {
            fieldseal,
            save: async (clinic, note, code) => (await records.save(records.create({ clinic, note, code }))).id,
            notes: async (clinic) => (await records.findBy({ clinic })).map(({ note }) => note).sort(),
            noteOf: async (code) => (await records.findOneBy({ code }))?.note,
            async close() {
              await fieldseal.close()
              await dataSource.destroy()
            },
          }
        },
        (id) => `uuid:${id}`,
      ))
  })

  describe.runIf(hasMongo())('with Mongoose', () => {
    const database = useMongoDatabase()

    it('the first read of a document is a line in the log of its key, the next one is not', () =>
      story(
        async (fieldseal) => {
          const own = new mongoose.Mongoose()
          const schema = recordSchema()
          schema.plugin(fieldsealPlugin, { fieldseal })
          const RecordModel = own.model('Record', schema)
          await own.connect(database.uri, { monitorCommands: true })
          return {
            fieldseal,
            save: async (clinic, note, code) => (await RecordModel.create({ clinic, note, code })).id,
            notes: async (clinic) => (await RecordModel.find({ clinic })).map(({ note }) => note ?? '').sort(),
            noteOf: async (code) => (await RecordModel.findOne({ code }))?.note ?? undefined,
            async close() {
              await fieldseal.close()
              await own.disconnect()
            },
          }
        },
        (id) => `oid:${id}`,
      ))
  })
})
