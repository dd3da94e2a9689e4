/** An error with a code of the MongoDB protocol. */
export class CommandError extends Error {
  readonly code: number
  readonly codeName: string

  constructor(code: keyof typeof CODE_NAMES, message: string) {
    super(message)
    this.name = 'CommandError'
    this.code = code
    this.codeName = CODE_NAMES[code]
  }
}

export const DUPLICATE_KEY = 11000
export const WRITE_CONFLICT = 112
export const NO_SUCH_TRANSACTION = 251

/** The codes that clients are known to look at. */
const CODE_NAMES = {
  1: 'InternalError',
  2: 'BadValue',
  9: 'FailedToParse',
  13: 'Unauthorized',
  14: 'TypeMismatch',
  15: 'Overflow',
  16: 'InvalidLength',
  20: 'IllegalOperation',
  24: 'LockTimeout',
  26: 'NamespaceNotFound',
  27: 'IndexNotFound',
  28: 'PathNotViable',
  40: 'ConflictingUpdateOperators',
  43: 'CursorNotFound',
  48: 'NamespaceExists',
  50: 'MaxTimeMSExpired',
  52: 'DollarPrefixedFieldName',
  54: 'NotSingleValueField',
  56: 'EmptyFieldName',
  57: 'DottedFieldName',
  59: 'CommandNotFound',
  66: 'ImmutableField',
  67: 'CannotCreateIndex',
  68: 'IndexAlreadyExists',
  72: 'InvalidOptions',
  73: 'InvalidNamespace',
  85: 'IndexOptionsConflict',
  86: 'IndexKeySpecsConflict',
  111: 'NotExactValueField',
  112: 'WriteConflict',
  115: 'CommandNotSupported',
  121: 'DocumentValidationFailure',
  146: 'ExceededMemoryLimit',
  166: 'CommandNotSupportedOnView',
  197: 'InvalidIndexSpecificationOption',
  224: 'QueryFeatureNotAllowed',
  225: 'TransactionTooOld',
  241: 'ConversionFailure',
  251: 'NoSuchTransaction',
  256: 'TransactionCommitted',
  263: 'OperationNotSupportedInTransaction',
  276: 'IndexBuildAborted',
  8000: 'EngineError',
  10334: 'BSONObjectTooLarge',
  11000: 'DuplicateKey',
  31249: 'Location31249',
  31250: 'Location31250',
  31253: 'Location31253',
  31254: 'Location31254',
  40324: 'Location40324',
} as const

/** The engine numbers its errors in its own order, in base 36 behind an M: `M001C` is 11000. */
const BY_SQLSTATE: Readonly<Record<string, keyof typeof CODE_NAMES>> = {
  M0000: 1,
  M0001: 2,
  M0003: 9,
  M0004: 14,
  M0005: 15,
  M0006: 20,
  M0008: 26,
  M0009: 27,
  M000A: 28,
  M000D: 40,
  M000E: 43,
  M000F: 48,
  M000G: 52,
  M000I: 54,
  M000J: 56,
  M000K: 57,
  M000M: 66,
  M000N: 67,
  M000O: 68,
  M000P: 72,
  M000Q: 73,
  M000R: 85,
  M000S: 86,
  M000T: 111,
  M000U: 115,
  M000W: 146,
  M000Z: 166,
  M0012: 197,
  M0013: 224,
  M0015: 241,
  M0016: 263,
  M0017: 276,
  M001B: 10334,
  M001C: 11000,
  M0056: 31249,
  M0057: 31250,
  M0058: 31253,
  M0059: 31254,
  M007U: 40324,
  M00CO: 121,
  M00DO: 16,
  M00ER: 13,
  M00EW: 24,
  M00EX: 50,
  M00EY: 59,
  M00F1: 112,
  M00F6: 251,
  // PostgreSQL's own
  '23505': 11000,
  '23P01': 11000,
  '40001': 112,
  '40P01': 112,
  '55P03': 24,
  '57014': 50,
}

export interface TranslatedError {
  readonly code: number
  readonly codeName: string
}

/** @param sqlstate of an error of the engine, or of PostgreSQL below it */
export function translate(sqlstate: string): TranslatedError {
  const code = BY_SQLSTATE[sqlstate] ?? 8000
  return { code, codeName: code === 8000 ? `SQLSTATE ${sqlstate}` : CODE_NAMES[code] }
}

/** The SQLSTATE that `writeErrors` hold as one number: five characters, six bits each. */
export function unpackSqlstate(packed: number): string {
  return Array.from({ length: 5 }, (_, i) => String.fromCharCode(((packed >>> (6 * i)) & 0x3f) + 48)).join('')
}
