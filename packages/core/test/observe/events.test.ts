import { expect, it } from 'vitest'
import { createEventBus } from '../../src/observe/events.ts'

const EVENT = { tenant: 'a', kekId: '00' } as const

it('tells every listener of a name, in order, and no other', () => {
  const bus = createEventBus()
  const heard: string[] = []
  bus.on('key.changed', () => heard.push('one'))
  bus.on('key.changed', ({ tenant }) => heard.push(tenant))
  bus.on('key.restored', () => heard.push('other'))
  bus.emit('key.changed', EVENT)
  expect(heard).toEqual(['one', 'a'])
})

it('ends listening by the function it returned, for that listener alone', () => {
  const bus = createEventBus()
  const heard: string[] = []
  const off = bus.on('key.changed', () => heard.push('one'))
  bus.on('key.changed', () => heard.push('two'))
  off()
  off()
  bus.emit('key.changed', EVENT)
  expect(heard).toEqual(['two'])
})

it('goes on when a listener throws or ends its own listening', () => {
  const bus = createEventBus()
  const heard: string[] = []
  bus.on('key.changed', () => {
    throw new Error('a listener never changes the outcome of the operation it hears of')
  })
  const off = bus.on('key.changed', () => off())
  bus.on('key.changed', () => heard.push('last'))
  bus.emit('key.changed', EVENT)
  expect(heard).toEqual(['last'])
})
