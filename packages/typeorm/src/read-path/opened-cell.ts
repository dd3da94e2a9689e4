import { inspect } from 'node:util'

/** A decrypted value in a raw row, on its way to the entity. The only thing that an encrypted column hydrates from. */
export class OpenedCell {
  readonly #value: unknown

  constructor(value: unknown) {
    this.#value = value
  }

  static isOpened(cell: unknown): cell is OpenedCell {
    return typeof cell === 'object' && cell !== null && #value in cell
  }

  static valueOf(cell: OpenedCell): unknown {
    return cell.#value
  }

  toJSON(): string {
    return '[opened]'
  }

  [inspect.custom](): string {
    return '[opened]'
  }
}
