/**
 * What one read or write does, by what the process has of the key, what has become of its record, and what the KMS
 * answers: `<outcome> <attempts at the KMS>/<calls to the key store> <events>`.
 *
 * Outcomes: ok, or the code of the error: thr ERR_KMS_THROTTLED, net ERR_KMS_NETWORK, den ERR_KMS_ACCESS_DENIED, dis ERR_KMS_KEY_DISABLED,
 * pen ERR_KMS_KEY_PENDING_DELETION, des ERR_KMS_KEY_DESTROYED, int ERR_KMS_INTEGRITY_FAILED, chg ERR_KEY_CHANGED, nof ERR_KEY_NOT_FOUND,
 * inv ERR_KEY_RECORD_INVALID, ret ERR_KEY_RETIRED, era ERR_KEY_ERASED, cfg ERR_KMS_CONFIG, dec ERR_DECRYPT_FAILED.
 * Events: R key.revoked, S key.stale-served, C key.changed, B background.failed, N kek.created or direct-key.created.
 * Cache: none = a new process; fresh 1 s, due 60 s (served, and asked again in the background), stale 300 s, dead 900 s.
 */
export const TABLE = `
use   cache record       | ok         | slow       | throttled  | unreachable| denied     | disabled   | pending    | destroyed  | wrong-key
read  none  none         | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2
read  none  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
read  none  decrypt-only | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
read  none  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
read  none  edited       | inv 1/1    | inv 1/1    | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
read  fresh none         | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh active       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh decrypt-only | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh retired      | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh edited       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  due   none         | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | nof 1/2 BR | nof 1/2 BR | nof 1/2 BR | nof 1/2 BR | nof 1/2 BCR
read  due   active       | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | den 1/1 BR | dis 1/1 BR | pen 1/1 BR | des 1/1 BR | chg 1/1 BCR
read  due   decrypt-only | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | den 1/1 BR | dis 1/1 BR | pen 1/1 BR | des 1/1 BR | chg 1/1 BCR
read  due   retired      | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ret 1/1 BR | ret 1/1 BR | ret 1/1 BR | ret 1/1 BR | ret 1/1 BCR
read  due   edited       | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | den 1/1 BR | dis 1/1 BR | pen 1/1 BR | des 1/1 BR | chg 1/1 BCR
read  stale none         | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R  | nof 0/2 R
read  stale active       | ok 1/1     | ok 1/1     | ok 3/1 S   | ok 2/1 S   | den 1/1 R  | dis 1/1 R  | pen 1/1 R  | des 1/1 R  | chg 1/1 CR
read  stale decrypt-only | ok 1/1     | ok 1/1     | ok 3/1 S   | ok 2/1 S   | den 1/1 R  | dis 1/1 R  | pen 1/1 R  | des 1/1 R  | chg 1/1 CR
read  stale retired      | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R
read  stale edited       | inv 1/1 S  | inv 1/1 S  | inv 3/1 S  | inv 2/1 S  | den 1/1 R  | dis 1/1 R  | pen 1/1 R  | des 1/1 R  | chg 1/1 CR
read  dead  none         | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2
read  dead  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
read  dead  decrypt-only | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
read  dead  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
read  dead  edited       | inv 1/1    | inv 1/1    | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
write none  none         | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write none  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
write none  decrypt-only | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write none  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
write none  edited       | inv 1/1    | inv 1/1    | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
write fresh none         | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
write fresh active       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
write fresh decrypt-only | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
write fresh retired      | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
write fresh edited       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
write due   none         | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BCR
write due   active       | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BCR
write due   decrypt-only | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BCR
write due   retired      | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BCR
write due   edited       | ok 1/1     | ok 1/1     | ok 3/1 B   | ok 2/1 B   | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BR  | ok 1/1 BCR
write stale none         | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write stale active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1 R  | dis 1/1 R  | pen 1/1 R  | des 1/1 R  | chg 1/1 CR
write stale decrypt-only | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write stale retired      | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R  | ret 0/1 R
write stale edited       | inv 1/1    | inv 1/1    | thr 3/1    | net 2/1    | den 1/1 R  | dis 1/1 R  | pen 1/1 R  | des 1/1 R  | chg 1/1 CR
write dead  none         | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write dead  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
write dead  decrypt-only | ok 2/3 N   | ok 2/3 N   | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | int 2/1
write dead  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
write dead  edited       | inv 1/1    | inv 1/1    | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | inv 1/1
`

/** The same in mode `direct`. Dead = 300 s: nothing is stale, and a write asks the KMS whatever is cached. */
export const DIRECT_TABLE = `
use   cache record       | ok         | slow       | throttled  | unreachable| denied     | disabled   | pending    | destroyed  | wrong-key
read  none  none         | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2
read  none  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | dec 1/1
read  none  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
read  none  destroyed    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1
read  none  edited       | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1
read  fresh none         | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh active       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh retired      | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh destroyed    | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  fresh edited       | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0     | ok 0/0
read  due   none         | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1
read  due   active       | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1
read  due   retired      | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1
read  due   destroyed    | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1
read  due   edited       | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1     | ok 0/1
read  dead  none         | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2    | nof 0/2
read  dead  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | dec 1/1
read  dead  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
read  dead  destroyed    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1
read  dead  edited       | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1    | cfg 0/1
write none  none         | ok 1/3 N   | ok 1/3 N   | thr 3/3 N  | net 2/3 N  | den 1/3 N  | dis 1/3 N  | pen 1/3 N  | des 1/3 N  | ok 1/3 N
write none  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write none  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
write none  destroyed    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1
write none  edited       | ok 1/3 N   | ok 1/3 N   | thr 3/3 N  | net 2/3 N  | den 1/3 N  | dis 1/3 N  | pen 1/3 N  | des 1/3 N  | ok 1/3 N
write fresh none         | ok 1/0     | ok 1/0     | thr 3/0    | net 2/0    | den 1/0    | dis 1/0    | pen 1/0    | des 1/0    | ok 1/0
write fresh active       | ok 1/0     | ok 1/0     | thr 3/0    | net 2/0    | den 1/0    | dis 1/0    | pen 1/0    | des 1/0    | ok 1/0
write fresh retired      | ok 1/0     | ok 1/0     | thr 3/0    | net 2/0    | den 1/0    | dis 1/0    | pen 1/0    | des 1/0    | ok 1/0
write fresh destroyed    | ok 1/0     | ok 1/0     | thr 3/0    | net 2/0    | den 1/0    | dis 1/0    | pen 1/0    | des 1/0    | ok 1/0
write fresh edited       | ok 1/0     | ok 1/0     | thr 3/0    | net 2/0    | den 1/0    | dis 1/0    | pen 1/0    | des 1/0    | ok 1/0
write due   none         | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write due   active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write due   retired      | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write due   destroyed    | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write due   edited       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write dead  none         | ok 1/3 N   | ok 1/3 N   | thr 3/3 N  | net 2/3 N  | den 1/3 N  | dis 1/3 N  | pen 1/3 N  | des 1/3 N  | ok 1/3 N
write dead  active       | ok 1/1     | ok 1/1     | thr 3/1    | net 2/1    | den 1/1    | dis 1/1    | pen 1/1    | des 1/1    | ok 1/1
write dead  retired      | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1    | ret 0/1
write dead  destroyed    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1    | era 0/1
write dead  edited       | ok 1/3 N   | ok 1/3 N   | thr 3/3 N  | net 2/3 N  | den 1/3 N  | dis 1/3 N  | pen 1/3 N  | des 1/3 N  | ok 1/3 N
`
