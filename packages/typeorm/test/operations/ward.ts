import { once } from 'node:events'
import type { Readable } from 'node:stream'
import {
  BaseEntity,
  Column,
  DeleteDateColumn,
  Entity,
  ManyToOne,
  OneToMany,
  PrimaryGeneratedColumn,
  type Repository,
  Tree,
  TreeChildren,
  TreeParent,
} from 'typeorm'
import { EncryptedColumn } from '../../src/index.ts'

@Entity('patients')
export class Patient extends BaseEntity {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar', { nullable: true }) name?: string | null
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn({ nullable: true }) ssn?: string | null
  @EncryptedColumn({ type: 'number', nullable: true, blindIndex: true }) age?: number | null
  @DeleteDateColumn() deletedAt?: Date | null
  @OneToMany(
    () => Stay,
    (stay) => stay.patient,
    { cascade: true },
  )
  stays?: Stay[]
}

@Entity('stays')
export class Stay {
  @PrimaryGeneratedColumn() id!: number
  @EncryptedColumn({ nullable: true, blindIndex: true }) room?: string | null
  @ManyToOne(
    () => Patient,
    (patient) => patient.stays,
    { onDelete: 'CASCADE' },
  )
  patient?: Patient | null
}

@Entity('departments')
@Tree('closure-table')
export class Department {
  @PrimaryGeneratedColumn() id!: number
  @EncryptedColumn({ blindIndex: true }) head!: string
  @TreeChildren() children?: Department[]
  @TreeParent() parent?: Department | null
}

/** Not encrypted. */
@Entity('notices')
export class Notice {
  @PrimaryGeneratedColumn() id!: number
  @Column('varchar') text!: string
}

export const ENTITIES = [Patient, Stay, Department, Notice]

/** What stands in the database before each operation, and what operations write. No text outside holds any of them. */
export const STORED = { email: 'stored-mail@example.org', ssn: 'stored-ssn-6610', age: 61_507, room: 'stored-room-12' }
export const WRITTEN = {
  email: 'written-mail@example.org',
  ssn: 'written-ssn-0917',
  age: 30_911,
  room: 'written-room-7',
}

/** Names of the public methods of a class. */
export type MethodsOf<C> = keyof {
  [K in keyof C as C[K] extends ((...args: never[]) => unknown) | undefined ? K : never]: true
} &
  string

/** Reaches rows as a repository does: the repository, the entity manager, or the entity class itself. */
export type Door = Pick<Repository<Patient>, MethodsOf<Repository<Patient>>>

/** Rows of a stream: that of pg itself hands them on by events. */
export async function rowsOf(stream: Readable): Promise<unknown[]> {
  const rows: unknown[] = []
  stream.on('row', (row: unknown) => rows.push(row))
  await once(stream, 'end')
  return rows
}
