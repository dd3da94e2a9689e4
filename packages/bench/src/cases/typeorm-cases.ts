import { randomUUID } from 'node:crypto'
import { EncryptedColumn, typeormKeyStore, withFieldseal } from '@fieldseal/typeorm'
import { Column, DataSource, Entity, PrimaryColumn } from 'typeorm'
import { benchFieldseal } from '../clinic.ts'
import type { BenchGroup } from '../harness.ts'
import { typeormEncryptedTransformer } from '../peers.ts'
import { rawRows } from '../raw-crypto.ts'

const SECRETS = ['a', 'b', 'c', 'd', 'e'] as const
const FOUND = 1_000
const INSERTED = 100

/** Ten columns: key, four plain ones and five that are encrypted in one of the tables. */
abstract class Plain {
  @PrimaryColumn('uuid') id!: string
  @Column('integer') n1!: number
  @Column('integer') n2!: number
  @Column('varchar') t1!: string
  @Column('varchar') t2!: string
}

@Entity('bench_plain')
class PlainRow extends Plain {
  @Column('text') a!: string
  @Column('text') b!: string
  @Column('text') c!: string
  @Column('text') d!: string
  @Column('text') e!: string
}

@Entity('bench_transport')
class TransportRow extends Plain {
  @Column('text') a!: string
  @Column('text') b!: string
  @Column('text') c!: string
  @Column('text') d!: string
  @Column('text') e!: string
}

@Entity('bench_fieldseal')
class SealedRow extends Plain {
  @EncryptedColumn() a!: string
  @EncryptedColumn() b!: string
  @EncryptedColumn() c!: string
  @EncryptedColumn() d!: string
  @EncryptedColumn() e!: string
}

const peer = typeormEncryptedTransformer()

@Entity('bench_peer')
class PeerRow extends Plain {
  @Column('text', { transformer: peer }) a!: string
  @Column('text', { transformer: peer }) b!: string
  @Column('text', { transformer: peer }) c!: string
  @Column('text', { transformer: peer }) d!: string
  @Column('text', { transformer: peer }) e!: string
}

type AnyRow = PlainRow | TransportRow | SealedRow | PeerRow
type RowClass = typeof PlainRow | typeof TransportRow | typeof SealedRow | typeof PeerRow

export interface TypeormBench {
  readonly groups: readonly BenchGroup[]
  close(): Promise<void>
}

/**
 * TypeORM on PostgreSQL: plain text; transport only (as many characters as our ciphertext, no cryptography); the floor, which is
 * transport plus the same number of raw node:crypto calls; and Fieldseal.
 */
export async function typeormBench(url: string): Promise<TypeormBench> {
  const dataSource = new DataSource({
    type: 'postgres',
    url,
    entities: [PlainRow, TransportRow, SealedRow, PeerRow],
    synchronize: true,
    poolSize: 4,
  })
  const fieldseal = benchFieldseal(typeormKeyStore(dataSource.options))
  await withFieldseal(dataSource, { fieldseal }).initialize()
  const repositories = {
    plain: dataSource.getRepository<AnyRow>(PlainRow as RowClass),
    transport: dataSource.getRepository<AnyRow>(TransportRow as RowClass),
    sealed: dataSource.getRepository<AnyRow>(SealedRow as RowClass),
    peer: dataSource.getRepository<AnyRow>(PeerRow as RowClass),
  }
  const value = 'x'.repeat(32)
  const carried = 'y'.repeat(195) // what 32 bytes become: fs. + base64url of 144 bytes
  const rowsOf = (count: number, secret: string) =>
    Array.from({ length: count }, (_unused, i) => ({
      id: randomUUID(),
      n1: i,
      n2: i * 2,
      t1: `first ${i}`,
      t2: `second ${i}`,
      ...Object.fromEntries(SECRETS.map((name) => [name, secret])),
    }))
  for (const [name, repository] of Object.entries(repositories)) {
    await repository.insert(rowsOf(FOUND, name === 'transport' ? carried : value))
  }
  const crypto = rawRows(value, SECRETS.length)
  const gate = async () => {
    const rows = await repositories.sealed.find({ take: 3 })
    if (rows.length !== 3 || rows.some((row) => row.a !== value || row.e !== value))
      throw new Error('find gave other values')
    const [stored]: { readonly a: string }[] = await dataSource.query('SELECT a FROM bench_fieldseal LIMIT 1')
    if (stored?.a.length !== carried.length)
      throw new Error(`transport carries ${carried.length} characters, ciphertext has ${stored?.a.length}`)
  }
  const loaded = {
    plain: await repositories.plain.find(),
    transport: await repositories.transport.find(),
    sealed: await repositories.sealed.find(),
    peer: await repositories.peer.find(),
  }
  const ids = {
    plain: loaded.plain[0]?.id ?? '',
    transport: loaded.transport[0]?.id ?? '',
    sealed: loaded.sealed[0]?.id ?? '',
    peer: loaded.peer[0]?.id ?? '',
  }

  function group(
    name: string,
    unit: string,
    unitsPerRun: number,
    run: (which: keyof typeof repositories) => Promise<unknown>,
    cryptography: () => void,
    goal?: number,
  ): BenchGroup {
    return {
      name,
      unit,
      unitsPerRun,
      gate,
      floor: 'floor: transport + raw crypto',
      ...(goal === undefined ? {} : { goals: { fieldseal: goal } }),
      cases: [
        { name: 'plain', run: () => run('plain') },
        { name: 'transport only', run: () => run('transport') },
        {
          name: 'floor: transport + raw crypto',
          async run() {
            await run('transport')
            cryptography()
          },
        },
        { name: 'fieldseal', run: () => run('sealed') },
        { name: 'typeorm-encrypted 0.8.0 (gcm)', run: () => run('peer') },
      ],
    }
  }

  return {
    groups: [
      group(
        'TypeORM find 1,000',
        'row',
        FOUND,
        (which) => repositories[which].find(),
        () => crypto.open(FOUND),
        1.3,
      ),
      group(
        'TypeORM findOneBy(id)',
        'call',
        1,
        (which) => repositories[which].findOneBy({ id: ids[which] }),
        () => crypto.open(1),
      ),
      group(
        'TypeORM insert 100',
        'row',
        INSERTED,
        (which) => repositories[which].insert(rowsOf(INSERTED, which === 'transport' ? carried : value)),
        () => crypto.seal(INSERTED),
        1.3,
      ),
      // Loaded rows are read again by TypeORM to be compared, so the floor opens them too.
      group(
        'TypeORM save 1,000 unchanged',
        'row',
        FOUND,
        (which) => repositories[which].save(loaded[which]),
        () => crypto.open(FOUND),
        1.3,
      ),
    ],
    async close() {
      await fieldseal.close()
      await dataSource.destroy()
    },
  }
}
