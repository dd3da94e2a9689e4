import type { KekId } from '../context/record-id.ts'
import { type FieldsealError, isFieldsealError } from '../errors/fieldseal-error.ts'
import type { AccessAuditEntry, Audit } from '../observe/audit.ts'
import type { Row } from './ports.ts'
import { rowIdText } from './row-id.ts'

/** What the audit trail hears of values and rows. */
export interface CellAudit {
  /** Whether every opened value is to be told of. */
  readonly opened: ((row: Row<unknown>, column: number, kekId: KekId) => void) | undefined
  /** A stored value that was not given out. */
  failed(row: Row<unknown>, column: number, error: FieldsealError, kekId: KekId | undefined): void
  /** An operation that a key or a tenant's border refused as a whole. */
  refused(operation: AccessAuditEntry['operation'], error: unknown): void
}

/** @returns an audit of nothing where there is no sink */
export function createCellAudit(audit: Audit | undefined): CellAudit {
  if (audit === undefined) return { opened: undefined, failed: () => undefined, refused: () => undefined }

  function note(
    row: Row<unknown>,
    column: number,
    outcome: AccessAuditEntry['outcome'],
    kekId: KekId | undefined,
  ): void {
    const { map, facts, cells } = row
    audit?.note({
      type: 'access',
      operation: 'decrypt',
      tenant: facts.tenant,
      model: map.id,
      field: cells[column]?.field.id ?? '',
      ...(facts.rowId === undefined ? {} : { row: rowIdText(facts.rowId) }),
      ...(kekId === undefined ? {} : { kekId }),
      outcome,
    })
  }

  return {
    opened: audit.decrypts ? (row, column, kekId) => note(row, column, 'ok', kekId) : undefined,
    failed(row, column, error, kekId) {
      if (audit.decrypts || isDenial(error)) note(row, column, error.code, kekId)
    },
    refused(operation, error) {
      if (!isFieldsealError(error) || !isDenial(error)) return
      if (operation === 'decrypt' && error.code !== 'ERR_TENANT_MISMATCH') return // told of with its cell
      const { tenant = '', model, field, kekId } = error.details
      audit.note({
        type: 'access',
        operation,
        tenant,
        ...(model === undefined ? {} : { model }),
        ...(field === undefined ? {} : { field }),
        ...(kekId === undefined ? {} : { kekId }),
        outcome: error.code,
      })
    },
  }
}

/** Denials by a customer, a tenant's border, an erasure or a failed authentication: always recorded. */
function isDenial({ kind, code }: FieldsealError): boolean {
  return kind === 'denied' || kind === 'erased' || kind === 'corrupt' || code === 'ERR_TENANT_MISMATCH'
}
