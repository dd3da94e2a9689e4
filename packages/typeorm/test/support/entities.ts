import {
  AfterLoad,
  ChildEntity,
  Column,
  DeleteDateColumn,
  Entity,
  JoinTable,
  ManyToMany,
  ManyToOne,
  OneToMany,
  PrimaryColumn,
  PrimaryGeneratedColumn,
  TableInheritance,
  UpdateDateColumn,
  VersionColumn,
} from 'typeorm'
import { EncryptedColumn } from '../../src/index.ts'

export class Contact {
  @EncryptedColumn({ nullable: true, blindIndex: true }) phone?: string | null
  @Column('varchar', { nullable: true }) city?: string | null
}

@Entity('people')
export class Person {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar', { nullable: true }) name?: string | null
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn({ nullable: true, blindIndex: true }) nick?: string | null
  @EncryptedColumn({ nullable: true }) ssn?: string | null
  @EncryptedColumn({ nullable: true, select: false }) secret?: string | null
  @EncryptedColumn({ type: 'json', nullable: true }) profile?: { a: number; b?: (number | { z: null })[] } | null
  @EncryptedColumn({ type: 'number', nullable: true, blindIndex: true }) salary?: number | null
  @EncryptedColumn({ type: 'boolean', nullable: true }) active?: boolean | null
  @EncryptedColumn({ type: 'bigint', nullable: true }) worth?: bigint | null
  @EncryptedColumn({ type: 'date', nullable: true }) seenAt?: Date | null
  @EncryptedColumn({ type: 'day', nullable: true }) born?: string | null
  @EncryptedColumn({ type: 'bytes', nullable: true, storage: 'binary' }) scan?: Uint8Array | null
  @EncryptedColumn({ nullable: true, encryptNull: true }) veiled?: string | null
  @Column(() => Contact) contact!: Contact
  @VersionColumn() version!: number
  @UpdateDateColumn() updatedAt!: Date
  @DeleteDateColumn() deletedAt?: Date | null
  @OneToMany(
    () => Visit,
    (visit) => visit.person,
    { cascade: true },
  )
  visits?: Visit[]
  @ManyToMany(() => Tag, { cascade: true }) @JoinTable() tags?: Tag[]

  loaded?: string | undefined
  @AfterLoad() remember() {
    Object.defineProperty(this, 'loaded', { value: this.email, configurable: true })
  }
}

@Entity('visits')
export class Visit {
  @PrimaryGeneratedColumn() id!: number
  @Column('int', { default: 1 }) room!: number
  @EncryptedColumn({ nullable: true }) note?: string | null
  @EncryptedColumn({ nullable: true, blindIndex: true }) code?: string | null
  @ManyToOne(
    () => Person,
    (person) => person.visits,
  )
  person?: Person
}

@Entity('tags')
export class Tag {
  @PrimaryGeneratedColumn('uuid') id!: string
  @EncryptedColumn({ blindIndex: true }) label!: string
}

@Entity('documents')
export class Document {
  @PrimaryColumn('int') year!: number
  @PrimaryColumn('varchar') number!: string
  @EncryptedColumn() title!: string
  @EncryptedColumn({ nullable: true }) body?: string | null
}

@Entity('animals')
@TableInheritance({ column: { type: 'varchar', name: 'kind' } })
export class Animal {
  @PrimaryGeneratedColumn('uuid') id!: string
  @EncryptedColumn({ blindIndex: true }) name!: string
}

@ChildEntity()
export class Dog extends Animal {
  @EncryptedColumn({ nullable: true, blindIndex: true }) trick?: string | null
}

@ChildEntity()
export class Cat extends Animal {
  @Column('int', { nullable: true }) lives?: number | null
}

@Entity('notices')
export class Notice {
  @PrimaryGeneratedColumn() id!: number
  @Column('varchar') email!: string
}

export const ENTITIES = [Person, Visit, Tag, Document, Animal, Dog, Cat, Notice]
