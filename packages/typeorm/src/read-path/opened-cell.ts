import { inspect } from 'node:util'

/** A decrypted value in a raw row, on its way to the entity. The only thing that an encrypted column hydrates from. */
export class OpenedCell {
  readonly #value: unknown
  readonly #plain: boolean

  /** @param plain it was stored unencrypted: tokens beside it say nothing */
  constructor(value: unknown, plain = false) {
    this.#value = value
    this.#plain = plain
  }

  static isOpened(cell: unknown): cell is OpenedCell {
    return typeof cell === 'object' && cell !== null && #value in cell
  }

  static valueOf(cell: OpenedCell): unknown {
    return cell.#value
  }

  static isPlain(cell: unknown): boolean {
    return OpenedCell.isOpened(cell) && cell.#plain
  }

  toJSON(): string {
    return '[opened]'
  }

  [inspect.custom](): string {
    return '[opened]'
  }
}
