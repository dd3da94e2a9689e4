import { EncryptedColumn, EncryptedModel } from '@fieldseal/typeorm'
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm'

/** A patient of one of several clinics in one table. What identifies a person is encrypted; the rest is a plain column. */
@Entity('patients')
@EncryptedModel({ tenantBy: 'clinicId' })
export class PatientEntity {
  @PrimaryGeneratedColumn('uuid') id!: string
  @Column('varchar', { name: 'clinic_id' }) clinicId!: string
  @Column('varchar') ward!: string
  @EncryptedColumn({ blindIndex: { normalize: 'email', unique: true } }) email!: string
  @EncryptedColumn() name!: string
  @EncryptedColumn({ type: 'day' }) born!: string
  @EncryptedColumn({ nullable: true }) diagnosis!: string | null
}
