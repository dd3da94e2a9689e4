/** Writes patients as an application would: `node seed.ts TENANT COUNT`. Prints the id of the first. */
import { dataSource, fieldseal, PatientSchema } from './fieldseal.config.ts'

const [tenant = 'clinic-7', count = '10'] = process.argv.slice(2)
await dataSource.initialize()
const patients = dataSource.getRepository(PatientSchema)
const saved = await fieldseal.runAs({ tenant }, () =>
  patients.save(
    Array.from({ length: Number(count) }, (_, i) => ({ clinicId: tenant, email: `p${i}@x.org`, ssn: `123-45-${i}` })),
  ),
)
process.stdout.write(`${saved[0]?.id}\n`)
await fieldseal.close()
await dataSource.destroy()
