import { KEK_AT, SALT_BYTES, WRAPPED_HEADER_BYTES } from '../envelope/layout.ts'
import { createWrapFrame, kekHeader, type RowPlace, type WrapFrame } from '../field/dek-wrap.ts'
import type { LiveKek } from '../keyring/live-kek.ts'

/** Frames of the wraps of one batch: rows that share KEK, salt, flags and place share key and AAD up to the row id. */
export interface WrapFrames {
  /** For a wrap found in an envelope. */
  toOpen(kek: LiveKek, envelope: Buffer, place: RowPlace): WrapFrame
  /** For a new wrap; counts towards the salt's limit. */
  toSeal(kek: LiveKek, rowBound: boolean, place: RowPlace): WrapFrame
}

export function createWrapFrames(): WrapFrames {
  const frames = new Map<string, WrapFrame>()
  // Rows of a batch follow each other under the same frame: mostly it is that of the row before.
  let opened: LastFrame<{ readonly envelope: Buffer }> | undefined
  let sealed: LastFrame<{ readonly salt: Uint8Array; readonly rowBound: boolean }> | undefined

  function frameFor(kek: LiveKek, header: Buffer, salt: Uint8Array, place: RowPlace): WrapFrame {
    const { tenant, keyspace, model } = place
    const name = `${header.toString('latin1')}${Buffer.from(salt).toString('latin1')}${tenant}\0${keyspace}\0${model}`
    let frame = frames.get(name)
    if (frame === undefined) frames.set(name, (frame = createWrapFrame(kek.wrapKey(salt), header, salt, place)))
    return frame
  }

  return {
    toOpen(kek, envelope, place) {
      if (opened?.kek === kek && isSame(opened.place, place) && sharesFrame(opened.envelope, envelope))
        return opened.frame
      const header = envelope.subarray(0, WRAPPED_HEADER_BYTES)
      const frame = frameFor(kek, header, envelope.subarray(KEK_AT.salt, KEK_AT.salt + SALT_BYTES), place)
      opened = { kek, envelope, place, frame }
      return frame
    },
    toSeal(kek, rowBound, place) {
      const { salt } = kek.nextWrap()
      if (sealed?.kek === kek && sealed.salt === salt && sealed.rowBound === rowBound && isSame(sealed.place, place))
        return sealed.frame
      const frame = frameFor(kek, kekHeader(kek.idBytes, rowBound), salt, place)
      sealed = { kek, salt, rowBound, place, frame }
      return frame
    },
  }
}

type LastFrame<Of> = Of & { readonly kek: LiveKek; readonly place: RowPlace; readonly frame: WrapFrame }

function isSame(a: RowPlace, b: RowPlace): boolean {
  return a === b || (a.tenant === b.tenant && a.keyspace === b.keyspace && a.model === b.model)
}

function sharesFrame(a: Buffer, b: Buffer): boolean {
  const saltEnd = KEK_AT.salt + SALT_BYTES
  return (
    a.compare(b, 0, WRAPPED_HEADER_BYTES, 0, WRAPPED_HEADER_BYTES) === 0 &&
    a.compare(b, KEK_AT.salt, saltEnd, KEK_AT.salt, saltEnd) === 0
  )
}
