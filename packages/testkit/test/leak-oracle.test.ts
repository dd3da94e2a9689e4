import { createServer, connect, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { expect, it } from 'vitest'
import { leakOracle } from '../src/index.ts'

const SECRET = 'Ada Lovelace "ß"'

it.each([
  ['text', (s: string) => Buffer.from(s)],
  ['json', (s: string) => Buffer.from(JSON.stringify({ s }))],
  ['hex', (s: string) => Buffer.from(Buffer.from(s).toString('hex').toUpperCase())],
  ['utf-16le', (s: string) => Buffer.from(s, 'utf16le')],
  ['utf-16be', (s: string) => Buffer.from(s, 'utf16le').swap16()],
  ['byte list', (s: string) => Buffer.from(JSON.stringify(Buffer.from(s)))],
  ['base64', (s: string) => Buffer.from(Buffer.from(`x${s}end`).toString('base64'))],
])('finds a canary as %s', async (form, encode) => {
  await using oracle = leakOracle()
  oracle.canary(SECRET)
  oracle.observe(encode(SECRET), 'here')
  expect((await oracle.hits()).map((hit) => hit.form)).toContain(form)
})

it('finds base64url at every alignment', async () => {
  for (const before of ['', 'a', 'ab', 'abc']) {
    await using oracle = leakOracle()
    oracle.canary('>>>???>>>???')
    oracle.observe(Buffer.from(`${before}>>>???>>>???z`).toString('base64url'), 'here')
    expect(await oracle.hits()).not.toEqual([])
  }
})

it('sees socket writes, split over chunks and corked', async () => {
  await using oracle = leakOracle()
  oracle.canary('splitted-canary')
  const server = createServer((socket) => socket.resume()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.cork()
  socket.write('split')
  socket.write(Buffer.from('ted-canary'))
  socket.uncork()
  socket.end()
  await once(socket, 'close')
  server.close()
  expect(await oracle.hits()).toEqual([{ canary: 'splitted-canary', form: 'text', where: 'socket' }])
})

it('sees stdout and stderr, and nothing after it was disposed', async () => {
  const oracle = leakOracle()
  oracle.canary('printed-canary')
  process.stderr.write('printed-canary\n')
  await oracle[Symbol.asyncDispose]()
  process.stdout.write('printed-canary\n')
  // Where stderr is a pipe its bytes also go through a socket.
  const places = (await oracle.hits()).map(({ where }) => where)
  expect(places).toContain('stderr')
  expect(places).not.toContain('stdout')
})

it('finds nothing where nothing is', async () => {
  await using oracle = leakOracle()
  oracle.canary(SECRET)
  oracle.observe('Charles Babbage', 'here')
  expect(await oracle.hits()).toEqual([])
})

it('sees only what it is shown where it has no taps', async () => {
  await using oracle = leakOracle({ taps: 'none' })
  oracle.canary('printed-canary')
  process.stderr.write('printed-canary\n')
  expect(await oracle.hits()).toEqual([])
  oracle.observe('printed-canary', 'here')
  expect(await oracle.hits()).toHaveLength(1)
})
