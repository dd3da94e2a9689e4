// "kms-local" of docs/spec/envelope-v1.md.
import { contextBytes } from './names.mjs'
import { fromBase64url, isHexId, openGcm, refuse } from './primitives.mjs'

const INVALID = 'ERR_KMS_CIPHERTEXT_OR_CONTEXT_INVALID'
const STATES = ['enabled', 'disabled', 'pending-deletion', 'destroyed']

export function readKeyFile(text) {
  const file = JSON.parse(text)
  if (file.format !== 'fieldseal-local-key' || file.version !== 1 || !isHexId(file.id)) malformed('not a key file')
  for (const [name, cmk] of Object.entries(file.cmks)) checkCmk(name, cmk)
  return file
}

function checkCmk(name, { state, deletesAt, versions }) {
  if (!/^[a-z0-9][a-z0-9_.-]{0,63}$/.test(name) || !STATES.includes(state)) malformed(name)
  if ((state === 'pending-deletion') !== Number.isSafeInteger(deletesAt)) malformed('deletesAt')
  if ((state === 'destroyed') !== (versions.length === 0)) malformed('versions')
  let before = 0
  for (const { version, key, createdAt } of versions) {
    const isCount = Number.isSafeInteger(version) && version > before && version < 2 ** 32
    if (!isCount || fromBase64url(key).length !== 32 || typeof createdAt !== 'number') malformed('a version')
    before = version
  }
}

function malformed(what) {
  refuse('ERR_KMS_CONFIG', what)
}

export function uriOf(keyFile, name) {
  return `local:${keyFile.id}/${name}`
}

export function localAad(uri, version, context) {
  return contextBytes({ ...context, 'local.uri': uri, 'local.version': String(version) })
}

/** `anyState`: also by a CMK that is not enabled, for a look at what is stored. */
export function unwrapLocalBlob(keyFile, uri, blob, context, { anyState = false, now = Date.now() } = {}) {
  const prefix = uriOf(keyFile, '')
  const name = uri.slice(prefix.length)
  if (!uri.startsWith(prefix) || !Object.hasOwn(keyFile.cmks, name)) refuse('ERR_KMS_KEY_NOT_FOUND', uri)
  const cmk = keyFile.cmks[name]
  if (!anyState) checkState(cmk, now)
  if (blob.length !== 65 || blob[0] !== 1) refuse(INVALID, 'not a blob of kms-local')
  const version = blob.readUInt32BE(1)
  const found = cmk.versions.find((one) => one.version === version)
  if (found === undefined) refuse(INVALID, `no version ${version} of ${uri}`)
  const aad = localAad(uri, version, context)
  return openGcm(fromBase64url(found.key), blob.subarray(5, 17), aad, blob.subarray(17), INVALID)
}

function checkState({ state, deletesAt }, now) {
  if (state === 'disabled') refuse('ERR_KMS_KEY_DISABLED', state)
  if (state === 'destroyed' || deletesAt <= now) refuse('ERR_KMS_KEY_DESTROYED', state)
  if (state === 'pending-deletion') refuse('ERR_KMS_KEY_PENDING_DELETION', state)
}
