import { expect, it } from 'vitest'
import { turnsOnSection } from '../../src/keys/debug-sections.ts'

it('reads a variable as Node reads NODE_DEBUG', () => {
  for (const sections of ['stream', 'http,STREAM', '*', 'str*', 'net,*eam']) {
    expect(turnsOnSection(sections, 'stream'), sections).toBe(true)
  }
  for (const sections of [undefined, '', 'http', 'streams', 's.ream', 'str', '(stream|x)', 'strea[m]']) {
    expect(turnsOnSection(sections, 'stream'), sections).toBe(false)
  }
})
